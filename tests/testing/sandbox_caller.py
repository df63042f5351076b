"""A caller of the sandbox that hides nothing of what is on the wire."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

KEY = "sk_test_123"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


class Caller:
    """Speaks plain HTTP over one connection that it keeps."""

    def __init__(self, url: str, secret_key: str | None = KEY) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        self.secret_key = secret_key

    def post(
        self, path: str, params: Mapping[str, object] | None = None, *, key: str | None = None, **headers: str
    ) -> Answer:
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.send("POST", path, urlencode(params or {}), **headers)

    def get(self, path: str, params: Mapping[str, object] | None = None, **headers: str) -> Answer:
        return self.send("GET", path + ("?" + urlencode(params) if params else ""), None, **headers)

    def send(self, method: str, path: str, body: str | bytes | None, **headers: str) -> Answer:
        given = {name.replace("_", "-").title(): value for name, value in headers.items()}
        given.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if self.secret_key is not None:
            given.setdefault("Authorization", f"Bearer {self.secret_key}")
        self.connection.request(method, path, body, given)
        response = self.connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())

    def close(self) -> None:
        self.connection.close()
