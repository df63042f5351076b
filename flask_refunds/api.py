"""Bulk runs for your app's own code. Call these in an app context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .extension import current_refunds
from .models import Reason, RefundRequest
from .schemas.inputs import parse_note, parse_reason, require_many
from .storage.purchase_ids import PurchaseIds
from .storage.stored_ids import encodable_id

if TYPE_CHECKING:
    from .bulk import BulkPlan, BulkResult, BulkSummary


def plan_bulk_refund(
    name: str, purchase_ids: Iterable[Any], *, rate: float | None = None, amounts: bool = True
) -> BulkPlan:
    """Return what :func:`bulk_refund` would do with these purchases. Nothing is refunded.

    :param name: the run's name: 1 to 64 of A-Z, a-z, 0-9, ``._-``, starting with a letter or digit.
    :param purchase_ids: the values of their ``_id``. Text is only the ID of a purchase whose ``_id`` is text.
    :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
    :param amounts: whether to ask Stripe, for each payment, how much would be refunded.
    :raises InvalidRequest: 400; the name or an ID is invalid.
    :raises StripeUnavailable: 503.
    :raises StripeRateLimited: 503.
    :raises StripeKeyRejected: 500.
    :raises DatabaseUnavailable: 500; MongoDB was unavailable for a minute.
    """
    return current_refunds().bulk.plan(name, read_ids(purchase_ids), rate=rate, amounts=amounts)


def bulk_refund(
    name: str,
    purchase_ids: Iterable[Any],
    *,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    rate: float | None = None,
    on_result: Callable[[BulkResult], None] = lambda result: None,
    stop_event: threading.Event | None = None,
) -> BulkSummary:
    """Refund many purchases in full, each at most once, and return when all have a result.

    The ledger holds what is done: after a crash or an error, make the same call again to continue. It can run
    several times at once, on any machine; together the runs keep the rate.

    :param name: the run's name, stored with each refund; see :func:`plan_bulk_refund`.
    :param purchase_ids: the values of their ``_id``. Text is only the ID of a purchase whose ``_id`` is text.
    :param requested_by: who requests the refunds, for the ledger.
    :param reason: ``requested_by_customer``, ``duplicate`` or ``fraudulent``, for all of them.
    :param note: a note for the ledger; at most 500 characters.
    :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
    :param on_result: called in this thread with the result of each purchase, in any order.
    :param stop_event: set it in any thread to start no further refunds. The summary's ``unprocessed`` counts
        the purchases without a result.
    :raises InvalidRequest: 400; nothing was refunded.
    :raises StripeUnavailable: 503; Stripe didn't answer for some time.
    :raises StripeKeyRejected: 500.
    :raises DatabaseUnavailable: 500; MongoDB was unavailable for a minute.
    """
    from .bulk import BulkSummary

    ids = read_ids(purchase_ids)
    request = RefundRequest(requested_by, "app", parse_reason(reason), parse_note(note), bulk_run=name)
    summary = BulkSummary(name, len(ids))
    for result in current_refunds().bulk.run(ids, request, rate=rate, stop_event=stop_event):
        summary.add(result)
        on_result(result)
    return summary


def read_ids(purchase_ids: Iterable[Any]) -> PurchaseIds:
    """Return the purchases' IDs, without duplicates.

    :raises InvalidRequest: 400; it is a single ID, or one of them is a document or a decimal.
    """
    database = current_refunds().database
    return PurchaseIds(encodable_id(each, database) for each in require_many(purchase_ids))
