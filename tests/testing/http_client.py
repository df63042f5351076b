"""An HTTP client for the sandbox that returns raw responses."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

SECRET_KEY = "sk_test_123"


@dataclass(frozen=True)
class HttpResponse:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.raw)
        return content

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


class HttpClient:
    """Sends requests over one persistent connection."""

    def __init__(self, url: str, secret_key: str | None = SECRET_KEY) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        self.secret_key = secret_key

    def post(
        self, path: str, params: Mapping[str, object] | None = None, *, key: str | None = None, **headers: str
    ) -> HttpResponse:
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.send("POST", path, urlencode(params or {}), **headers)

    def get(self, path: str, params: Mapping[str, object] | None = None, **headers: str) -> HttpResponse:
        return self.send("GET", path + ("?" + urlencode(params) if params else ""), None, **headers)

    def send(self, method: str, path: str, body: str | bytes | None, **headers: str) -> HttpResponse:
        sent = {name.replace("_", "-").title(): value for name, value in headers.items()}
        sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if self.secret_key is not None:
            sent.setdefault("Authorization", f"Bearer {self.secret_key}")
        self.connection.request(method, path, body, sent)
        response = self.connection.getresponse()
        return HttpResponse(response.status, dict(response.getheaders()), response.read())

    def close(self) -> None:
        self.connection.close()
