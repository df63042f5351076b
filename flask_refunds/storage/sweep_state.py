"""Where the sweep of Stripe's refunds stands: one document for each account, shared by all machines."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from .connection import Collection, database_timeout

LEASE = timedelta(minutes=5)
"""How long a machine holds the sweep without finishing a page, before another may take over."""

_ID = "refunds"


@dataclass(frozen=True, slots=True)
class SweepPosition:
    """What was read so far. Times of refunds are Stripe's own ``created``.

    :param token: identifies the machine that holds the sweep.
    :param newest: every refund created up to then has been read; ``None`` before the first full sweep.
    :param full_completed_at: when the last full sweep ended, or ``None``.
    :param full_since: the lower bound of an unfinished full sweep, or ``None``.
    :param full_newest: the newest refund when that sweep started; used until ``newest`` is known.
    :param full_after: the last refund that it has read.
    :param failed: the IDs at Stripe of refunds that were read and couldn't be stored.
    """

    token: str
    newest: datetime | None
    full_completed_at: datetime | None
    full_since: datetime | None
    full_newest: datetime | None
    full_after: str | None
    failed: Sequence[str]


class SweepState:
    """Stores the position, and lets one machine at a time move it.

    :param collection: with majority read and write concern, journaled.
    :param clock: returns the aware UTC time.
    :param account: the connected account that is swept; ``None`` for the key's own.
    """

    def __init__(
        self, collection: Collection, clock: Callable[[], datetime], account: str | None = None
    ) -> None:
        self._collection = collection
        self._clock = clock
        self.account = account
        self._id = _ID if account is None else f"{_ID}:{account}"

    def of(self, account: str | None) -> SweepState:
        """Return the state of another account's sweep."""
        return SweepState(self._collection, self._clock, account)

    def acquire(self) -> SweepPosition | None:
        """Return the position, or ``None`` while another machine holds the sweep.

        :raises DatabaseUnavailable: 500.
        """
        token, now = secrets.token_hex(16), self._clock()
        try:
            with database_timeout():
                found: Any = self._collection.find_one_and_update(
                    {"_id": self._id, "leaseExpiresAt": {"$not": {"$gt": now}}},
                    {
                        "$set": {"leaseToken": token, "leaseExpiresAt": now + LEASE},
                        "$setOnInsert": {"startedAt": now},
                    },
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
        except DuplicateKeyError:
            return None
        return _read(found)

    def save(self, position: SweepPosition, **changes: Any) -> bool:
        """Store changes of the position, and hold the sweep for another lease.

        :return: whether this machine still holds it.
        :raises DatabaseUnavailable: 500.
        """
        return self._update(position, {**changes, "leaseExpiresAt": self._clock() + LEASE})

    def release(self, position: SweepPosition) -> None:
        """Let other machines sweep immediately.

        :raises DatabaseUnavailable: 500; they must wait until the lease expires.
        """
        self._update(position, {"leaseExpiresAt": self._clock()})

    def find_last_full(self) -> datetime | None:
        """Return when the last full sweep ended, else when the first sweep began, or ``None`` before that.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            found = self._collection.find_one({"_id": self._id}) or {}
        return found.get("fullCompletedAt") or found.get("startedAt")

    def _update(self, position: SweepPosition, changes: dict[str, Any]) -> bool:
        with database_timeout():
            result = self._collection.update_one(
                {"_id": self._id, "leaseToken": position.token}, {"$set": changes}
            )
        return bool(result.matched_count)


def _read(document: dict[str, Any]) -> SweepPosition:
    return SweepPosition(
        token=document["leaseToken"],
        newest=document.get("newest"),
        full_completed_at=document.get("fullCompletedAt"),
        full_since=document.get("fullSince"),
        full_newest=document.get("fullNewest"),
        full_after=document.get("fullAfter"),
        failed=document.get("failed", []),
    )
