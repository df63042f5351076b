"""Every way in which Stripe refuses or fails: its code is kept, and every answer says what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import mongomock
import pytest

from flask_refunds import plan_bulk_refund
from flask_refunds.advice import REJECTED
from flask_refunds.extension import current_refunds
from flask_refunds.testing import Fault, StripeSandbox
from flask_refunds.testing.errors import ApiError
from flask_refunds.testing.faults import FORCED_STATUSES
from flask_refunds.testing.request_handler import _ERRORS_IN_ENDPOINT
from tests.log_records import LogRecords
from tests.shop import Shop, make_app

HANGS = {Fault.TIMEOUT_BEFORE_REFUND, Fault.TIMEOUT_AFTER_REFUND, Fault.ENDLESS_RESPONSE, Fault.LATE}
"""These take as long as the client waits. To the client, they are like a lost response."""


class Rejection(NamedTuple):
    """A refund that Stripe rejects, and the answer.

    :param says: what the hint must name, or the message of an error without one.
    """

    status: int
    code: str
    stripe_code: str
    says: str
    payment: dict[str, Any] = {}  # noqa: RUF012 - never changed
    fault: str | None = None
    then: str | None = None
    is_previewed: bool = True
    """Whether the preview has the same error."""


REJECTIONS = {
    "lock_timeout": Rejection(
        503, "stripe_rate_limited", "lock_timeout", "Another request", fault="lock_timeout"
    ),
    "rate_limit": Rejection(503, "stripe_rate_limited", "rate_limit", "Try again in", fault="rate_limited"),
    "wrong_key": Rejection(
        500, "stripe_key_rejected", "authentication_failed", "is wrong", fault="key_rejected"
    ),
    "expired_key": Rejection(
        500, "stripe_key_rejected", "api_key_expired", "Set a new key", fault="key_expired"
    ),
    "restricted_key": Rejection(
        500,
        "stripe_key_rejected",
        "permission_denied",
        "write access",
        fault="key_forbidden",
        is_previewed=False,
    ),
    "live_payment": Rejection(
        400,
        "payment_unknown",
        "resource_missing",
        "in live mode, and your key is a test key",
        {"livemode": True},
    ),
    "other_account": Rejection(
        400, "payment_unknown", "resource_missing", "another Stripe account", then="hide"
    ),
    "not_captured": Rejection(
        400, "refund_failed", "payment_intent_unexpected_state", "Capture the payment", {"capture": "manual"}
    ),
    "canceled": Rejection(
        400,
        "refund_failed",
        "payment_intent_unexpected_state",
        "needs no refund",
        {"capture": "manual"},
        then="cancel_payment",
    ),
    "not_paid": Rejection(
        400,
        "refund_failed",
        "payment_intent_unexpected_state",
        "didn't succeed",
        {"card": "4000000000000002"},
    ),
    "disputed": Rejection(
        400, "refund_failed", "charge_disputed", "Answer the dispute", then="dispute", is_previewed=False
    ),
    "already_refunded": Rejection(
        400,
        "purchase_not_refundable",
        "charge_already_refunded",
        "Look at the payment's refunds",
        then="dashboard_refund",
        is_previewed=False,
    ),
    "no_email": Rejection(
        400,
        "refund_failed",
        "parameter_missing",
        "with the customer's e-mail address",
        {"currency": "jpy", "method": "konbini"},
        is_previewed=False,
    ),
    "low_balance": Rejection(
        400, "refund_failed", "balance_insufficient", "Top up", fault="insufficient_balance"
    ),
    "no_code": Rejection(
        400, "refund_failed", "invalid_request", "cause that Stripe names", fault="card_error"
    ),
}
cases = pytest.mark.parametrize("case", REJECTIONS.values(), ids=REJECTIONS)


@pytest.fixture
def shop(sandbox: StripeSandbox) -> Shop:
    """A shop that asks Stripe only once."""
    database = mongomock.MongoClient(tz_aware=True).shop
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_STRIPE_RETRIES=0)
    with app.app_context():
        current_refunds().bulk._retry_seconds = 0
    return Shop(app, database)


@pytest.fixture(autouse=True)
def _error_without_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe's oddest 400: without a code that is text, and with half of a surrogate pair."""
    error = ApiError(400, "Not today \ud83d")
    error.error["code"] = 7
    monkeypatch.setitem(_ERRORS_IN_ENDPOINT, Fault.CARD_ERROR, lambda: error)


def prepare(shop: Shop, sandbox: StripeSandbox, case: Rejection) -> Any:
    payment = sandbox.create_payment(4310, **({"currency": "eur"} | case.payment))
    if case.then is not None:
        getattr(sandbox, case.then)(payment)
    if case.fault is not None:
        sandbox.inject(case.fault, method="*" if case.is_previewed else "POST", path="/v1/", times=None)
    return shop.add_purchase(payment)


def preview(shop: Shop, purchase: Any) -> Any:
    return shop.client.get(f"/api/payments/admin/refund/{purchase}", headers=shop.headers())


@cases
def test_answer_record_and_log_keep_the_code_and_say_what_to_do(
    shop: Shop, sandbox: StripeSandbox, log_records: LogRecords, case: Rejection
) -> None:
    response = shop.refund(prepare(shop, sandbox, case))
    body = response.json
    assert (response.status_code, body["code"], body["stripeCode"]) == case[:3]
    assert case.says in body.get("hint", body["error"])
    assert (body["error"] == "Refund failed") == (case.code in ("refund_failed", "payment_unknown"))
    [record] = [each for each in shop.records() if each["source"] != "external"]
    failures = record["failure"]["code"], record["history"][-1]["failureCode"]
    assert failures == (case.stripe_code, case.stripe_code)
    assert body["refund"]["failure"]["code"] == case.stripe_code
    advice = body["refund"]["advice"]
    assert (
        case.stripe_code not in REJECTED
        or advice["action"] in body.get("hint", advice["action"])
        or (case.code == "payment_unknown")
    )
    codes = [(each["event"], each["code"]) for each in log_records() if "code" in each]
    assert ("refund_rejected", case.stripe_code) in codes


@cases
def test_preview_has_the_same_error(
    shop: Shop, sandbox: StripeSandbox, log_records: LogRecords, case: Rejection
) -> None:
    purchase = prepare(shop, sandbox, case)
    response = preview(shop, purchase)
    if not case.is_previewed:
        assert response.status_code == 200
        return
    refused = shop.refund(purchase).json
    shown = {name: response.json.get(name) for name in ("code", "stripeCode", "hint")}
    assert shown == {name: refused.get(name) for name in shown}
    assert (response.status_code, response.json["code"]) == case[:2]
    assert response.json["error"].startswith("Stripe doesn't know") == (case.code == "payment_unknown")
    logged = [each["stripe_code"] for each in log_records() if each["event"] == "request_failed"]
    assert logged == [case.stripe_code] * (2 if case.status >= 500 else 0)


@cases
def test_commands_say_what_to_do(shop: Shop, sandbox: StripeSandbox, case: Rejection) -> None:
    purchase = prepare(shop, sandbox, case)
    result = shop.flask("refund", str(purchase))
    assert (result.exit_code, case.says in result.output) == (2, True), result.output
    assert "You can try again" not in result.output
    shown = shop.flask("show", str(purchase)).output
    assert case.stripe_code in shown
    if case.stripe_code in REJECTED and case.code != "payment_unknown":
        assert REJECTED[case.stripe_code].action in shown


def test_key_without_any_permission_leaves_the_refund_open_and_says_why(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(4310, "eur"))
    with sandbox.fault("key_forbidden", method="*", path="/v1/refunds"):
        response = shop.refund(purchase)
        assert (response.status_code, response.json["message"]) == (202, "Refund submitted")
        assert "lacks a permission" in response.json["hint"]
        assert "lacks a permission" in shop.flask("refund", str(purchase)).output
    response = shop.refund(purchase)
    assert (response.status_code, "hint" in response.json) == (200, False)


@pytest.mark.parametrize(("name", "result"), [("not_captured", "failed"), ("no_code", "failed")])
def test_bulk_plan_says_that_a_payment_cannot_be_refunded(
    shop: Shop, sandbox: StripeSandbox, name: str, result: str
) -> None:
    purchase, other = prepare(shop, sandbox, REJECTIONS[name]), shop.add_purchase("pi_unknown")
    with shop.app.app_context():
        plan = plan_bulk_refund("autumn", [purchase]).as_dict()
        assert (plan["refundable"], plan["others"]) == (0, {result: 1})
        sandbox.clear_faults()
        assert plan_bulk_refund("autumn", [other]).as_dict()["others"] == {"payment_unknown": 1}


@pytest.mark.parametrize(
    ("fault", "says"), [("key_expired", "has expired"), ("key_forbidden", "lacks a permission")]
)
def test_reconcile_says_what_is_wrong_with_the_key(
    shop: Shop, sandbox: StripeSandbox, fault: str, says: str
) -> None:
    with sandbox.fault(fault, method="GET"):
        result = shop.flask("reconcile")
    assert (result.exit_code, says in result.output) == (1, True), result.output


def python_names() -> set[str]:
    """Return the names of all exceptions, and of this library's classes, that can't be mistaken for words."""

    def descend(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        for each in kind.__subclasses__():
            yield each
            yield from descend(each)

    modules = [module for name, module in sys.modules.items() if name.startswith("flask_refunds")]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    names = {each.__name__ for each in {*descend(BaseException), *classes}}
    return {each for each in names if re.search("[a-z][A-Z]", each)}


def provoke(shop: Shop, sandbox: StripeSandbox, purchase: Any, tmp_path: Any) -> Iterator[str]:
    """Yield what people read, from every way to refund a purchase and to look at it."""
    ids, out = tmp_path / "ids.txt", tmp_path / "out.csv"
    ids.write_text(f"{purchase}\n")
    yield preview(shop, purchase).get_data(as_text=True)
    yield shop.refund(purchase).get_data(as_text=True)
    for path in ("refunds", f"refunds/{shop.records()[0]['_id']}", "all"):
        yield shop.client.get(f"/api/payments/admin/{path}", headers=shop.headers()).get_data(as_text=True)
    for command in (
        ("refund", str(purchase)),
        ("show", str(purchase)),
        ("list",),
        ("export", "-"),
        (
            "bulk",
            str(ids),
            "--name",
            "again",
            "--yes",
            "--skip-amounts",
            "--output",
            str(tmp_path / "out.csv"),
        ),
        ("reconcile", "--older-than", "0"),
        ("check",),
    ):
        yield shop.flask(*command).output
    yield out.read_text() if out.exists() else ""


@pytest.mark.parametrize("what", [*(each for each in Fault if each not in HANGS), *REJECTIONS])
def test_no_text_has_a_name_of_python(sandbox: StripeSandbox, shop: Shop, tmp_path: Any, what: Any) -> None:
    if isinstance(what, Fault):
        method = "POST" if what in FORCED_STATUSES else "*"
        path = "/v1/refunds" if what in FORCED_STATUSES else "/v1/"
        purchase = shop.add_purchase(sandbox.create_payment(4310, "eur"))
        sandbox.inject(what, method=method, path=path, times=None)
    else:
        purchase = prepare(shop, sandbox, REJECTIONS[what])
    texts = list(provoke(shop, sandbox, purchase, tmp_path))
    names = python_names()
    assert {"OutcomeUnknown", "RefundRecord", "KeyError"} <= names
    for text in texts:
        assert not names & set(re.findall(r"\w+", text)), text
        assert "Traceback" not in text, text
