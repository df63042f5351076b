"""An app that uses the public names, for mypy only. It fails if a public name has lost its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask
from typing_extensions import assert_type

from flask_refunds import (
    ConfigurationError,
    Refund,
    RefundsError,
    RefundStatus,
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
    refund_needs_review,
    refund_purchase,
    refund_succeeded,
    refunds_bp,
    require_admin,
)
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


@app.errorhandler(RefundsError)
def answer(error: RefundsError) -> tuple[dict[str, str], int]:
    assert_type(error.headers, Mapping[str, str])
    return {"error": assert_type(error.message, str), "code": assert_type(error.code, str)}, error.status


def start() -> str:
    try:
        check_config(app)
    except ConfigurationError as error:
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
