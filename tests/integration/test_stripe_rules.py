"""What Stripe, banks and the Dashboard do to a refund, on a real MongoDB: the ledger and purchases follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

from flask_refunds import plan_bulk_refund, refund_needs_review, refund_succeeded
from flask_refunds.extension import current_refunds
from flask_refunds.stripe_client.transport import Transport
from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import PENDING_CARD, SECRET, send
from tests.log_records import LogRecords
from tests.shop import Shop, make_app

OLD_VERSION = "2024-06-20"

Channel = Literal["webhook", "reconcile"]
channels = pytest.mark.parametrize("channel", ["webhook", "reconcile"])


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


def learn(shop: Shop, sandbox: StripeSandbox, channel: Channel) -> None:
    """Let the shop learn what happened at Stripe, by every event or by one pass."""
    if channel == "reconcile":
        assert reconcile(shop, "--full").exit_code in (0, 1)
        return
    for event in sandbox.events:
        assert send(shop, event).status_code == 200


def reviews(shop: Shop) -> list[str | None]:
    return [record.get("review") and record["review"]["code"] for record in shop.records()]


def preview(shop: Shop, purchase: Any) -> Any:
    return shop.client.get(f"/api/payments/admin/refund/{purchase}", headers=shop.headers())


def authorize(
    sandbox: StripeSandbox, amount: int, *captures: int, final: bool = False, **options: Any
) -> str:
    payment = sandbox.create_payment(amount, "eur", capture="manual", **options)
    for each in captures:
        sandbox.capture(payment, each, final=final)
    return payment


def test_refund_that_the_bank_returns_is_found_by_the_daily_pass(shop: Shop, sandbox: StripeSandbox) -> None:
    signaled: list[tuple[str, str]] = []

    def receiver(app: Any, refund: Any, **extra: Any) -> None:
        signaled.append((refund.id, refund.review.code.value))

    payment = sandbox.create_payment(3150, "chf")
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    age(shop, minutes=5)
    assert reconcile(shop).exit_code == 0
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed", "expired_or_canceled_card")
    yesterday = {"$subtract": ["$$NOW", 25 * 3600_000]}
    shop.db["flask_refunds.state"].update_many({}, [{"$set": {"fullCompletedAt": yesterday}}])
    with refund_needs_review.connected_to(receiver, sender=shop.app):
        assert reconcile(shop).exit_code == 1
    [record] = shop.records()
    assert (record["status"], record["failure"]["code"]) == ("failed", "expired_or_canceled_card")
    assert shop.status_of(purchase) == "completed"
    assert signaled == [(f"{payment}:1", "failed_after_success")]


def test_dashboard_refund_is_found_by_an_ordinary_pass(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(770, "gbp")
    purchases = [shop.add_purchase(payment) for _ in range(2)]
    reconcile(shop)
    sandbox.dashboard_refund(payment)
    assert reconcile(shop).exit_code == 0
    assert [shop.status_of(each) for each in purchases] == ["refunded"] * 2
    assert [(each["source"], each["amount"]) for each in shop.records()] == [("external", 770)]


@channels
@pytest.mark.parametrize("card", ["4242424242424242", PENDING_CARD])
def test_refund_that_requires_action_again_needs_review(
    shop: Shop, sandbox: StripeSandbox, channel: Channel, card: str
) -> None:
    payment = sandbox.create_payment(860, "eur", card=card)
    purchase = shop.add_purchase(payment)
    status = shop.refund(purchase).json["refund"]["status"]
    returned = sandbox.return_refund(sandbox.refunds(payment)[0]["id"])
    if channel == "webhook":
        # An event that arrives late shows an older status.
        send(shop, make_event("refund.updated", {**returned, "status": status, "amount": 1}))
    learn(shop, sandbox, channel)
    [record] = shop.records()
    assert (record["status"], record["amount"], record.get("settledAt")) == ("requires_action", 860, None)
    assert reviews(shop) == ["action_required_again"]
    assert shop.status_of(purchase) == "completed"
    reads = {each.request_id for each in sandbox.requests if each.method == "GET"}
    assert record["history"][-1]["stripeRequestId"] in reads
    sandbox.settle(returned["id"], "canceled")
    learn(shop, sandbox, channel)
    assert (shop.records()[0]["status"], shop.status_of(purchase)) == ("canceled", "completed")


@pytest.mark.parametrize("source", ["api", "external"])
def test_event_that_stripes_answer_contradicts_causes_another_read_later(
    shop: Shop, sandbox: StripeSandbox, source: str
) -> None:
    payment = sandbox.create_payment(2750, "sek")
    purchase = shop.add_purchase(payment)
    if source == "api":
        assert shop.refund(purchase).status_code == 200
    else:
        sandbox.dashboard_refund(payment)
    age(shop, minutes=5)
    reconcile(shop)
    age(shop, minutes=5)
    [made] = sandbox.refunds(payment)
    assert send(shop, make_event("refund.failed", {**made, "status": "failed"})).status_code == 200
    sandbox.settle(made["id"], "failed")
    for minute, status in ((0, "succeeded"), (1, "failed"), (3, "failed")):
        age(shop, minutes=minute)
        requests = len(sandbox.requests)
        with shop.app.app_context():
            reconciler = current_refunds().reconciler
            reconciler.run(reconciler.find(timedelta(minutes=1)))
        assert shop.records()[0]["status"] == status
        assert len(sandbox.requests) - requests == (minute == 1)
    assert shop.status_of(purchase) == "completed"
    assert shop.records()[0]["purchasesVerified"]


@channels
@pytest.mark.parametrize("status", ["pending", "succeeded"])
def test_dashboard_part_that_fails_can_be_refunded_again(
    shop: Shop, sandbox: StripeSandbox, channel: Channel, status: str
) -> None:
    payment = sandbox.create_payment(4500, "eur")
    purchase = shop.add_purchase(payment)
    part = sandbox.dashboard_refund(payment, 720, status=status)
    assert shop.refund(purchase).json["refund"]["amount"] == 3780
    learn(shop, sandbox, channel)
    assert shop.status_of(purchase) == ("refunded" if status == "succeeded" else "completed")
    sandbox.settle(part["id"], "failed")
    learn(shop, sandbox, channel)
    assert shop.status_of(purchase) == "completed"
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, 720)
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 4500)


def test_failed_dashboard_part_is_refunded_by_resolve(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(6000, "eur")
    purchase = shop.add_purchase(payment)
    part = sandbox.dashboard_refund(payment, 1100)
    assert shop.refund(purchase).status_code == 200
    learn(shop, sandbox, "reconcile")
    sandbox.settle(part["id"], "failed")
    learn(shop, sandbox, "reconcile")
    [failed] = [each for each in shop.records() if each["status"] == "failed"]
    result = shop.flask("resolve", failed["_id"], "--retry", "--comment", "still owed", "--actor", "ann")
    assert result.exit_code == 0, result.output
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 6000)
    assert reviews(shop) == [None, None, None]


def test_capture_before_a_refund_succeeds_leaves_the_rest_to_refund(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = authorize(sandbox, 9000, 2500, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 202
    sandbox.capture(payment, 1300)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    learn(shop, sandbox, "webhook")
    assert (shop.records()[0]["status"], shop.status_of(purchase)) == ("succeeded", "completed")
    response = shop.refund(purchase)
    assert response.json["refund"]["amount"] == 1300
    sandbox.settle(sandbox.refunds(payment)[1]["id"], "succeeded")
    learn(shop, sandbox, "webhook")
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 3800)


def test_dashboard_refund_between_two_captures_is_a_part(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = authorize(sandbox, 9000, 2500)
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment)
    sandbox.capture(payment, 1300)
    learn(shop, sandbox, "webhook")
    assert shop.status_of(purchase) == "completed"
    assert shop.refund(purchase).json["refund"]["amount"] == 1300
    assert shop.status_of(purchase) == "refunded"


@pytest.mark.parametrize("api_version", [None, OLD_VERSION])
@pytest.mark.parametrize("captured", [3300, 5300])
@channels
def test_released_part_of_an_authorization_counts_as_nothing(
    shop: Shop, sandbox: StripeSandbox, channel: Channel, captured: int, api_version: str | None
) -> None:
    payment = sandbox.create_payment(8200, "eur", capture="manual")
    sandbox.capture(payment, captured, api_version=api_version)
    purchase = shop.add_purchase(payment)
    charge = sandbox.charge(payment)
    send(
        shop, make_event("charge.refunded", {**charge, "amount_refunded": 8200 - captured, "refunded": True})
    )
    learn(shop, sandbox, channel)
    assert shop.status_of(purchase) == "completed"
    assert preview(shop, purchase).json["payment"]["refundable"] == captured
    with shop.app.app_context():
        plan = plan_bulk_refund("spring", [purchase])
    assert (plan.refundable, plan.amounts) == (1, {"eur": captured})
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["amount"]) == (200, captured)
    assert shop.status_of(purchase) == "refunded"


@channels
def test_dashboard_refund_that_equals_the_uncaptured_part_is_a_refund(
    shop: Shop, sandbox: StripeSandbox, channel: Channel
) -> None:
    payment = sandbox.create_payment(8200, "eur", capture="manual")
    sandbox.capture(payment, 4100)
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment)
    learn(shop, sandbox, channel)
    assert shop.status_of(purchase) == "refunded"
    assert [(each["status"], each["amount"]) for each in shop.records()] == [("succeeded", 4100)]


@pytest.mark.parametrize("api_version", [None, OLD_VERSION])
@channels
def test_canceled_authorization_counts_as_nothing(
    shop: Shop, sandbox: StripeSandbox, channel: Channel, api_version: str | None
) -> None:
    signaled: list[str] = []
    payment = sandbox.create_payment(5600, "eur", capture="manual")
    purchase = shop.add_purchase(payment, status="pending")
    sandbox.cancel_payment(payment, reason="expired", api_version=api_version)
    charge = sandbox.charge(payment)
    with refund_succeeded.connected_to(
        lambda app, refund, **extra: signaled.append(refund.id), sender=shop.app
    ):
        send(shop, make_event("charge.refunded", {**charge, "amount_refunded": 5600, "refunded": True}))
        learn(shop, sandbox, channel)
    assert (shop.status_of(purchase), signaled) == ("pending", [])
    metrics = shop.client.get("/api/payments/admin/refunds/metrics", headers=shop.headers()).json
    assert metrics["total"]["currencies"] == {}


@pytest.mark.parametrize("status", [None, "returning"])
def test_unreadable_refund_of_a_payment_does_not_hide_the_others(
    shop: Shop, sandbox: StripeSandbox, status: str | None
) -> None:
    payment = sandbox.create_payment(5000, "eur")
    purchase = shop.add_purchase(payment)
    odd = sandbox.dashboard_refund(payment, 1000)
    sandbox.set_refund(odd["id"], status=status)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"
    learn(shop, sandbox, "reconcile")
    assert [(each["status"], each["amount"]) for each in shop.records()] == [("succeeded", 4000)]
    assert shop.status_of(purchase) == "completed"
    sandbox.set_refund(odd["id"], status="succeeded")
    learn(shop, sandbox, "reconcile")
    assert [(each["status"], each["amount"]) for each in shop.records()][1:] == [("succeeded", 1000)]
    assert shop.status_of(purchase) == "refunded"


def test_refund_that_stripe_hides_needs_review_after_23_hours_and_is_resolved(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment, purchase = unknown(shop, sandbox, "request_lost")
    sandbox.hide(payment)
    age(shop, hours=22)
    assert reconcile(shop).exit_code == 0
    age(shop, hours=2)
    assert reconcile(shop).exit_code == 1
    assert reviews(shop) == ["unreadable_at_stripe"]
    age(shop, minutes=1)
    result = shop.flask(
        "resolve", f"{payment}:1", "--failed", "--checked", "--comment", "not in either account"
    )
    assert result.exit_code == 0, result.output
    assert (shop.records()[0]["status"], shop.status_of(purchase)) == ("failed", "completed")
    sandbox.unhide()
    assert shop.refund(purchase).status_code == 200


@channels
def test_refund_that_fails_by_a_dispute_must_not_be_refunded_again(
    shop: Shop, sandbox: StripeSandbox, channel: Channel
) -> None:
    payment = sandbox.create_payment(2750, "eur", card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 202
    sandbox.dispute(payment)
    learn(shop, sandbox, channel)
    assert reviews(shop) == ["disputed"]
    shown = shop.client.get(f"/api/payments/admin/refunds/{payment}:1", headers=shop.headers()).json
    assert "Don't refund again" in shown["refund"]["review"]["recommendedAction"]
    assert preview(shop, purchase).json["payment"]["disputed"] is True
    response = shop.refund(purchase)
    assert (response.status_code, response.json["refund"]["failure"]["code"]) == (400, "charge_disputed")


@pytest.mark.parametrize("source", ["api", "external"])
def test_refund_that_waits_for_the_balance_needs_review_until_it_is_made(
    shop: Shop, sandbox: StripeSandbox, source: str
) -> None:
    payment = sandbox.create_payment(990, "eur")
    purchase = shop.add_purchase(payment)
    if source == "external":
        sandbox.dashboard_refund(payment, status="pending")
        learn(shop, sandbox, "webhook")
    else:
        sandbox.inject("pending")
        assert shop.refund(purchase).json["refund"]["review"]["code"] == "balance_too_low"
    [shown] = shop.client.get("/api/payments/admin/refunds", headers=shop.headers()).json["refunds"]
    assert shown["review"]["recommendedAction"].startswith("Top up")
    assert reconcile(shop).exit_code == 1
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    assert reconcile(shop).exit_code == 0
    assert (reviews(shop), shop.status_of(purchase)) == ([None], "refunded")


@pytest.mark.parametrize("source", ["api", "external"])
def test_refund_without_its_transfer_needs_review(shop: Shop, sandbox: StripeSandbox, source: str) -> None:
    payment = sandbox.create_payment(3600, "eur", transfer_to="acct_seller", transfer_amount=3000)
    purchase = shop.add_purchase(payment)
    if source == "external":
        sandbox.dashboard_refund(payment)
        learn(shop, sandbox, "webhook")
    else:
        assert shop.refund(purchase).json["refund"]["review"]["code"] == "transfer_not_reversed"
    assert (reviews(shop), shop.status_of(purchase)) == (["transfer_not_reversed"], "refunded")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("insufficient_balance", 400, "balance_insufficient"),
        ("card_error", 400, "card_declined"),
        ("lock_timeout", 503, "lock_timeout"),
        ("rate_limited", 503, "rate_limit"),
        ("key_rejected", 500, "authentication_failed"),
        ("key_forbidden", 500, "permission_denied"),
    ],
)
def test_rejected_refund_keeps_the_code_of_stripe(
    shop: Shop, sandbox: StripeSandbox, log_records: LogRecords, fault: str, status: int, code: str
) -> None:
    sandbox.inject(fault, method="POST", times=9)
    payment = sandbox.create_payment(640)
    response = shop.refund(shop.add_purchase(payment))
    assert (response.status_code, response.json["refund"]["failure"]["code"]) == (status, code)
    [record] = shop.records()
    assert (record["failure"]["code"], record["history"][-1]["failureCode"]) == (code, code)
    assert [each["code"] for each in log_records() if each["event"] == "refund_rejected"] == [code]
    shown = shop.client.get(f"/api/payments/admin/refunds/{payment}:1", headers=shop.headers()).json
    assert shown["refund"]["history"][-1]["failureCode"] == code


@pytest.mark.parametrize("path", ["refund", "preview"])
def test_lock_timeout_says_that_another_request_changes_the_payment(
    shop: Shop, sandbox: StripeSandbox, path: str
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(640))
    sandbox.inject("lock_timeout", method="POST" if path == "refund" else "GET", path="/v1", times=9)
    response = shop.refund(purchase) if path == "refund" else preview(shop, purchase)
    assert (response.status_code, response.json["code"]) == (503, "stripe_rate_limited")
    assert response.json["error"].startswith("Another request is changing this payment at Stripe.")
    assert response.headers["Retry-After"]


def test_refund_of_an_uncaptured_payment_has_the_code_of_stripe(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(640, capture="manual"))
    response = shop.refund(purchase)
    failure = response.json["refund"]["failure"]
    assert (response.status_code, failure["code"]) == (400, "payment_intent_unexpected_state")
    assert preview(shop, purchase).json["stripeCode"] == failure["code"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("4042", '"No such payment."'),
        ('["a", "b"]', '{"text": "No."}'),
        ('"payment_intent_incompatible"', r'"broken \udc9d text"'),
        (r'"charge_already_captured \ud83d"', f'"{"x" * 70_000}"'),
    ],
    ids=["number", "objects", "half surrogate", "long"],
)
def test_rejection_with_an_odd_text_fails_the_refund_at_once(
    shop: Shop, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    error = f'{{"code": {code}, "message": {message}, "type": "invalid_request_error"}}'
    answer = f'{{"error": {error}}}'.encode(), 400, {"Request-Id": "req_1"}
    monkeypatch.setattr(Transport, "request", lambda *args, **options: answer)
    response = shop.refund(shop.add_purchase("pi_odd"))
    assert (response.status_code, response.json["code"]) == (400, "refund_failed")
    [record] = shop.records()
    assert record["status"] == "failed"
    assert all(len(each) <= 500 for each in record["failure"].values())


@pytest.mark.parametrize("path", ["refund", "preview", "webhook", "bulk", "command"])
def test_client_secret_is_neither_stored_nor_logged(
    shop: Shop, sandbox: StripeSandbox, log_records: LogRecords, path: str
) -> None:
    payment = sandbox.create_payment(880)
    secret = f"{payment}_secret_9fQmZ"
    purchase = shop.add_purchase(secret)
    if path == "refund":
        assert shop.refund(purchase).json["code"] == "payment_intent_missing"
    elif path == "preview":
        assert preview(shop, purchase).json["code"] == "payment_intent_missing"
    elif path == "webhook":
        made = sandbox.dashboard_refund(payment)
        assert send(shop, make_event("refund.created", {**made, "payment_intent": secret})).status_code == 200
    elif path == "bulk":
        with shop.app.app_context():
            assert plan_bulk_refund("spring", [purchase]).refundable == 0
    else:
        assert secret not in shop.flask("refund", str(purchase), "--yes").output
    assert shop.records() == []
    assert "secret" not in str(log_records()).replace("secret_key", "")
