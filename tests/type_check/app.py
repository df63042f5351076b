"""An app that uses the public names, for mypy only. It fails if a public name has lost its type."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from blinker import NamedSignal
from flask import Blueprint, Flask
from typing_extensions import assert_type

from flask_refunds import (
    ConfigurationError,
    Failure,
    Payment,
    Reason,
    Refund,
    RefundableChanged,
    RefundInProgress,
    RefundsError,
    RefundStatus,
    Review,
    ReviewCode,
    authenticate,
    bulk_refund,
    check_config,
    current_user,
    get_refund,
    handle_event,
    list_refunds,
    make_blueprint,
    plan_bulk_refund,
    preview_refund,
    reconcile,
    refund_failed,
    refund_needs_review,
    refund_pending,
    refund_purchase,
    refund_succeeded,
    refunds_bp,
    require_admin,
)
from flask_refunds.bulk import BulkPlan, BulkResult, BulkSummary, Result
from flask_refunds.models import Mark, Part
from flask_refunds.prometheus import instrument
from flask_refunds.testing import Fault, StripeSandbox, make_event, make_token, signed_event

app = Flask(__name__)
app.register_blueprint(refunds_bp, url_prefix="/payments")
assert_type(refunds_bp, Blueprint)
assert_type(make_blueprint(), Blueprint)
assert_type(check_config(app), None)
instrument(app)

with app.app_context():
    assert_type(plan_bulk_refund("recall", ["6b0635cf3cab3f672ac1a80a"], amounts=False).refundable, int)
    assert_type(bulk_refund("recall", [], on_result=lambda result: None).incomplete, int)
    assert_type(preview_refund("6b0635cf3cab3f672ac1a80a").payment.refundable, int)
    assert_type(refund_purchase("6b0635cf3cab3f672ac1a80a", requested_by="ann").refund, Refund)
    assert_type(get_refund("pi_1:1").status, RefundStatus)
    assert_type([each.is_full for each in list_refunds(1)], list[bool])
    assert_type(reconcile(full=True).is_clean, bool)
    assert_type(reconcile(older_than=timedelta(0), stop_event=threading.Event()).counts["settled"], int)


def show(refund: Refund) -> None:
    assert_type(refund.amount, int | None)
    assert_type(refund.amount_text, str | None)
    assert_type(refund.reason, Reason | None)
    assert_type(refund.failure, Failure | None)
    assert_type(refund.review, Review | None)
    assert_type(refund.part, Part | None)
    assert_type(refund.marks, Sequence[Mark])
    assert_type(refund.created_at, datetime)
    assert_type(refund.history, Sequence[Mapping[str, Any]])
    if refund.review is not None:
        assert_type(refund.review.code, ReviewCode)
        assert_type(refund.review.recommended_action, str)


def refund_part(purchase_id: object) -> str | None:
    preview = preview_refund(purchase_id)
    payment = assert_type(preview.payment, Payment)
    number = assert_type(preview.number, int)
    try:
        result = refund_purchase(purchase_id, amount=5, refundable=payment.refundable, number=number)
    except RefundInProgress as error:
        return error.headers["Retry-After"]
    except RefundableChanged as error:
        return str(assert_type(error.details["refundable"], int))
    return assert_type(result.hint, str | None)


def recall(ids: list[int], reason: Reason) -> None:
    plan = assert_type(plan_bulk_refund("recall", ids), BulkPlan)
    print(dict(plan.amounts or {}), plan.payments)

    def on_result(result: BulkResult) -> None:
        assert_type(result.result, Result)

    summary = bulk_refund("recall", (each for each in ids), reason=reason, on_result=on_result)
    assert_type(summary, BulkSummary)
    assert_type(summary.unprocessed, int)


@app.get("/me/<int:number>")
@authenticate
def me(number: int) -> dict[str, Any]:
    return {"name": current_user["name"], "number": number}


@app.get("/admin")
@require_admin
async def admin() -> str:
    return "for admins"


assert_type(me(1), dict[str, Any])


async def call_admin() -> None:
    assert_type(await admin(), str)


@app.post("/webhook")
def webhook() -> dict[str, bool]:
    return {"processed": assert_type(handle_event({"type": "refund.created"}), bool)}


@refund_succeeded.connect
def mail(sender: Flask, **fields: Any) -> None:
    """A receiver."""


refund_needs_review.connect(mail)
assert_type(refund_failed, NamedSignal)


@refund_pending.connect_via(app)
async def tell(sender: Flask, refund: Refund, refund_id: str, **extra: Any) -> None:
    """An async receiver."""


@app.errorhandler(RefundsError)
def answer(error: RefundsError) -> tuple[dict[str, str], int]:
    assert_type(error.headers, Mapping[str, str])
    assert_type(error.hint, str | None)
    assert_type(error.refund, Refund | None)
    return {"error": assert_type(error.message, str), "code": assert_type(error.code, str)}, error.status


def start() -> str:
    try:
        check_config(app)
    except ConfigurationError as error:
        assert_type(error.problems, dict[str, str])
        return str(error)
    return "ready"


def test() -> None:
    with StripeSandbox(latency=0.1) as sandbox:
        assert_type(sandbox.url, str)
        payment = assert_type(sandbox.create_payment(1999, "eur"), str)
        assert_type(sandbox.money_refunded(payment), int)
        sandbox.inject(Fault.RESPONSE_LOST, times=1)
        event = make_event("refund.created", sandbox.refunds(payment)[0])
    assert_type(signed_event(event, "whsec_test"), tuple[bytes, dict[str, str]])
    assert_type(make_token("42", secret="x" * 32), str)
