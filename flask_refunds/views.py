"""Our HTTP routes: parse, ask the service, answer."""

from __future__ import annotations

from flask import Response

from .auth import identify_admin
from .extension import current_refunds
from .models import RefundStatus
from .requests import read_body
from .responses import answered, json_response
from .serializers import MAX_BODY_BYTES, parse_purchase_id, parse_refund_request, render, render_refund
from .service import Ask

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
