"""An identity provider's published keys (RFC 7517): fetched seldom, kept through its outages."""

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
"""How long keys are used without asking again."""

STALE_SECONDS = 3600.0
"""How long known keys still serve while the provider cannot be reached."""

UNKNOWN_KEY_SECONDS = 30.0
"""How long after a fetch an unknown key causes no other one: anybody can name a key that there is not."""

OUTAGE_SECONDS = 5.0
"""How long after a failed fetch the next one waits."""

FETCH_SECONDS = 3.0


class KeySet:
    """The keys that one endpoint publishes, by their ids.

    :param url: the endpoint.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = HTTPPool(url)
        self._lock = threading.Lock()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._failed_at = float("-inf")

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id, or ``None``.

        :raises IdentityProviderUnavailable: 500; no key is known, and none can be fetched.
        """
        known, age = self._keys.get(key_id), self._age()
        if known is not None and age <= FRESH_SECONDS:
            return known
        # A fetch under way, for this key or for one that nobody knows, must not hold up known keys.
        if not self._lock.acquire(blocking=known is None or age > STALE_SECONDS):
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
        """Fetch the keys anew; while that fails, those known may serve for a while."""
        try:
            self._keys = self._fetch()
            self._fetched_at = time.monotonic()
        except IdentityProviderUnavailable:
            if age > STALE_SECONDS:
                raise

    def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        if time.monotonic() - self._failed_at < OUTAGE_SECONDS:
            raise IdentityProviderUnavailable
        try:
            body, status, _ = self._pool.request(Deadline.after(FETCH_SECONDS), "GET", self._url)
            return _signing_keys(body, status)
        except (IncompleteResponse, ValueError, LookupError, TypeError, RecursionError) as error:
            self._failed_at = time.monotonic()
            raise IdentityProviderUnavailable from error


def _signing_keys(body: bytes, status: int) -> Mapping[str, jwt.PyJWK]:
    """The keys of a set that have an id and are not for encryption.

    :raises ValueError, LookupError, TypeError: it is not the provider's key set, whatever it is.
    """
    if status != 200:
        raise ValueError(f"status {status}")
    keys = filter(None, map(_read_key, json.loads(body)["keys"]))
    found = {key.key_id: key for key in keys if key.key_id and key.public_key_use in ("sig", None)}
    if not found:
        raise ValueError("no signing keys")
    return found


def _read_key(published: Any) -> jwt.PyJWK | None:
    """One key; ``None`` for one of a kind that PyJWT does not know, beside which others may serve."""
    try:
        return jwt.PyJWK.from_dict(published)
    except Exception:
        return None
