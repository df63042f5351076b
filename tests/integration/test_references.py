"""Apps whose purchases hold a charge or a Checkout session in place of a payment intent."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any
from unittest import mock

import mongomock
import pytest
from bson import ObjectId
from werkzeug.test import TestResponse

from flask_refunds import bulk_refund, plan_bulk_refund
from flask_refunds.bulk import Result
from flask_refunds.extension import get_refunds
from flask_refunds.storage.connection import database_timeout
from flask_refunds.testing import StripeSandbox
from tests.integration.unfinished import age, reconcile
from tests.integration.webhooks import SECRET, send
from tests.shop import Shop, make_app

KINDS = ("charge", "session", "old charge", "bank payment")
kinds = pytest.mark.parametrize("kind", KINDS)
channels = pytest.mark.parametrize("channel", ["webhook", "thin webhook", "reconcile"])


@pytest.fixture(params=["server", "embedded"])
def shop(request: pytest.FixtureRequest, sandbox: StripeSandbox) -> Shop:
    """A Checkout shop: its payment field has another name."""
    embedded = request.param == "embedded"
    database = mongomock.MongoClient(tz_aware=True).shop if embedded else request.getfixturevalue("database")
    app = make_app(
        REFUNDS_MONGO=database,
        STRIPE_API_BASE=sandbox.url,
        STRIPE_WEBHOOK_SECRET=SECRET,
        REFUNDS_PURCHASE_FIELDS={"payment": "stripe.paid"},
    )
    return Shop(app, database)


def sell(shop: Shop, held: Any, status: str = "completed", **fields: Any) -> ObjectId:
    """Store a purchase that holds this."""
    return shop.add_purchase(None, status, stripe={"paid": held}, **fields)


def pay(sandbox: StripeSandbox, kind: str, amount: int = 1999) -> tuple[str, str]:
    """Make a payment, and return what a purchase of this kind holds, and the payment's ID."""
    if kind in ("old charge", "bank payment"):
        method = "card" if kind == "old charge" else "us_bank_account"
        charge = sandbox.create_payment(amount, intent=False, method=method)
        return charge, charge
    payment = sandbox.create_payment(amount)
    return refer(sandbox, kind, payment), payment


def refer(sandbox: StripeSandbox, kind: str, payment: str) -> str:
    """Return a new reference of this kind to a payment intent."""
    if kind == "intent":
        return payment
    return (
        sandbox.create_checkout_session(payment) if kind == "session" else str(sandbox.charge(payment)["id"])
    )


def learn(shop: Shop, sandbox: StripeSandbox, channel: str) -> None:
    """Let the shop learn what happened at Stripe, by its events or by one pass."""
    if channel == "reconcile":
        age(shop, minutes=2)
        assert reconcile(shop, "--full").exit_code in (0, 1)
        return
    events = sandbox.thin_events if channel == "thin webhook" else sandbox.events
    for event in events:
        assert send(shop, event).status_code == 200, event["type"]


def get(shop: Shop, path: str, **options: Any) -> TestResponse:
    return shop.client.get(f"/api/payments{path}", headers=shop.headers(), **options)


@kinds
def test_refund_reads_the_reference_once_and_marks_the_purchase(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    held, payment = pay(sandbox, kind)
    purchase = sell(shop, held)

    response = shop.refund(purchase)

    assert response.status_code == 200, response.json
    assert response.json["refund"]["id"] == f"{payment}:1"
    assert response.json["refund"]["paymentIntent"] == payment
    assert response.json["purchase"]["status"] == shop.status_of(purchase) == "refunded"
    assert sandbox.money_refunded(payment) == 1999
    assert [it.method for it in sandbox.requests] == ["GET", "POST"]
    assert shop.refund(purchase).json["code"] == "purchase_not_refundable"
    assert [it.path for it in sandbox.requests].count(sandbox.requests[0].path) == 1


def test_refund_of_a_payment_intent_reads_no_reference(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, _ = pay(sandbox, "intent")
    with mock.patch("flask_refunds.storage.references.database_timeout", side_effect=AssertionError):
        assert shop.refund(sell(shop, payment)).status_code == 200
    assert [it.method for it in sandbox.requests] == ["POST"]
    assert shop.db["flask_refunds.references"].count_documents({}) == 0


@kinds
def test_preview_remembers_the_reference_for_the_refund(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    held, payment = pay(sandbox, kind)
    purchase = sell(shop, held)

    preview = get(shop, f"/admin/refund/{purchase}").json

    assert preview["payment"]["id"] == payment
    assert preview["payment"]["refundable"] == 1999
    assert [each["_id"] for each in preview["purchases"]] == [str(purchase)]
    assert [it.method for it in sandbox.requests] == ["GET", "GET"]
    assert shop.refund(purchase).status_code == 200
    assert [it.method for it in sandbox.requests[2:]] == ["POST"]
    assert [each["id"] for each in get(shop, f"/admin/refund/{sell(shop, held)}").json["refunds"]] == [
        f"{payment}:1"
    ]


@pytest.mark.parametrize("first", ["intent", "charge", "session"])
@pytest.mark.parametrize("second", ["intent", "charge", "session"])
def test_two_purchases_of_one_payment_are_refunded_once_and_both_marked(
    shop: Shop, sandbox: StripeSandbox, first: str, second: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchases = [sell(shop, refer(sandbox, each, payment)) for each in (first, second)]

    assert shop.refund(purchases[0]).json["purchase"]["status"] == "refunded"
    answer = shop.refund(purchases[1])
    assert (answer.status_code, answer.json["code"]) == (400, "purchase_not_refundable")

    assert [shop.status_of(each) for each in purchases] == ["refunded"] * 2
    assert len(sandbox.refunds(payment)) == 1
    assert [each["_id"] for each in shop.records()] == [f"{payment}:1"]
    assert sorted(each["purchaseId"] for each in shop.records()[0]["marks"]) == sorted(purchases)

    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, "webhook")
    assert [shop.status_of(each) for each in purchases] == ["completed"] * 2


def test_refund_made_elsewhere_marks_no_purchase_of_another_payment(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(1999)
    own, other = sell(shop, payment), sell(shop, sandbox.create_payment(700))
    completed = get_refunds(shop.app).purchases.find_completed([payment])
    assert [each.purchase_id for each in completed] == [own]
    sandbox.dashboard_refund(payment)
    learn(shop, sandbox, "reconcile")
    assert [shop.status_of(each) for each in (own, other)] == ["refunded", "completed"]
    assert [each["purchaseId"] for each in shop.records()[0]["marks"]] == [own]


def test_refund_names_every_purchase_whose_reference_is_known(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchases = [sell(shop, refer(sandbox, each, payment)) for each in ("intent", "charge", "session")]
    for each in purchases:
        assert get(shop, f"/admin/refund/{each}").status_code == 200
    named = shop.refund(purchases[2]).json["refund"]["purchaseIds"]
    assert named == [str(each) for each in (purchases[2], *purchases[:2])]


@pytest.mark.parametrize("kind", ["charge", "session"])
def test_reconcile_marks_a_purchase_whose_reference_no_call_has_read(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    payment = sandbox.create_payment(1999)
    other = sell(shop, refer(sandbox, kind, payment))
    assert shop.refund(sell(shop, payment)).status_code == 200
    assert shop.status_of(other) == "completed"

    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0

    assert shop.status_of(other) == "refunded"


@channels
@kinds
def test_refund_in_the_dashboard_is_found(
    shop: Shop, sandbox: StripeSandbox, kind: str, channel: str
) -> None:
    held, payment = pay(sandbox, kind)
    purchase = sell(shop, held)
    foreign = sandbox.create_payment(500)
    for each in (payment, foreign):
        sandbox.dashboard_refund(each)

    learn(shop, sandbox, channel)

    assert shop.status_of(purchase) == "refunded"
    assert {each["paymentIntent"] for each in shop.records()} == {payment}
    assert [each["purchaseIds"] for each in shop.records()] == [[purchase]]
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    learn(shop, sandbox, channel)
    assert shop.status_of(purchase) == "completed"


def test_foreign_payment_is_looked_up_once_and_only_by_a_checkout_shop(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    def sessions_listed() -> int:
        return sum(it.path == "/v1/checkout/sessions" for it in sandbox.requests)

    sell(shop, pay(sandbox, "charge")[0])
    sandbox.dashboard_refund(sandbox.create_payment(500))
    learn(shop, sandbox, "webhook")
    assert sessions_listed() == 0
    sell(shop, pay(sandbox, "session")[0])
    for channel in ("webhook", "reconcile", "webhook"):
        learn(shop, sandbox, channel)
    assert sessions_listed() == 1
    assert shop.records() == []


def test_key_that_may_not_read_sessions_does_not_stop_events_and_passes(
    shop: Shop, sandbox: StripeSandbox, log_records: Any
) -> None:
    held, payment = pay(sandbox, "session")
    sell(shop, held)
    known = sandbox.create_payment(700)
    purchase = sell(shop, known)
    for each in (payment, known):
        sandbox.dashboard_refund(each)
    sandbox.inject("key_forbidden", method="GET", path="/v1/checkout/sessions", times=None)

    for channel in ("webhook", "reconcile"):
        learn(shop, sandbox, channel)
        assert {"event": "stripe_request_failed", "code": "permission_denied"} in log_records()

    assert shop.status_of(purchase) == "refunded"
    assert {each["paymentIntent"] for each in shop.records()} == {known}
    sandbox.clear_faults()
    learn(shop, sandbox, "reconcile")
    assert {each["paymentIntent"] for each in shop.records()} == {known, payment}


def test_check_reports_a_key_that_may_not_read_sessions(database: Any, sandbox: StripeSandbox) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
    shop.add_purchase(sandbox.create_checkout_session(sandbox.create_payment(1999)))
    assert "Checkout Sessions" not in shop.flask("check").output
    sandbox.inject("key_forbidden", method="GET", path="/v1/checkout/sessions", times=None)
    result = shop.flask("check")
    assert (result.exit_code, "the permission read for Checkout Sessions" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("held", "described"),
    [
        (None, "stripe.paid is missing or empty"),
        ("", "stripe.paid is missing or empty"),
        ("in_1QsecretInvoice", "stripe.paid holds in_…"),
        ("sub_1Qsecret", "stripe.paid holds sub_…"),
        ("PAYPAL-secret", "stripe.paid holds other text"),
        ("pi_1Q_secret_secret", "stripe.paid holds a client secret"),
        ("cs_test_a1_secret_secret", "stripe.paid holds a client secret"),
        (["pi_1Qsecret"], "stripe.paid isn't text, but list"),
        (42, "stripe.paid isn't text, but int"),
    ],
)
def test_unusable_payment_is_refused_naming_the_field_and_the_prefix(
    shop: Shop, sandbox: StripeSandbox, log_records: Any, held: Any, described: str
) -> None:
    purchase = sell(shop, held)

    for answer in (shop.refund(purchase), get(shop, f"/admin/refund/{purchase}")):
        assert (answer.status_code, answer.json["code"]) == (400, "payment_intent_missing")
        assert described in answer.json["hint"]
        assert "secret" not in answer.text.replace("client secret", "")
    shown = shop.flask("refund", str(purchase), "--yes")
    assert described in shown.output
    assert "secret" not in shown.output.replace("client secret", "")
    assert sandbox.requests == []
    assert shop.records() == []


@pytest.mark.parametrize("mode", ["payment", "subscription"])
def test_session_without_a_payment_is_refused_and_asked_again(
    shop: Shop, sandbox: StripeSandbox, mode: str
) -> None:
    session = sandbox.create_checkout_session(mode=mode)
    purchase = sell(shop, session)
    for requests in (1, 2):
        answer = shop.refund(purchase)
        assert (answer.status_code, answer.json["code"]) == (400, "payment_intent_missing")
        assert "no payment intent" in answer.json["hint"]
        assert len(sandbox.requests) == requests
    assert shop.db["flask_refunds.references"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("fault", "status", "code", "stripe_code"),
    [
        ("request_lost", 503, "stripe_unavailable", "connection_failed"),
        ("rate_limited", 503, "stripe_rate_limited", "rate_limit"),
        ("key_forbidden", 500, "stripe_key_rejected", "permission_denied"),
        ("key_rejected", 500, "stripe_key_rejected", "authentication_failed"),
        ("unreadable_response", 503, "stripe_unavailable", "unreadable_answer"),
    ],
)
@pytest.mark.parametrize("call", ["refund", "preview"])
def test_reference_that_stripe_does_not_tell_refunds_nothing(
    shop: Shop, sandbox: StripeSandbox, fault: str, status: int, code: str, stripe_code: str, call: str
) -> None:
    held, payment = pay(sandbox, "session")
    purchase = sell(shop, held)
    sandbox.inject(fault, method="GET", path="/v1/checkout/sessions")

    answer = shop.refund(purchase) if call == "refund" else get(shop, f"/admin/refund/{purchase}")

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["stripeCode"] == stripe_code
    assert "Nothing was refunded." in answer.json["error"]
    names_permission = "permission to read Checkout Sessions." in answer.json.get("hint", "")
    assert names_permission == (fault == "key_forbidden")
    assert shop.records() == sandbox.refunds(payment) == []
    sandbox.clear_faults()
    assert shop.refund(purchase).status_code == 200


def test_key_that_may_not_read_charges_refunds_nothing(shop: Shop, sandbox: StripeSandbox) -> None:
    held, payment = pay(sandbox, "charge")
    sandbox.inject("key_forbidden", method="GET", path="/v1/charges/*")
    answer = shop.refund(sell(shop, held))
    assert (answer.status_code, answer.json["code"]) == (500, "stripe_key_rejected")
    assert "permission to read Charges." in answer.json["hint"]
    assert shop.records() == sandbox.refunds(payment) == []


@kinds
def test_unknown_reference_is_refused(shop: Shop, sandbox: StripeSandbox, kind: str) -> None:
    held, _ = pay(sandbox, kind)
    sandbox.hide(held)
    answer = shop.refund(sell(shop, held))
    assert (answer.status_code, answer.json["code"]) == (400, "payment_unknown")
    assert "another Stripe account" in answer.json["hint"]
    assert shop.records() == []


def test_purchase_that_the_app_marked_is_refused_without_a_request(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    held, _ = pay(sandbox, "session")
    answer = shop.refund(sell(shop, held, "refunded"))
    assert (answer.status_code, answer.json["code"]) == (400, "purchase_not_refundable")
    assert sandbox.requests == []


@kinds
def test_status_and_lists_find_the_payment_by_every_reference(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    held, payment = pay(sandbox, kind)
    user = shop.add_user()
    purchase = sell(shop, held, user=user)
    assert shop.refund(purchase).status_code == 200
    requests = len(sandbox.requests)

    for each in {held, payment}:
        path = f"/api/payments/status/{each}"
        own = shop.client.get(path, headers=shop.headers(user))
        assert own.json["purchase"]["_id"] == str(purchase)
        assert shop.client.get(path, headers=shop.headers(shop.add_user())).status_code == 404
        query = {"paymentIntent": each}
        found = get(shop, "/admin/all", query_string=query).json["purchases"]
        assert [it["_id"] for it in found] == [str(purchase)]
        refunds = get(shop, "/admin/refunds", query_string=query).json["refunds"]
        assert [it["id"] for it in refunds] == [f"{payment}:1"]
        assert f"{payment}:1" in shop.flask("show", each).output
    assert get(shop, f"/admin/refunds/{payment}:1").json["refund"]["paymentIntent"] == payment
    assert len(sandbox.requests) == requests


def test_page_of_a_list_reads_the_references_once(shop: Shop, sandbox: StripeSandbox) -> None:
    for kind in KINDS:
        sell(shop, pay(sandbox, kind)[0])
    with mock.patch("flask_refunds.storage.references.database_timeout", wraps=database_timeout) as queries:
        assert len(get(shop, "/admin/all").json["purchases"]) == len(KINDS)
    assert queries.call_count == 1
    assert sandbox.requests == []


def test_crash_between_reading_the_reference_and_the_record_loses_nothing(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    held, payment = pay(sandbox, "session")
    purchase = sell(shop, held)
    ledger = type(get_refunds(shop.app).ledger)
    with mock.patch.object(ledger, "create", side_effect=SystemExit), pytest.raises(SystemExit):
        shop.refund(purchase)
    assert shop.records() == []

    assert shop.refund(purchase).status_code == 200

    assert len(sandbox.refunds(payment)) == 1
    assert [it.path for it in sandbox.requests].count(f"/v1/checkout/sessions/{held}") == 1


@kinds
def test_refund_with_an_unknown_outcome_is_finished(shop: Shop, sandbox: StripeSandbox, kind: str) -> None:
    held, payment = pay(sandbox, kind)
    purchase = sell(shop, held)
    sandbox.inject("response_lost", times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"

    age(shop, minutes=2)
    assert reconcile(shop).exit_code == 0

    assert shop.status_of(purchase) == "refunded"
    assert len(sandbox.refunds(payment)) == 1


def test_purchase_that_gets_another_payment_is_not_marked(shop: Shop, sandbox: StripeSandbox) -> None:
    held, _ = pay(sandbox, "session")
    purchase = sell(shop, held)
    sandbox.inject("response_lost", times=2)
    shop.refund(purchase)
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"stripe.paid": pay(sandbox, "session")[0]}})

    age(shop, minutes=2)
    reconcile(shop)

    assert shop.status_of(purchase) == "completed"


def test_bulk_run_over_every_kind_plans_and_refunds_each_payment_once(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    held = [pay(sandbox, kind, amount) for amount, kind in enumerate(("intent", *KINDS), 1000)]
    purchases = [sell(shop, reference) for reference, _ in held]
    both = sandbox.create_payment(5000)
    purchases += [sell(shop, refer(sandbox, kind, both)) for kind in ("charge", "session")]
    unusable = [sell(shop, "in_1"), sell(shop, sandbox.create_checkout_session())]
    results: dict[Any, Any] = {}

    with shop.app.app_context():
        plan = plan_bulk_refund("all", [*purchases, *unusable])
        summary = bulk_refund(
            "all", [*purchases, *unusable], on_result=lambda it: results.update({it.purchase_id: it.result})
        )

    assert (plan.refundable, plan.payments) == (7, 6)
    assert plan.amounts == summary.amounts == {"usd": sum(range(1000, 1005)) + 5000}
    assert plan.others == {Result.NO_PAYMENT: 2}
    assert [results[each] for each in unusable] == [Result.NO_PAYMENT] * 2
    assert sorted(results[each] for each in purchases[5:]) == [Result.ALREADY_REFUNDED, Result.REFUNDED]
    assert {shop.status_of(each) for each in purchases} == {"refunded"}
    assert [sandbox.money_refunded(payment) for _, payment in held] == list(range(1000, 1005))
    assert sandbox.money_refunded(both) == 5000
    with shop.app.app_context():
        assert plan_bulk_refund("again", purchases).others == {Result.ALREADY_REFUNDED: 7}


def test_bulk_plan_reads_no_known_reference_again(shop: Shop, sandbox: StripeSandbox) -> None:
    purchases = [sell(shop, pay(sandbox, kind)[0]) for kind in ("charge", "session")]
    for each in purchases:
        assert get(shop, f"/admin/refund/{each}").status_code == 200
    before = len(sandbox.requests)
    with shop.app.app_context():
        assert plan_bulk_refund("all", purchases).refundable == 2
    looked_up = [it.path for it in sandbox.requests[before:] if it.path.startswith("/v1/c")]
    assert looked_up == []


def test_export_names_the_payment(shop: Shop, sandbox: StripeSandbox) -> None:
    held, payment = pay(sandbox, "old charge")
    shop.refund(sell(shop, held))
    [row] = csv.DictReader(io.StringIO(shop.flask("export").output))
    assert (row["id"], row["paymentIntent"]) == (f"{payment}:1", payment)


def test_simultaneous_refunds_by_two_references_are_one_refund(database: Any) -> None:
    with StripeSandbox(enforce_amount_limit=False) as sandbox:
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        payments = [sandbox.create_payment(1999) for _ in range(12)]
        pairs = [
            [shop.add_purchase(refer(sandbox, kind, payment)) for kind in ("intent", "session")]
            for payment in payments
        ]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(shop.refund, chain.from_iterable(pairs)))
        age(shop, minutes=2)
        reconcile(shop)

        assert {each.status_code for each in answers} <= {200, 202, 400, 409}
        assert [len(sandbox.refunds(payment)) for payment in payments] == [1] * len(payments)
        assert {shop.status_of(each) for pair in pairs for each in pair} == {"refunded"}
