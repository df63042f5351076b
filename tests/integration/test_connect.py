"""Marketplaces: payments on connected accounts (direct charges), and payments transferred to them."""

from __future__ import annotations

from typing import Any

import mongomock
import pytest
from bson import ObjectId
from flask import Flask

from flask_refunds import bulk_refund, plan_bulk_refund
from flask_refunds.bulk import Result
from flask_refunds.errors import ConfigurationError
from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.test_references import get, refer
from tests.integration.unfinished import age, reconcile
from tests.integration.webhooks import SECRET, send
from tests.shop import Shop, make_app

SELLER, OTHER = "acct_1Seller00000000", "acct_1Other000000000"
FIELDS = {"stripe_account": "seller.account"}
FLAGS = {"reverse_transfer": True, "refund_application_fee": True}


@pytest.fixture(params=["server", "embedded"])
def database_of_shop(request: pytest.FixtureRequest) -> Any:
    if request.param == "embedded":
        return mongomock.MongoClient(tz_aware=True).shop
    return request.getfixturevalue("database")


def make_shop(database: Any, sandbox: StripeSandbox, **config: Any) -> Shop:
    config = {"REFUNDS_PURCHASE_FIELDS": FIELDS, "STRIPE_WEBHOOK_SECRET": SECRET} | config
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **config), database)


@pytest.fixture
def shop(database_of_shop: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database_of_shop, sandbox)


def sell(shop: Shop, held: str, account: Any = SELLER, **fields: Any) -> ObjectId:
    """Store a purchase of a direct charge."""
    return shop.add_purchase(held, seller={"account": account}, **fields)


def accounts(sandbox: StripeSandbox) -> set[Any]:
    """Return the ``Stripe-Account`` headers of the requests so far."""
    return {each.account for each in sandbox.requests}


def connect_events(sandbox: StripeSandbox, *, thin: bool = False) -> list[dict[str, Any]]:
    return sandbox.thin_events if thin else sandbox.events


@pytest.mark.parametrize("kind", ["intent", "charge", "session"])
def test_direct_charge_is_refunded_on_its_account(shop: Shop, sandbox: StripeSandbox, kind: str) -> None:
    payment = sandbox.create_payment(1999, account=SELLER)
    purchase = sell(shop, refer(sandbox, kind, payment))

    preview = get(shop, f"/admin/refund/{purchase}")
    response = shop.refund(purchase)

    assert (preview.status_code, preview.json["payment"]["refundable"]) == (200, 1999)
    assert (response.status_code, shop.status_of(purchase)) == (200, "refunded")
    assert response.json["refund"]["stripeAccount"] == SELLER == shop.records()[0]["stripeAccount"]
    assert sandbox.money_refunded(payment) == 1999
    assert accounts(sandbox) == {SELLER}


def test_payment_of_the_platform_is_refunded_beside_them(shop: Shop, sandbox: StripeSandbox) -> None:
    for account in (None, ""):
        sandbox.create_payment(1, account=SELLER)
        response = shop.refund(sell(shop, sandbox.create_payment(1999), account))
        assert (response.status_code, response.json["refund"]["stripeAccount"]) == (200, None)
    assert shop.refund(shop.add_purchase(sandbox.create_payment(1999))).status_code == 200
    assert accounts(sandbox) == {None}


@pytest.mark.parametrize(
    ("account", "described"),
    [
        ("cus_secret", "holds cus_…"),
        (42, "isn't text, but int"),
        (["acct_1"], "isn't text, but list"),
        ("acct_1 ", "holds acct_…"),
    ],
)
def test_unusable_account_is_refused_naming_the_field(
    shop: Shop, sandbox: StripeSandbox, account: Any, described: str
) -> None:
    purchase = sell(shop, sandbox.create_payment(1999), account)
    for answer in (shop.refund(purchase), get(shop, f"/admin/refund/{purchase}")):
        assert (answer.status_code, answer.json["code"]) == (400, "payment_intent_missing")
        assert answer.json["hint"].startswith(f"Its seller.account {described}")
        assert "secret" not in answer.text
    assert sandbox.requests == []


@pytest.mark.parametrize("fault", ["response_lost", "request_lost"])
def test_refund_with_an_unknown_outcome_is_finished_on_its_account(
    shop: Shop, sandbox: StripeSandbox, fault: str
) -> None:
    payment = sandbox.create_payment(1999, account=SELLER)
    purchase = sell(shop, payment)
    sandbox.inject(fault, times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"seller.account": OTHER}})

    age(shop, minutes=2)
    reconcile(shop)

    assert [each["status"] for each in sandbox.refunds(payment)] == ["succeeded"]
    assert [each["status"] for each in shop.records()] == ["succeeded"]
    assert shop.status_of(purchase) == "refunded"


def test_pending_refund_is_read_on_its_account(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, card="pm_card_pendingRefund", account=SELLER)
    purchase = sell(shop, payment)
    assert shop.refund(purchase).json["message"] == "Refund pending"
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    assert shop.refund(purchase).json["refund"]["status"] == "succeeded"
    assert accounts(sandbox) == {SELLER}


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kind", ["intent", "charge", "session"])
@pytest.mark.parametrize("about", ["refund.", "charge."])
def test_event_of_a_connected_account_is_applied(
    shop: Shop, sandbox: StripeSandbox, kind: str, thin: bool, about: str
) -> None:
    payment = sandbox.create_payment(1999, account=SELLER)
    purchase = sell(shop, refer(sandbox, kind, payment))
    sandbox.dashboard_refund(payment)

    for event in connect_events(sandbox, thin=thin):
        if event["type"].removeprefix("v1.").startswith(about):
            assert send(shop, event).status_code == 200

    assert shop.status_of(purchase) == "refunded"
    [record] = shop.records()
    assert (record["source"], record["stripeAccount"]) == ("external", SELLER)
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    for event in connect_events(sandbox, thin=thin):
        assert send(shop, event).status_code == 200
    assert shop.status_of(purchase) == "completed"


@pytest.mark.parametrize(
    ("stored", "account"),
    [(SELLER, None), (SELLER, OTHER), (None, SELLER), (SELLER, "acct_x/acct_y"), (SELLER, 7)],
)
@pytest.mark.parametrize("thin", [False, True])
def test_event_of_another_account_is_ignored(
    shop: Shop, sandbox: StripeSandbox, stored: str | None, account: Any, thin: bool
) -> None:
    sandbox.connect_account(OTHER)
    payment = sandbox.create_payment(1999, account=stored)
    purchase = sell(shop, payment, stored)
    refund = sandbox.dashboard_refund(payment)
    for kind, obj in (("refund.created", refund), ("charge.refunded", sandbox.charge(payment))):
        event = make_event(f"v1.{kind}" if thin else kind, obj) | {"account": account, "context": account}
        if account is None:
            del event["account"]
        assert send(shop, event).status_code == 200
    assert shop.records() == []
    assert shop.status_of(purchase) == "completed"
    assert all(each.path != "/v1/refunds" for each in sandbox.requests)


@pytest.mark.parametrize("purchases", ["kept", "deleted"])
def test_event_about_a_recorded_refund_must_have_the_records_account(
    shop: Shop, sandbox: StripeSandbox, purchases: str
) -> None:
    payment = sandbox.create_payment(1999, account=SELLER)
    shop.refund(sell(shop, payment))
    if purchases == "deleted":
        shop.db.purchases.delete_many({})
    failed = sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    event = make_event("refund.failed", failed, account=SELLER)
    for account in (None, OTHER):
        assert send(shop, event | {"account": account}).status_code == 200
        assert [each["status"] for each in shop.records()] == ["succeeded"]
    assert send(shop, event).status_code == 200
    assert [each["status"] for each in shop.records()] == ["failed"]


@pytest.mark.parametrize("fields", [FIELDS, {}])
def test_event_of_an_unused_account_costs_no_request(
    database_of_shop: Any, sandbox: StripeSandbox, fields: dict[str, str]
) -> None:
    shop = make_shop(database_of_shop, sandbox, REFUNDS_PURCHASE_FIELDS=fields)
    payment = sandbox.create_payment(1999, account=OTHER)
    sandbox.dashboard_refund(payment)
    for event in [*sandbox.events, *sandbox.thin_events]:
        assert send(shop, event).status_code == 200
    assert sandbox.requests == []


def test_sweep_reads_every_account_in_use(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = {each: sandbox.create_payment(1999, account=each) for each in (None, SELLER, OTHER)}
    purchases = {each: sell(shop, payment, each) for each, payment in payments.items()}
    for payment in payments.values():
        sandbox.dashboard_refund(payment)
    sandbox.dashboard_refund(sandbox.create_payment(5, account="acct_1Unused"))

    assert reconcile(shop, "--full").exit_code == 0

    assert [shop.status_of(each) for each in purchases.values()] == ["refunded"] * 3
    assert {each.get("stripeAccount") for each in shop.records()} == {None, SELLER, OTHER}
    assert accounts(sandbox) == {None, SELLER, OTHER}
    for payment in payments.values():
        sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    assert reconcile(shop, "--full").exit_code == 1
    assert [shop.status_of(each) for each in purchases.values()] == ["completed"] * 3


def test_account_whose_purchases_are_deleted_is_swept_by_its_records(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1999, account=SELLER)
    shop.refund(sell(shop, payment))
    shop.db.purchases.delete_many({})
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    reconcile(shop, "--full")
    assert [each["status"] for each in shop.records()] == ["failed"]


def test_account_that_was_disconnected_does_not_stop_the_others(shop: Shop, sandbox: StripeSandbox) -> None:
    sell(shop, "pi_gone", "acct_0Gone")
    payment = sandbox.create_payment(1999, account=SELLER)
    purchase = sell(shop, payment)
    sandbox.dashboard_refund(payment)
    for _ in range(2):
        assert reconcile(shop, "--full").exit_code == 0
    assert shop.status_of(purchase) == "refunded"


def test_refund_on_an_account_without_access_says_so(shop: Shop, sandbox: StripeSandbox) -> None:
    sandbox.create_payment(1999, account=SELLER)
    for held in ("ch_1", "cs_test_1"):
        answer = shop.refund(sell(shop, held, "acct_1Gone"))
        assert (answer.status_code, answer.json["code"]) == (500, "stripe_key_rejected")
        assert "connected account" in answer.json["hint"]
    assert shop.records() == []


def test_error_of_one_account_is_reported_after_the_others(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = {each: sandbox.create_payment(1999, account=each) for each in (SELLER, OTHER)}
    purchases = [sell(shop, payment, each) for each, payment in payments.items()]
    for payment in payments.values():
        sandbox.dashboard_refund(payment)
    sandbox.inject("key_forbidden", method="GET", after=1)

    assert "permission_denied" in reconcile(shop, "--full").output

    assert sorted(map(shop.status_of, purchases)) == ["completed", "refunded"]
    assert reconcile(shop, "--full").exit_code == 0
    assert {shop.status_of(each) for each in purchases} == {"refunded"}


def test_bulk_run_spans_accounts(shop: Shop, sandbox: StripeSandbox) -> None:
    payments = {each: sandbox.create_payment(1000, account=each) for each in (None, SELLER, OTHER)}
    purchases = [sell(shop, payment, each) for each, payment in payments.items()]
    with shop.app.app_context():
        plan = plan_bulk_refund("all", purchases)
        summary = bulk_refund("all", purchases)
    assert (plan.refundable, plan.amounts) == (3, {"usd": 3000})
    assert summary.counts == {Result.REFUNDED: 3}


# Destination charges (row A17), and options


@pytest.mark.parametrize("as_function", [False, True])
def test_destination_charge_is_paid_by_the_connected_account(
    database_of_shop: Any, sandbox: StripeSandbox, as_function: bool
) -> None:
    seen = []

    def options(purchase: Any) -> dict[str, Any]:
        seen.append(purchase)
        return FLAGS

    shop = make_shop(database_of_shop, sandbox, REFUNDS_STRIPE_OPTIONS=options if as_function else FLAGS)
    payment = sandbox.create_payment(1999, transfer_to=SELLER, application_fee_amount=200)
    purchase = shop.add_purchase(payment)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"
    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0

    assert sandbox.transfer(payment)["amount_reversed"] == 1999
    assert sandbox.application_fee(payment)["amount_refunded"] == 200
    [record] = shop.records()
    assert (record["status"], record["review"]) == ("succeeded", None)
    assert record["request"] | FLAGS == record["request"]
    assert [each["_id"] for each in seen] == ([purchase] if as_function else [])


def test_destination_charge_without_the_option_needs_review(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999, transfer_to=SELLER)
    assert shop.refund(shop.add_purchase(payment)).status_code == 200
    assert sandbox.transfer(payment)["amount_reversed"] == 0
    assert shop.records()[0]["review"]["code"] == "transfer_not_reversed"


@pytest.mark.parametrize(
    ("payment_options", "sent"),
    [
        ({}, {}),
        ({"transfer_to": SELLER}, {"reverse_transfer": True}),
        ({"transfer_to": SELLER, "application_fee_amount": 5}, FLAGS),
        ({"account": SELLER, "application_fee_amount": 5}, {"refund_application_fee": True}),
        ({"account": SELLER}, {}),
        ({"intent": False}, {}),
    ],
)
def test_flag_is_sent_only_where_the_charge_has_a_transfer_or_a_fee(
    database_of_shop: Any, sandbox: StripeSandbox, payment_options: Any, sent: dict[str, Any]
) -> None:
    shop = make_shop(database_of_shop, sandbox, REFUNDS_STRIPE_OPTIONS=FLAGS)
    payment = sandbox.create_payment(1999, **payment_options)
    response = shop.refund(sell(shop, payment, payment_options.get("account")))
    assert response.status_code == 200, response.json
    request = shop.records()[0]["request"]
    assert {name: request[name] for name in FLAGS if name in request} == sent


def test_email_for_instructions_is_sent_without_reading_the_payment(
    database_of_shop: Any, sandbox: StripeSandbox
) -> None:
    shop = make_shop(
        database_of_shop,
        sandbox,
        REFUNDS_STRIPE_OPTIONS=lambda purchase: {"instructions_email": purchase["email"]},
    )
    payment = sandbox.create_payment(1999, method="konbini")
    assert shop.refund(shop.add_purchase(payment, email="ann@example.org")).status_code == 202
    assert sandbox.refunds(payment)[0]["instructions_email"] == "ann@example.org"
    assert [each.method for each in sandbox.requests] == ["POST"]


def test_key_that_may_not_read_the_transfer_refunds_nothing(
    database_of_shop: Any, sandbox: StripeSandbox
) -> None:
    shop = make_shop(database_of_shop, sandbox, REFUNDS_STRIPE_OPTIONS={"reverse_transfer": True})
    sandbox.inject("key_forbidden", method="GET", path="/v1/payment_intents/*")
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)))
    assert (response.status_code, response.json["code"]) == (500, "stripe_key_rejected")
    assert "permission to read Payment Intents." in response.json["hint"]
    assert shop.records() == []


@pytest.mark.parametrize("email", ["", None])
def test_purchase_without_an_email_sends_none(
    database_of_shop: Any, sandbox: StripeSandbox, email: str | None
) -> None:
    shop = make_shop(
        database_of_shop,
        sandbox,
        REFUNDS_STRIPE_OPTIONS=lambda purchase: {"instructions_email": purchase["email"]},
    )
    assert shop.refund(shop.add_purchase(sandbox.create_payment(1999), email=email)).status_code == 200
    assert "instructions_email" not in shop.records()[0]["request"]


@pytest.mark.parametrize(
    "returned",
    [None, [], {"reason": "duplicate"}, {"reverse_transfer": "yes"}, {"instructions_email": 1}, "x"],
)
def test_invalid_options_refund_nothing(
    database_of_shop: Any, sandbox: StripeSandbox, caplog: pytest.LogCaptureFixture, returned: Any
) -> None:
    shop = make_shop(database_of_shop, sandbox, REFUNDS_STRIPE_OPTIONS=lambda purchase: returned)
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)))
    assert (response.status_code, response.json["code"]) == (500, "configuration_error")
    assert " REFUNDS_STRIPE_OPTIONS: returned a value that " in caplog.text
    assert shop.records() == sandbox.requests == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"reverse_transfers": True}, "REFUNDS_STRIPE_OPTIONS"),
        ({"reverse_transfer": 1}, "REFUNDS_STRIPE_OPTIONS"),
        ({"instructions_email": True}, "REFUNDS_STRIPE_OPTIONS"),
        ([], "REFUNDS_STRIPE_OPTIONS"),
    ],
)
def test_invalid_setting_is_refused(options: Any, problem: str) -> None:
    app: Flask = make_app(REFUNDS_MONGO=mongomock.MongoClient().shop, REFUNDS_STRIPE_OPTIONS=options)
    with app.app_context(), pytest.raises(ConfigurationError, match=problem):
        get_refunds(app)


def test_options_are_read_once_and_stay_in_the_record(database_of_shop: Any, sandbox: StripeSandbox) -> None:
    answers = iter([{"instructions_email": "first@example.org"}])
    shop = make_shop(database_of_shop, sandbox, REFUNDS_STRIPE_OPTIONS=lambda purchase: next(answers))
    payment = sandbox.create_payment(1999, method="konbini")
    purchase = shop.add_purchase(payment)
    sandbox.inject("request_lost", times=2)
    assert shop.refund(purchase).status_code == 202
    assert shop.refund(purchase).status_code == 202
    assert [each["instructions_email"] for each in sandbox.refunds(payment)] == ["first@example.org"]
