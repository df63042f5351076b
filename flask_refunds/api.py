"""Refunds for your app's own code. Call these in an app context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .core.preview import Preview
from .core.reconcile import ReconcileReport
from .core.results import RefundResult
from .errors import PurchaseNotFound, RefundNotFound
from .extension import current_refunds
from .models import Part, Reason, Refund, RefundRequest
from .schemas.inputs import parse_address, parse_note, parse_part, parse_reason, require_many
from .storage.purchase_ids import PurchaseIds
from .storage.stored_ids import encodable_id

if TYPE_CHECKING:
    from .bulk import BulkPlan, BulkResult, BulkSummary


def refund_purchase(
    purchase_id: Any,
    *,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    amount: int | None = None,
    refundable: int | None = None,
    number: int | None = None,
    mark_refunded: bool = False,
    instructions_email: str | None = None,
) -> RefundResult:
    """Refund a completed purchase, as ``POST /admin/refund/<purchaseId>`` does.

    A refund that is pending, or whose outcome is unknown, is returned too: see its ``status``. Make the same
    call again to continue it. It can't refund twice.

    :param purchase_id: the value of its ``_id``. Text is only the ID of a purchase whose ``_id`` is text.
    :param requested_by: who requests the refund, for the ledger.
    :param reason: ``requested_by_customer``, ``duplicate`` or ``fraudulent``.
    :param note: a note for the ledger; at most 500 characters.
    :param amount: a part of the payment, in minor units; by default, all that is left. Needs ``refundable``,
        and ``REFUNDS_ALLOW_PARTIAL``.
    :param refundable: what was left of the payment when the amount was decided. If it has changed, nothing is
        refunded.
    :param number: the number that the refund gets, which tells two equal parts apart.
    :param mark_refunded: whether the purchase becomes refunded with this part, because you keep the rest.
    :param instructions_email: the customer's e-mail address, which Stripe needs if the payment method has no
        way back; in place of the one in ``REFUNDS_STRIPE_OPTIONS``.
    :raises InvalidRequest: 400; nothing was refunded.
    :raises RefundsError: as ``POST /admin/refund/<purchaseId>`` answers; ``code`` tells which.
    """
    refunds = current_refunds()
    part = read_part(amount, refundable, number, mark_refunded)
    request = RefundRequest(
        requested_by,
        "app",
        parse_reason(reason),
        parse_note(note),
        part=part,
        instructions_email=parse_address(instructions_email),
    )
    return refunds.service.refund(encodable_id(purchase_id, refunds.database), request)


def preview_refund(purchase_id: Any) -> Preview:
    """Return what refunding a purchase would do: its payment as Stripe shows it now, and its refunds so far.

    :param purchase_id: as for :func:`refund_purchase`.
    :raises RefundsError: as ``GET /admin/refund/<purchaseId>`` answers; ``code`` tells which.
    """
    refunds = current_refunds()
    return refunds.previewer.preview(encodable_id(purchase_id, refunds.database))


def get_refund(refund_id: str) -> Refund:
    """Return a refund as the ledger stores it. Stripe isn't asked.

    :param refund_id: such as ``pi_…:1``.
    :raises RefundNotFound: 404.
    :raises DatabaseUnavailable: 500.
    """
    refund = current_refunds().ledger.find(refund_id)
    if refund is None:
        raise RefundNotFound
    return refund


def list_refunds(purchase_id: Any) -> Sequence[Refund]:
    """Return the refunds of a purchase's payment, oldest first, also those made in Stripe's Dashboard.

    :param purchase_id: as for :func:`refund_purchase`.
    :raises PurchaseNotFound: 404.
    :raises RecordUnreadable: 500; one of them has a form that this release doesn't know.
    :raises DatabaseUnavailable: 500.
    """
    refunds = current_refunds()
    purchase = refunds.purchases.find(encodable_id(purchase_id, refunds.database))
    if purchase is None:
        raise PurchaseNotFound
    return purchase.refunds


def reconcile(
    *,
    older_than: timedelta = timedelta(minutes=1),
    rate: float | None = None,
    full: bool = False,
    stop_event: threading.Event | None = None,
) -> ReconcileReport:
    """Finish unfinished refunds, and find what happened at Stripe, as ``flask refunds reconcile`` does once.

    :param older_than: refunds that changed more recently are left to the calls that changed them.
    :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
    :param full: list all of the last 60 days' refunds at Stripe, not only new ones.
    :param stop_event: set it in any thread to start nothing more.
    :raises DatabaseUnavailable: 500.
    """
    runner = current_refunds().reconcile_runner
    return runner.run(older_than=older_than, rate=rate, full=full, stop_event=stop_event)


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


def read_part(
    amount: int | None, refundable: int | None, number: int | None, mark_refunded: bool
) -> Part | None:
    """Return the part that a call names, or ``None`` for all that is left of a payment.

    :raises InvalidRequest: 400; nothing was refunded.
    """
    numbers = {"amount": amount, "refundable": refundable, "number": number}
    fields: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if mark_refunded:
        fields["markRefunded"] = mark_refunded
    return parse_part(fields, allowed=current_refunds().settings.refunds_allow_partial)
