"""The page's files, read once, and the version that their content has."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

STATIC = Path(__file__).parent / "static"

# Named here, because a system may know .js as text/plain, and a browser loads no module of that type.
_MIMETYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A file, plain and compressed."""

    content: bytes
    mimetype: str

    @cached_property
    def gzipped(self) -> bytes:
        """The content as ``Content-Encoding: gzip`` sends it."""
        return gzip.compress(self.content, mtime=0)


def find_asset(name: str) -> Asset | None:
    """A file by its path below :data:`STATIC`."""
    return _assets().get(name)


def modules() -> list[str]:
    """The names of all scripts, for the page to load at once rather than one after the other."""
    return [name for name in _assets() if name.endswith(".js")]


@cache
def version() -> str:
    """A word that changes whenever any file does."""
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
