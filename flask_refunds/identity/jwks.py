"""Fetch and cache an identity provider's public keys (RFC 7517)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import jwt

from ..clock import Deadline
from ..errors import IdentityProviderUnavailable
from ..http_pool import HTTPPool, IncompleteResponse

FRESH_SECONDS = 300.0
"""How long fetched keys are used before they are fetched again."""

STALE_SECONDS = 3600.0
"""How long known keys are used while the provider can't be reached."""

UNKNOWN_KEY_SECONDS = 30.0
"""The minimum time between fetches for unknown keys: any caller can send a token with a random key ID."""

RETRY_SECONDS = 5.0
"""How long after a failed fetch no other one is tried."""

FETCH_SECONDS = 3.0


class KeySet:
    """The keys of one JWKS endpoint.

    :param url: the endpoint's URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = HTTPPool(url)
        self._lock = threading.Lock()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._failed_at = float("-inf")

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key with this ID, or ``None``.

        :raises IdentityProviderUnavailable: 500; the keys can't be fetched, and no recent ones are known.
        """
        known, age = self._keys.get(key_id), self._age()
        if known is not None and age <= FRESH_SECONDS:
            return known
        # A fetch in another thread delays no token, unless there are no keys at all: any caller can send a
        # token with a random key ID.
        if not self._lock.acquire(blocking=age > STALE_SECONDS):
            return known
        try:
            age = self._age()
            if age > (FRESH_SECONDS if key_id in self._keys else UNKNOWN_KEY_SECONDS):
                self._refresh(age)
            return self._keys.get(key_id)
        finally:
            self._lock.release()

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _refresh(self, age: float) -> None:
        """Fetch the keys. If that fails, the known keys stay in use until they are too old."""
        try:
            self._keys = self._fetch()
            self._fetched_at = time.monotonic()
        except IdentityProviderUnavailable:
            if age > STALE_SECONDS:
                raise

    def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        if time.monotonic() - self._failed_at < RETRY_SECONDS:
            raise IdentityProviderUnavailable
        try:
            body, status, _ = self._pool.request(Deadline.after(FETCH_SECONDS), "GET", self._url)
            return _signing_keys(body, status)
        except (IncompleteResponse, ValueError, LookupError, TypeError, RecursionError) as error:
            self._failed_at = time.monotonic()
            raise IdentityProviderUnavailable from error


def _signing_keys(body: bytes, status: int) -> Mapping[str, jwt.PyJWK]:
    """Return the keys for signatures that have an ID, by that ID.

    :raises ValueError, LookupError, TypeError: the response isn't a key set, or has no such key.
    """
    if status != 200:
        raise ValueError(f"status {status}")
    keys = filter(None, map(_read_key, json.loads(body)["keys"]))
    found = {key.key_id: key for key in keys if key.key_id and key.public_key_use in ("sig", None)}
    if not found:
        raise ValueError("no signing keys")
    return found


def _read_key(published: Any) -> jwt.PyJWK | None:
    """Return a key, or ``None`` for a kind that PyJWT doesn't support."""
    try:
        return jwt.PyJWK.from_dict(published)
    except Exception:
        return None
