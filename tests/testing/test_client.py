"""The fixture ``refunds``: a client for an app under test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask, session
from pymongo.uri_parser import parse_uri

from flask_refunds import refunds_bp
from flask_refunds.testing import (
    OUTCOME_UNKNOWN,
    REFUSED,
    RETRYABLE,
    Cards,
    Fault,
    RefundsClient,
    StripeSandbox,
    open_client,
)
from flask_refunds.testing.app_config import _with_database
from tests.shop import make_app


def test_purchase_has_a_payment_and_is_refunded_once(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(2550, "eur", order="A-7")
    stored = refunds.reload(purchase)
    assert (stored["status"], stored["amount"], stored["currency"]) == ("completed", 25.5, "eur")
    assert (stored["order"], stored["stripePaymentIntentId"]) == ("A-7", purchase.payment)

    response = refunds.refund(purchase, reason="duplicate", note="clicked twice")
    assert (response.status_code, response.get_json()["refund"]["reason"]) == (200, "duplicate")
    assert refunds.stripe.last_request.params["reason"] == "duplicate"
    refunds.stripe.assert_refunded_once(purchase.payment)
    refunds.stripe.assert_refunded_once(purchase.payment, 2550)
    [record] = refunds.ledger
    assert (record["paymentIntent"], record["note"]) == (purchase.payment, "clicked twice")


def test_refund_and_reload_accept_an_id(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(500, _id="order/12 a")
    assert refunds.refund("order/12 a").status_code == 200
    assert refunds.reload("order/12 a") == refunds.reload(purchase)
    with pytest.raises(LookupError, match="No purchase has the ID"):
        refunds.reload(ObjectId())


def test_admin_of_the_app_replaces_the_default_one() -> None:
    def is_admin(user: Any) -> bool:
        return "support" in user.get("groups", ())

    def create_app(config: dict[str, Any]) -> Flask:
        return make_app(**config, REFUNDS_IS_ADMIN=is_admin, REFUNDS_CURRENT_USER=lambda: None)

    with open_client(create_app) as refunds:
        assert refunds.refund(refunds.purchase(700)).status_code == 403
        refunds.admin_id = str(refunds.db.users.insert_one({"groups": ["support"]}).inserted_id)
        assert refunds.refund(refunds.purchase(800)).status_code == 200


def test_documents_have_the_shape_of_the_config(
    refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox
) -> None:
    shape = {
        "REFUNDS_PURCHASE_FIELDS": {
            "payment": "billing.intent",
            "status": "billing.state",
            "user": "buyer.$id",
            "created": "soldAt",
        },
        "REFUNDS_STATUS_COMPLETED": ["paid", "shipped"],
        "REFUNDS_STATUS_REFUNDED": "returned",
        "REFUNDS_AMOUNT_UNIT": "minor",
        "REFUNDS_USER_FIELDS": {"id": "login.email"},
        "REFUNDS_PURCHASES_COLLECTION": "orders",
        "REFUNDS_USERS_COLLECTION": "people",
    }
    with RefundsClient(make_app(**refunds_config, **shape), stripe_sandbox) as refunds:
        purchase = refunds.purchase(800, "eur", order="A-7")
        stored = refunds.db.orders.find_one()
        assert stored is not None
        assert stored["billing"] == {"intent": purchase.payment, "state": "paid"}
        assert (stored["amount"], stored["order"], stored["soldAt"].tzinfo is not None) == (800, "A-7", True)
        assert refunds.db.dereference(stored["buyer"])["login"]["email"] == refunds.customer_id
        assert refunds.refund(purchase).status_code == 200
        assert refunds.reload(purchase)["billing"]["state"] == "returned"
        assert sorted(user["role"] for user in refunds.db.people.find()) == ["admin", "user"]


def test_any_caller_can_be_tried(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(100)
    assert refunds.refund(purchase, headers={}).status_code == 401
    assert refunds.refund(purchase, headers=refunds.headers(refunds.customer_id)).status_code == 403
    own = refunds.client.get(
        f"/api/payments/status/{purchase.payment}", headers=refunds.headers(refunds.customer_id)
    )
    assert own.status_code == 200
    refunds.admin_headers = dict
    assert refunds.refund(purchase).status_code == 401


def test_admin_is_signed_in_by_session(refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox) -> None:
    def find_user() -> Any:
        return refunds.db.users.find_one({"_id": ObjectId(session["user"])}) if "user" in session else None

    app = make_app(**{**refunds_config, "JWT_SECRET_KEY": None, "REFUNDS_CURRENT_USER": find_user})
    app.add_url_rule("/sign-in/<user>", view_func=lambda user: session.update(user=user) or "")
    with RefundsClient(app, stripe_sandbox) as refunds:
        refunds.admin_headers = dict
        purchase = refunds.purchase(100)
        assert refunds.refund(purchase).status_code == 401
        refunds.client.get(f"/sign-in/{refunds.admin_id}")
        assert refunds.refund(purchase, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert refunds.refund(purchase).status_code == 200


def test_mounted_elsewhere_still_works(refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox) -> None:
    app = Flask("shop")
    app.config.update(refunds_config)
    app.register_blueprint(refunds_bp, url_prefix="/pay", name="money")
    with RefundsClient(app, stripe_sandbox) as refunds:
        purchase = refunds.purchase(100)
        assert refunds.refund(purchase).status_code == 200
        assert {status for _, status in refunds.webhooks.delivered} == {200}


def test_app_without_the_blueprint_is_an_error(
    refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox
) -> None:
    app = Flask("shop")
    app.config.update(refunds_config)
    with pytest.raises(LookupError, match="register_blueprint"):
        RefundsClient(app, stripe_sandbox)


def test_one_app_can_be_tested_with_one_config_after_the_other() -> None:
    app = make_app()

    def reconfigure(config: dict[str, Any]) -> Flask:
        app.config.update(config)
        return app

    wsgi_app = app.wsgi_app
    clients = []
    for amount in (100, 200):
        with open_client(reconfigure) as refunds:
            purchase = refunds.purchase(amount)
            assert refunds.refund(purchase).status_code == 200
            refunds.stripe.assert_refunded_once(purchase.payment)
            clients.append(refunds)
    assert [[sent.refund.amount for sent in each.signals] for each in clients] == [[100], [200]]
    assert app.wsgi_app == wsgi_app


def test_signals_are_recorded_with_their_refunds(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1200, card=Cards.REFUND_FAILS)
    refunds.refund(purchase)
    [sent] = refunds.signals
    assert (sent.name, sent.refund.amount, sent.refund.payment_intent) == (
        "refund_succeeded",
        1200,
        purchase.payment,
    )
    refunds.travel(hours=1)
    assert [each.name for each in refunds.signals[1:]] == ["refund_failed", "refund_needs_review"]


@pytest.mark.parametrize("fault", OUTCOME_UNKNOWN)
def test_refund_with_unknown_outcome_is_resumed_by_reconcile(refunds: RefundsClient, fault: Fault) -> None:
    purchase = refunds.purchase(1999)
    with refunds.webhooks.held(), refunds.stripe.fault(fault):
        response = refunds.refund(purchase)
        assert (response.status_code, response.get_json()["message"]) == (202, "Refund submitted")
        refunds.webhooks.drop()
    assert refunds.reload(purchase)["status"] == "completed"
    report = refunds.reconcile()
    if fault is Fault.SERVER_ERROR_BEFORE:  # Stripe answers with the stored 500 for a day
        assert (report.counts["open"], refunds.stripe.refunds()) == (1, [])
        return
    assert (report.counts["settled"], report.is_clean) == (1, True)
    assert refunds.reload(purchase)["status"] == "refunded"
    refunds.stripe.assert_refunded_once(purchase.payment)


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_refund_is_400(refunds: RefundsClient, fault: Fault) -> None:
    purchase = refunds.purchase(1999)
    with refunds.stripe.fault(fault):
        response = refunds.refund(purchase)
    assert (response.status_code, response.get_json()["code"]) == (400, "refund_failed")
    assert refunds.stripe.refunds() == []


@pytest.mark.parametrize("fault", RETRYABLE)
def test_retryable_refund_is_5xx_and_succeeds_later(refunds: RefundsClient, fault: Fault) -> None:
    purchase = refunds.purchase(1999)
    with refunds.stripe.fault(fault):
        assert refunds.refund(purchase).status_code >= 500
    assert refunds.stripe.refunds() == []
    assert refunds.refund(purchase).status_code == 200


def test_reconcile_finds_what_happened_at_stripe(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(700)
    refunds.webhooks.automatic = False
    refunds.stripe.dashboard_refund(purchase.payment)
    for _ in range(2):  # a full sweep each time
        report = refunds.reconcile()
        assert report.sweep is not None
        assert (report.sweep.is_full, report.sweep.is_complete) == (True, True)
    assert refunds.reload(purchase)["status"] == "refunded"


def test_refund_of_less_or_twice_is_not_once(refunds: RefundsClient) -> None:
    payment = refunds.purchase(1000).payment
    with pytest.raises(AssertionError, match=rf"{payment} should be refunded once, 1000. Its refunds: none"):
        refunds.stripe.assert_refunded_once(payment)
    refunds.stripe.dashboard_refund(payment, 400)
    refunds.stripe.assert_refunded_once(payment, 400)
    with pytest.raises(AssertionError, match=r"re_.* 400 succeeded"):
        refunds.stripe.assert_refunded_once(payment)
    refunds.stripe.dashboard_refund(payment, 600)
    with pytest.raises(AssertionError, match=r"re_.* 600 succeeded"):
        refunds.stripe.assert_refunded_once(payment, 400)


def test_travel_moves_app_sandbox_and_tokens(refunds: RefundsClient) -> None:
    issued_before = refunds.headers(refunds.admin_id)
    purchase = refunds.purchase(1999, card=Cards.REFUND_PENDING)
    refunds.refund(purchase)
    refunds.travel(minutes=59)
    assert refunds.reload(purchase)["status"] == "completed"
    later = refunds.purchase(100)
    assert refunds.refund(later, headers=issued_before).status_code == 200

    refunds.travel(minutes=2)
    assert refunds.reload(purchase)["status"] == "refunded"
    assert refunds.refund(refunds.purchase(100), headers=issued_before).status_code == 401
    assert refunds.refund(refunds.purchase(100)).status_code == 200
    [pending] = [record for record in refunds.ledger if record["paymentIntent"] == purchase.payment]
    passed = pending["settledAt"] - pending["createdAt"]
    assert 3660 <= passed.total_seconds() < 3720


def test_unknown_outcome_needs_review_a_day_later(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(1999)
    with refunds.stripe.fault("request_lost"):
        refunds.refund(purchase)
    refunds.travel(days=1)
    report = refunds.reconcile()
    assert [refund.review.code.value for refund in report.reviews if refund.review] == ["unknown_too_long"]


def test_settings_of_the_config_are_short(refunds: RefundsClient) -> None:
    with refunds.stripe.fault("timeout_before_refund") as fault:
        refunds.refund(refunds.purchase(100))
    assert fault.hits == 1  # no retries


def test_saved_case_continues_in_another_test(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    with open_client(lambda config: make_app(**config)) as first:
        unknown = first.purchase(1999)
        first.purchase(500, card=Cards.REFUND_PENDING, _id="order/7")
        first.travel(days=2)
        with first.webhooks.held(), first.stripe.fault("response_lost"):
            first.refund(unknown)
            first.webhooks.drop()
        first.refund("order/7")
        first.save(path)
        saved, ledger = first.stripe.now(), first.ledger

    with open_client(lambda config: make_app(**config)) as second:
        second.purchase(100)
        purchases = second.load(path)
        assert [purchase.id for purchase in purchases] == [unknown.id, "order/7"]
        assert second.ledger == ledger
        assert second.db.purchases.count_documents({}) == 2
        assert abs(second.stripe.now() - saved) < 60
        assert abs(time.time() - saved) < 60
        second.travel(hours=1)
        second.reconcile()
        assert {second.reload(purchase)["status"] for purchase in purchases} == {"refunded"}
        second.stripe.assert_refunded_once(unknown.payment)


def test_other_file_is_rejected(refunds: RefundsClient, tmp_path: Path) -> None:
    for text in ("[]", '{"format": 0}'):
        (tmp_path / "case.json").write_text(text)
        with pytest.raises(ValueError, match=r"case\.json isn't a case"):
            refunds.load(tmp_path / "case.json")


def test_id_as_text_names_a_purchase_of_the_app(refunds: RefundsClient) -> None:
    purchase = refunds.purchase(500, _id=ObjectId())
    refunds.purchase(500, _id=71)
    assert refunds.refund(str(purchase.id)).status_code == 200
    assert refunds.reload(str(purchase.id)) == refunds.reload(purchase)
    assert refunds.reload("71")["_id"] == 71


def test_purchase_in_place_of_its_payment_is_an_error_that_says_so(refunds: RefundsClient) -> None:
    purchase: Any = refunds.purchase(300)
    stripe = refunds.stripe
    for call in (
        stripe.assert_refunded_once,
        stripe.dashboard_refund,
        stripe.dispute,
        stripe.hide,
        stripe.charge,
    ):
        with pytest.raises(TypeError, match=r"its ID, such as purchase\.payment"):
            call(purchase)


@pytest.mark.parametrize("amount", [19.99, "500", 0, -3])
def test_amount_that_is_not_minor_units_is_rejected(refunds: RefundsClient, amount: Any) -> None:
    with pytest.raises(ValueError, match="whole number of minor units"):
        refunds.purchase(amount)
    payment = refunds.purchase(900).payment
    with pytest.raises(ValueError, match="whole number of minor units"):
        refunds.stripe.dashboard_refund(payment, amount)
    assert refunds.stripe.money_refunded(payment) == 0


def test_app_that_cannot_sign_tokens_is_told_what_to_set() -> None:
    provider = {
        "JWT_SECRET_KEY": None,
        "JWT_ALGORITHM": "RS256",
        "JWT_JWKS_URL": "https://login.example/keys",
    }
    with open_client(lambda config: make_app(**(config | provider))) as refunds:
        purchase = refunds.purchase(600)
        with pytest.raises(ValueError, match=r"signed with RS256 .* set refunds\.admin_headers"):
            refunds.refund(purchase)
        assert refunds.refund(purchase, headers={}).status_code == 401


def test_app_with_another_stripe_is_rejected() -> None:
    def create_app(config: dict[str, Any]) -> Flask:
        return make_app(**config | {"STRIPE_API_BASE": ""})

    with (
        pytest.raises(ValueError, match=r"https://api\.stripe\.com instead of the sandbox"),
        open_client(create_app),
    ):
        raise AssertionError("not reached")


def test_app_with_another_database_is_rejected(
    refunds_config: dict[str, Any], stripe_sandbox: StripeSandbox
) -> None:
    own = refunds_config["REFUNDS_MONGO"].client["orders_dev"]
    with (
        pytest.raises(ValueError, match="orders_dev instead of refunds_test"),
        open_client(lambda config: make_app(**config | {"REFUNDS_MONGO": own})),
    ):
        raise AssertionError("not reached")
    config = refunds_config | {"REFUNDS_MONGO": own}
    with RefundsClient(make_app(**config), stripe_sandbox) as refunds:
        assert refunds.db.name == "orders_dev"


@pytest.mark.parametrize(
    ("uri", "auth_source"),
    [
        ("mongodb://ann:pw@127.0.0.1", "admin"),
        ("mongodb://ann:pw@127.0.0.1:27018,127.0.0.2/staff?replicaSet=rs", "staff"),
        ("mongodb://ann:pw@127.0.0.1/x?authSource=people", "people"),
        ("mongodb://127.0.0.1/?w=1", None),
    ],
)
def test_uri_of_the_test_database_keeps_where_its_user_signs_in(uri: str, auth_source: str | None) -> None:
    parsed = parse_uri(_with_database(uri, "refunds_test_7"))
    assert parsed["database"] == "refunds_test_7"
    assert parsed["nodelist"] == parse_uri(uri)["nodelist"]
    assert parsed["options"].get("authSource") == auth_source
