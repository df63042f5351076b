"""Web origins (RFC 6454): the scheme, host and port of a page."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AUTHORITY = r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
_HOST = re.compile(_AUTHORITY, re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(f"(https?)://{_AUTHORITY}", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin. Two are the same if they are equal."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    def has_host(self, text: str) -> bool:
        """Return whether a request's host is this host and port.

        Without a port, it has the default port of this scheme: browsers leave that out, and the scheme that
        the server sees may be its proxy's.
        """
        found = _HOST.fullmatch(text)
        return found is not None and _make_origin(self.scheme, *found.groups()) == self


def parse_origin(text: object) -> Origin | None:
    """Return the origin that an ``Origin`` header or a setting names.

    :return: ``None`` for anything else, such as ``null``, several origins, or a URL with a path or user name.
    """
    found = _ORIGIN.fullmatch(text) if isinstance(text, str) else None
    return found and _make_origin(*found.groups())


def _make_origin(scheme: str, host: str, port: str | None) -> Origin:
    scheme = scheme.lower()
    return Origin(scheme, host.lower(), int(port) if port else _DEFAULT_PORTS[scheme])
