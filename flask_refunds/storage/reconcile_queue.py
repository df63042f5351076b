"""What reconcile has to work on: unfinished records of the ledger, and those that need review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..models import Refund, RefundStatus
from .connection import REPORT_SECONDS, Collection, database_timeout
from .refund_documents import NEEDS_REVIEW, NOT_DUPLICATE, UNSETTLED, read_records


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A record that needs further work, and when a pass last looked at it."""

    refund_id: str
    looked_at: datetime
    is_settled: bool


class ReconcileQueue:
    """Finds the records of one app's ledger that need further work.

    :param collection: the ledger, with majority read and write concern, journaled.
    :param clock: returns the aware UTC time in whole milliseconds, as MongoDB stores it.
    """

    def __init__(self, collection: Collection, clock: Callable[[], datetime]) -> None:
        self._records = collection
        self._clock = clock

    def mark_purchases_unverified(self, since: datetime) -> int:
        """Make reconcile verify the purchases of every settled refund that has changed, or that a pass has
        looked at since then. A pass may have written the purchases of a refund that settled before.

        :return: how many refunds.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        with database_timeout(None):
            result = self._records.update_many(
                {
                    "settledAt": {"$ne": None},
                    "$or": [{"updatedAt": {"$gte": since}}, {"lookedAt": {"$gte": since}}],
                },
                {"$set": {"purchasesVerified": False}},
            )
        return int(result.matched_count)

    def find_unfinished(
        self, *, before: datetime, looked_before: datetime, limit: int, unsent: bool = True
    ) -> list[Unfinished]:
        """Return records that need further work: unknown outcomes first, then those that wait for Stripe, and
        within these by the last look at them.

        So every record is reached before one is reached again, whatever a receiver does or where a pass ends.

        :param before: records that changed later are left to the calls that changed them.
        :param looked_before: records that were looked at later are left to the pass that did.
        :param unsent: whether records with unsent signals count as unfinished.
        :raises DatabaseUnavailable: 500.
        """
        reasons: list[dict[str, Any]] = [
            {"status": RefundStatus.PROCESSING.value},
            {"status": {"$in": UNSETTLED[1:]}},
            {"purchasesVerified": False},
        ]
        if unsent:
            reasons.insert(2, {"signalsSent": False})
        times = {"lookedAt": {"$lte": looked_before}, "updatedAt": {"$lte": before}}
        found: dict[str, Unfinished] = {}
        with database_timeout(REPORT_SECONDS):
            # One query for each reason, because each has its own index (see indexes.py).
            for reason in reasons:
                query = {**reason, **NOT_DUPLICATE, **times}
                records = self._records.find(query, {"lookedAt": 1, "status": 1}).sort("lookedAt", 1)
                for each in records.limit(limit):
                    is_settled = each.get("status") not in UNSETTLED
                    found.setdefault(each["_id"], Unfinished(each["_id"], each["lookedAt"], is_settled))
                if len(found) >= limit:
                    break
        return list(found.values())[:limit]

    def look_at(self, unfinished: Unfinished, *, after: datetime) -> bool:
        """Store that a pass looks at a record now, unless another pass did.

        :param after: the stored time is later than this, so that the pass doesn't find the record again.
        :raises DatabaseUnavailable: 500.
        """
        query = {"_id": unfinished.refund_id, "lookedAt": unfinished.looked_at}
        looked_at = max(self._clock(), after + timedelta(milliseconds=1))
        with database_timeout():
            result = self._records.update_one(query, {"$set": {"lookedAt": looked_at}})
        return bool(result.modified_count)

    def find_needing_review(self, limit: int = 100) -> list[Refund]:
        """Return the refunds with an open review, the longest open first.

        :param limit: the maximum number; :meth:`count_reviews` counts all.
        :raises DatabaseUnavailable: 500.
        """
        with database_timeout(REPORT_SECONDS):
            documents = list(self._records.find(NEEDS_REVIEW).sort("review.since", 1).limit(limit))
        return list(read_records(documents))

    def count_reviews(self) -> Counter[str]:
        """Return the number of open reviews by code.

        :raises DatabaseUnavailable: 500.
        """
        stages: list[Any] = [
            {"$match": NEEDS_REVIEW},
            {"$group": {"_id": "$review.code", "count": {"$sum": 1}}},
        ]
        with database_timeout(REPORT_SECONDS):
            return Counter({str(each["_id"]): each["count"] for each in self._records.aggregate(stages)})
