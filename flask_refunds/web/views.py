"""HTTP routes: parse the request, call the service, render the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Response, request

from ..core.resolution import Person
from ..errors import PurchaseNotFound, RefundNotFound
from ..extension import current_refunds
from ..models import Refund, RefundRequest, RefundStatus
from ..payment_refunds import amount_refunded
from ..schemas.cursors import MAX_LIMIT, write_cursor, write_purchase_cursor
from ..schemas.inputs import (
    MAX_BODY_BYTES,
    parse_cancellation,
    parse_purchase_id,
    parse_refund_request,
    parse_resolution,
)
from ..schemas.rendering import (
    named_users,
    render_found,
    render_payment,
    render_purchase,
    render_refund,
    render_refunds,
    render_report,
    render_result,
)
from ..storage.search import FoundPurchase, PurchaseFilter
from .auth import get_admin, get_caller
from .query_params import QueryParams, parse_purchase_query, parse_refund_query, parse_report_query
from .request_body import read_body
from .responses import json_errors, json_response

_ANSWERS = {
    RefundStatus.SUCCEEDED: (200, "Refund successful"),
    RefundStatus.PENDING: (202, "Refund pending"),
    RefundStatus.REQUIRES_ACTION: (202, "Refund pending"),
    RefundStatus.PROCESSING: (202, "Refund submitted"),
}


@json_errors
def refund_purchase(purchase_id: str) -> Response:
    """``POST /admin/refund/<purchaseId>``: refund a completed purchase in full, or in part."""
    caller = get_admin()
    refunds = current_refunds()
    allow_partial = refunds.settings.refunds_allow_partial
    reason, note, part, email = parse_refund_request(read_body(MAX_BODY_BYTES), allow_partial=allow_partial)
    refund_request = RefundRequest(caller.identity, "api", reason, note, part=part, instructions_email=email)
    result = refunds.service.refund(parse_purchase_id(purchase_id), refund_request)
    status, message = _ANSWERS[result.refund.status]
    rendered = render_result(
        result.refund, result.purchase, result.hint, refunds.purchases.fields, replayed=result.replayed
    )
    return json_response({"message": message, **rendered}, status)


@json_errors
def preview_refund(purchase_id: str) -> Response:
    """``GET /admin/refund/<purchaseId>``: preview a refund."""
    get_admin()
    refunds = current_refunds()
    preview = refunds.previewer.preview(parse_purchase_id(purchase_id))
    purchases = refunds.purchase_search.page(PurchaseFilter(payment_intent=preview.payment.id), MAX_LIMIT)
    body: dict[str, Any] = {
        "payment": render_payment(preview.payment, _address_of(purchases.items, preview.purchase_id)),
        "purchases": [render_found(each, refunds.purchases.fields) for each in purchases.items],
        "refunds": [render_refund(refund) for refund in preview.refunds],
    }
    if refunds.settings.refunds_allow_partial:
        body["number"] = preview.number
    return json_response(body)


def _address_of(purchases: Sequence[FoundPurchase], purchase_id: Any) -> str | None:
    """Return the e-mail address of a purchase's user, if it is one."""
    users = [each.user or {} for each in purchases if each.document["_id"] == purchase_id]
    address = next((each.get("email") for each in users), None)
    return address if isinstance(address, str) and "@" in address else None


@json_errors
def list_purchases() -> Response:
    """``GET /admin/all``: list purchases, newest first."""
    get_admin()
    query = parse_purchase_query(QueryParams(request.args))
    refunds = current_refunds()
    page = refunds.purchase_search.page(query.filters, query.limit, after=query.after, skip=query.skip)
    purchases = [render_found(each, refunds.purchases.fields) for each in page.items]
    _add_refunds(purchases, [each.document["_id"] for each in page.items])
    body = {
        "purchases": purchases,
        "totalPages": -(-page.total // query.limit),
        "currentPage": None if query.after is not None else query.page or 1,
        "totalPurchases": page.total,
        "nextCursor": write_purchase_cursor(page.next),
    }
    return json_response(body)


def _add_refunds(purchases: Sequence[dict[str, Any]], purchase_ids: Sequence[Any]) -> None:
    """Add the status of each purchase's open refund, and with partial refunds what it got back so far, which
    is ``None`` if one of its refunds can't be read.
    """
    summaries = [each["_refunds"] for each in purchases]
    held = {each["payment"] for each in summaries if each["payment"]}
    references = [each for each in held if not each.startswith("pi_")]
    known = current_refunds().purchases.references.find(references) if references else {}
    payments = {each: known.get(each, each) for each in held}
    found = current_refunds().ledger.list_for_payments(set(payments.values()))
    has_amounts = current_refunds().settings.refunds_allow_partial
    for summary, purchase_id in zip(summaries, purchase_ids, strict=True):
        refunds = found.get(payments.get(summary["payment"], ""), [])
        own = [each for each in refunds or [] if purchase_id in each.purchase_ids]
        unsettled = [each.status.value for each in own if not each.status.is_settled]
        summary["refundStatus"] = unsettled[-1] if unsettled else None
        if has_amounts:
            currencies = [each.currency for each in refunds or [] if each.currency]
            summary["refundedAmount"] = None if refunds is None else amount_refunded(refunds, purchase_id)
            summary["refundedCurrency"] = next(iter(currencies), None)


@json_errors
def show_me() -> Response:
    """``GET /admin/me``: show the admin who is signed in."""
    caller = get_admin()
    return json_response({"user": {"id": caller.identity, **current_refunds().users.describe(caller.user)}})


@json_errors
def show_purchase(payment_intent_id: str) -> Response:
    """``GET /status/<paymentIntentId>``: show the caller's own purchase.

    The answer for another user's purchase is identical to that for a missing one.
    """
    caller = get_caller()
    refunds = current_refunds()
    owner = refunds.users.possible_ids(caller.user, caller.identity)
    purchase = refunds.purchase_search.find_own(payment_intent_id, owner)
    if purchase is None:
        raise PurchaseNotFound
    return json_response({"purchase": render_purchase(purchase, refunds.purchases.fields)})


@json_errors
def list_refunds() -> Response:
    """``GET /admin/refunds``: list refunds, newest first."""
    get_admin()
    query = parse_refund_query(QueryParams(request.args))
    page = current_refunds().refund_search.page(query.filters, query.limit, after=query.after)
    refunds, names = _with_purchases(page.items, history=query.history)
    body = {
        "refunds": refunds,
        "totalRefunds": page.total,
        "nextCursor": write_cursor(page.next),
        "names": names,
    }
    return json_response(body)


def _with_purchases(
    refunds: Sequence[Refund], *, history: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return refunds for JSON, each with its first purchase, and the names of the users who made them."""
    search, fields = current_refunds().purchase_search, current_refunds().purchases.fields
    purchases = search.find_all([next(iter(each.purchase_ids), None) for each in refunds])
    names = current_refunds().customers.names_of(named_users(refunds, history=history))
    return render_refunds(refunds, purchases, fields, history=history), names


@json_errors
def show_refund(refund_id: str) -> Response:
    """``GET /admin/refunds/<refundId>``: show a refund with its history."""
    get_admin()
    refund = current_refunds().ledger.find(refund_id)
    if refund is None:
        raise RefundNotFound
    [rendered], names = _with_purchases([refund], history=True)
    return json_response({"refund": rendered, "names": names})


@json_errors
def resolve_refund(refund_id: str) -> Response:
    """``POST /admin/refunds/<refundId>/resolve``: resolve a refund that needs review."""
    caller = get_admin()
    decision, comment, checked = parse_resolution(read_body(MAX_BODY_BYTES))
    refunds = current_refunds()
    if refunds.ledger.find(refund_id) is None:
        raise RefundNotFound
    person = Person(caller.identity, "api", comment)
    if decision == "retry":
        retried = refunds.manual_review.retry(refund_id, person, checked=checked).refund
        status, message = _ANSWERS[retried.status]
        return json_response({"message": message, "refund": render_refund(retried)}, status)
    if decision == "failed":
        refund = refunds.manual_review.fail(refund_id, person, checked=checked)
    else:
        refund = refunds.manual_review.dismiss(refund_id, person)
    return json_response({"message": "Review closed", "refund": render_refund(refund)})


@json_errors
def cancel_refund(refund_id: str) -> Response:
    """``POST /admin/refunds/<refundId>/cancel``: cancel a refund that waits for the customer."""
    caller = get_admin()
    comment = parse_cancellation(read_body(MAX_BODY_BYTES))
    refunds = current_refunds()
    if refunds.ledger.find(refund_id) is None:
        raise RefundNotFound
    canceled = refunds.cancellation.cancel(refund_id, Person(caller.identity, "api", comment))
    return json_response({"message": "Refund canceled", "refund": render_refund(canceled, history=True)})


@json_errors
def show_metrics() -> Response:
    """``GET /admin/refunds/metrics``: show the refund report of a range."""
    get_admin()
    since, until = parse_report_query(QueryParams(request.args))
    return json_response(render_report(current_refunds().metrics_query.report(since, until)))
