"""Bulk runs for a host's own code, inside its app's context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bson import ObjectId

from .errors import InvalidRequest
from .extension import current_refunds
from .models import Reason, RefundRequest, find_object_id
from .schemas.inputs import parse_note, parse_reason
from .storage.purchase_ids import PurchaseIds

if TYPE_CHECKING:
    from .bulk import BulkPlan, BulkResult, BulkSummary


def plan_bulk_refund(
    name: str,
    purchase_ids: Iterable[ObjectId | str],
    *,
    rate: float | None = None,
    amounts: bool = True,
) -> BulkPlan:
    """What :func:`bulk_refund` would do with these purchases; it refunds nothing.

    :param name: the run's name: 1 to 64 of A-Z, a-z, 0-9, ``._-``, a letter or digit first.
    :param purchase_ids: ObjectIds, or their 24 hex digits.
    :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
    :param amounts: whether Stripe is asked, payment by payment, how much would go back.
    :raises InvalidRequest: 400; the name is none, or an id.
    :raises StripeUnavailable: 503.
    :raises StripeRateLimited: 503.
    :raises StripeKeyRejected: 500.
    :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
    """
    return current_refunds().bulk.plan(name, read_ids(purchase_ids), rate=rate, amounts=amounts)


def bulk_refund(
    name: str,
    purchase_ids: Iterable[ObjectId | str],
    *,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    rate: float | None = None,
    on_result: Callable[[BulkResult], None] = lambda result: None,
    stop_event: threading.Event | None = None,
) -> BulkSummary:
    """Refund many purchases in full, each at most once, and return when all have their result.

    What is done stands in the ledger: after a crash, or an error, the same call goes on. It may run several
    times at once, anywhere; together they keep the rate.

    :param name: the run's name, under which the ledger finds its refunds; see :func:`plan_bulk_refund`.
    :param purchase_ids: ObjectIds, or their 24 hex digits.
    :param requested_by: who asks, for the ledger.
    :param reason: ``requested_by_customer``, ``duplicate`` or ``fraudulent``, for all of them.
    :param note: for the ledger; at most 500 characters.
    :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
    :param on_result: called in this thread with each purchase's result, in any order.
    :param stop_event: set it from anywhere to begin no further refund; the summary's ``unprocessed`` were not
        reached.
    :raises InvalidRequest: 400; nothing was refunded.
    :raises StripeUnavailable: 503; Stripe has not answered for long.
    :raises StripeKeyRejected: 500.
    :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
    """
    from .bulk import BulkSummary

    chosen = read_ids(purchase_ids)
    request = RefundRequest(requested_by, "app", parse_reason(reason), parse_note(note), bulk_run=name)
    summary = BulkSummary(name, len(chosen))
    for result in current_refunds().bulk.run(chosen, request, rate=rate, stop_event=stop_event):
        summary.add(result)
        on_result(result)
    return summary


def read_ids(purchase_ids: Iterable[ObjectId | str]) -> PurchaseIds:
    """Purchases' ids, each once.

    :raises InvalidRequest: 400; one is none.
    """
    return PurchaseIds(map(_read_id, purchase_ids))


def _read_id(given: ObjectId | str) -> ObjectId:
    if isinstance(given, ObjectId):
        return given
    found = find_object_id(given) if isinstance(given, str) else None
    if found is None:
        raise InvalidRequest(f"{str(given)[:40]!r} is no purchase's id. Nothing was refunded.")
    return found
