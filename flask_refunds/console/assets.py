"""The static files of the admin page, read once, and a version of their content."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).parent / "static"

# Not from the mimetypes module: a system may map .js to text/plain, which browsers reject for modules.
_MIMETYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """A static file, plain and compressed."""

    content: bytes
    mimetype: str

    @cached_property
    def gzipped(self) -> bytes:
        """The content for ``Content-Encoding: gzip``."""
        return gzip.compress(self.content, mtime=0)


def find_asset(name: str) -> Asset | None:
    """Return the file with this path below :data:`STATIC`, or None."""
    return _assets().get(name)


def script_names() -> list[str]:
    """Return the names of all scripts, so that the page can preload them in parallel."""
    return [name for name in _assets() if name.endswith(".js")]


@cache
def content_version() -> str:
    """Return a hash of the names and content of all files."""
    digest = sha256()
    for name, asset in _assets().items():
        digest.update(f"{name}\0{len(asset.content)}\0".encode() + asset.content)
    return digest.hexdigest()[:12]


@cache
def _assets() -> Mapping[str, Asset]:
    return {
        path.relative_to(STATIC).as_posix(): Asset(path.read_bytes(), _MIMETYPES[path.suffix])
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _MIMETYPES
    }
