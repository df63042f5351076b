"""Our HTTP routes: parse, ask the service, answer."""

from __future__ import annotations

from flask import Response, request

from ..core.service import Ask
from ..errors import PurchaseNotFound, RefundNotFound
from ..extension import current_refunds
from ..models import RefundStatus
from ..schemas.cursors import MAX_LIMIT, write_cursor
from ..schemas.inputs import MAX_BODY_BYTES, parse_purchase_id, parse_refund_request
from ..schemas.rendering import render, render_payment, render_refund, render_report, render_with_history
from ..storage.search import PurchaseFilter
from .auth import identify, identify_admin
from .query_params import Query, parse_purchase_query, parse_refund_query, parse_report_query
from .request_body import read_body
from .responses import answered, json_response

_ANSWERS = {
    RefundStatus.SUCCEEDED: (200, "Refund successful"),
    RefundStatus.PENDING: (202, "Refund pending"),
    RefundStatus.REQUIRES_ACTION: (202, "Refund pending"),
    RefundStatus.PROCESSING: (202, "Refund submitted"),
}


@answered
def refund_purchase(purchase_id: str) -> Response:
    """``POST /admin/refund/<purchaseId>``: refund a completed purchase, in full."""
    caller = identify_admin()
    reason, note = parse_refund_request(read_body(MAX_BODY_BYTES))
    ask = Ask(requested_by=caller.identity, source="endpoint", reason=reason, note=note)
    outcome = current_refunds().service.refund(parse_purchase_id(purchase_id), ask)
    status, message = _ANSWERS[outcome.refund.status]
    body = {
        "message": message,
        "purchase": render(outcome.purchase),
        "refund": render_refund(outcome.refund),
    }
    return json_response(body, status)


@answered
def preview_refund(purchase_id: str) -> Response:
    """``GET /admin/refund/<purchaseId>``: what a refund would do; it does nothing."""
    identify_admin()
    refunds = current_refunds()
    preview = refunds.previewer.preview(parse_purchase_id(purchase_id))
    together = refunds.purchase_search.page(PurchaseFilter(payment_intent=preview.payment.id), MAX_LIMIT)
    body = {
        "payment": render_payment(preview.payment),
        "purchases": render(together.items),
        "refunds": [render_refund(refund) for refund in preview.refunds],
    }
    return json_response(body)


@answered
def list_purchases() -> Response:
    """``GET /admin/all``: purchases, newest first."""
    identify_admin()
    wanted, limit, number, after = parse_purchase_query(Query(request.args))
    skip = ((number or 1) - 1) * limit
    page = current_refunds().purchase_search.page(wanted, limit, after=after, skip=skip)
    body = {
        "purchases": render(page.items),
        "totalPages": -(-page.total // limit),
        "currentPage": None if after is not None else number or 1,
        "totalPurchases": page.total,
        "nextCursor": render(page.next),
    }
    return json_response(body)


@answered
def show_purchase(payment_intent_id: str) -> Response:
    """``GET /status/<paymentIntentId>``: the caller's own purchase. Another's is like none."""
    caller = identify()
    refunds = current_refunds()
    owner = refunds.users.ids(caller.user, caller.identity)
    purchase = refunds.purchase_search.find_own(payment_intent_id, owner)
    if purchase is None:
        raise PurchaseNotFound
    return json_response({"purchase": render(purchase)})


@answered
def list_refunds() -> Response:
    """``GET /admin/refunds``: the ledger, newest first."""
    identify_admin()
    wanted, limit, after = parse_refund_query(Query(request.args))
    page = current_refunds().refund_search.page(wanted, limit, after=after)
    body = {
        "refunds": [render_refund(refund) for refund in page.items],
        "totalRefunds": page.total,
        "nextCursor": write_cursor(page.next),
    }
    return json_response(body)


@answered
def show_refund(refund_id: str) -> Response:
    """``GET /admin/refunds/<refundId>``: one refund, with its history."""
    identify_admin()
    refund = current_refunds().ledger.find(refund_id)
    if refund is None:
        raise RefundNotFound
    return json_response({"refund": render_with_history(refund)})


@answered
def show_metrics() -> Response:
    """``GET /admin/refunds/metrics``: the figures of a range."""
    identify_admin()
    since, until = parse_report_query(Query(request.args))
    return json_response(render_report(current_refunds().figures.compute(since, until)))
