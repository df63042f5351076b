"""Partial refunds over HTTP, with ``REFUNDS_ALLOW_PARTIAL``."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId
from werkzeug.test import TestResponse

from flask_refunds import extension, refund_failed, refund_succeeded
from flask_refunds.testing import Fault, StripeSandbox
from tests.integration.test_connect import SELLER
from tests.integration.test_purchase_rules import drop_validator, require_invoice, verify
from tests.integration.test_references import refer
from tests.integration.unfinished import reconcile
from tests.integration.webhooks import PENDING_CARD, SECRET, send
from tests.shop import Shop, make_app

AMOUNT = 2999


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    return make_shop(database, sandbox)


def make_shop(database: Any, sandbox: StripeSandbox, **config: Any) -> Shop:
    options = {"REFUNDS_ALLOW_PARTIAL": True, "STRIPE_WEBHOOK_SECRET": SECRET} | config
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **options), database)


def refund(shop: Shop, purchase: Any, amount: int, refundable: int, number: Any = None, **fields: Any) -> Any:
    """Refund a part, and return the response."""
    numbered = {} if number is None else {"number": number}
    return shop.refund(purchase, json={"amount": amount, "refundable": refundable, **numbered, **fields})


def assert_error(response: TestResponse, status: int, code: str) -> None:
    assert (response.status_code, response.json["code"]) == (status, code), response.text


def amounts(sandbox: StripeSandbox, payment: str) -> list[int]:
    """Return the amounts of the refunds that didn't fail, oldest first."""
    refunds = sandbox.refunds(payment)
    return [each["amount"] for each in refunds if each["status"] not in ("failed", "canceled")]


def made(sandbox: StripeSandbox) -> list[str]:
    return [each.path for each in sandbox.requests if each.method == "POST"]


# Bad requests: nothing is sent to Stripe


@pytest.mark.parametrize(
    ("config", "fields", "code"),
    [
        ({"REFUNDS_ALLOW_PARTIAL": False}, {"amount": 500, "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": 500}, "invalid_request"),
        ({}, {"refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": 5.0, "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": True, "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": "500", "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": 0, "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": -500, "refundable": AMOUNT}, "invalid_request"),
        ({}, {"amount": 2**53 + 1, "refundable": 2**53 + 2}, "invalid_request"),
        ({}, {"amount": 500, "refundable": AMOUNT, "number": 0}, "invalid_request"),
        ({}, {"amount": AMOUNT + 1, "refundable": AMOUNT}, "amount_too_large"),
    ],
)
def test_invalid_part_is_rejected_without_a_request_to_stripe(
    database: Any, sandbox: StripeSandbox, config: Any, fields: Any, code: str
) -> None:
    shop = make_shop(database, sandbox, **config)
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT))
    assert_error(shop.refund(purchase, json=fields), 400, code)
    assert sandbox.requests == []
    assert shop.records() == []


@pytest.mark.parametrize(("currency", "amount"), [("isk", 550), ("ugx", 10_010), ("kwd", 5_124), ("jod", 5)])
def test_amount_that_stripe_does_not_accept_in_this_currency_is_rejected(
    shop: Shop, sandbox: StripeSandbox, currency: str, amount: int
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(99_000, currency))
    answer = refund(shop, purchase, amount, 99_000)
    assert_error(answer, 400, "invalid_request")
    assert answer.json["error"].startswith("amount must be a multiple of ")
    assert made(sandbox) == []


@pytest.mark.parametrize(
    ("currency", "amount"), [("jpy", 1), ("kwd", 10), ("isk", 100), ("ugx", 100), ("huf", 1), ("twd", 1)]
)
def test_last_unit_of_a_currency_is_refunded(
    shop: Shop, sandbox: StripeSandbox, currency: str, amount: int
) -> None:
    payment = sandbox.create_payment(99_000, currency)
    purchase = shop.add_purchase(payment)
    assert refund(shop, purchase, 99_000 - amount, 99_000, 1).status_code == 200
    assert shop.status_of(purchase) == "completed"
    assert refund(shop, purchase, amount, amount, 2).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert amounts(sandbox, payment) == [99_000 - amount, amount]


# The optimistic lock


def test_part_leaves_the_purchase_completed_until_nothing_is_left(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)

    first = refund(shop, purchase, 500, AMOUNT, 1)
    assert (first.status_code, first.json["message"]) == (200, "Refund successful")
    assert "hint" not in first.json
    assert "replayed" not in first.json
    assert first.json["purchase"]["status"] == shop.status_of(purchase) == "completed"
    shown = first.json["refund"]
    assert (shown["amount"], shown["isFull"], shown["purchaseIds"]) == (500, False, [str(purchase)])
    assert shown["part"] == {"amount": 500, "refundable": AMOUNT, "number": 1, "markRefunded": False}

    last = refund(shop, purchase, AMOUNT - 500, AMOUNT - 500, 2)
    assert last.json["purchase"]["status"] == shop.status_of(purchase) == "refunded"
    assert last.json["refund"]["isFull"] is False
    assert amounts(sandbox, payment) == [500, AMOUNT - 500]
    assert_error(refund(shop, purchase, 1, 1, 3), 400, "purchase_not_refundable")


def test_preview_shows_what_the_next_part_must_send(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1)
    sandbox.dashboard_refund(payment, 99)
    path = f"/api/payments/admin/refund/{purchase}"
    shown = shop.client.get(path, headers=shop.headers()).json
    assert (shown["payment"]["refundable"], shown["number"]) == (2400, 2)
    assert refund(shop, purchase, 500, 2400, 2).status_code == 200


def test_preview_has_no_number_if_parts_are_not_allowed(database: Any, sandbox: StripeSandbox) -> None:
    shop = make_shop(database, sandbox, REFUNDS_ALLOW_PARTIAL=False)
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT))
    path = f"/api/payments/admin/refund/{purchase}"
    assert "number" not in shop.client.get(path, headers=shop.headers()).json


def test_two_equal_parts_in_a_row_are_two_refunds(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    for refundable, number in ((AMOUNT, 1), (AMOUNT - 500, 2), (AMOUNT - 1000, None)):
        answer = refund(shop, purchase, 500, refundable, number)
        assert answer.status_code == 200
        assert "replayed" not in answer.json
    assert amounts(sandbox, payment) == [500, 500, 500]


@pytest.mark.parametrize("number", [1, None])
def test_same_call_again_is_the_same_refund(shop: Shop, sandbox: StripeSandbox, number: Any) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    first = refund(shop, purchase, 700, AMOUNT, number, note="as agreed", reason="duplicate")
    again = refund(shop, purchase, 700, AMOUNT, number, note="as agreed", reason="duplicate")
    assert (again.status_code, again.json["replayed"]) == (200, True)
    assert again.json["refund"]["id"] == first.json["refund"]["id"]
    assert amounts(sandbox, payment) == [700]


@pytest.mark.parametrize("fault", [Fault.RESPONSE_LOST, Fault.REQUEST_LOST])
def test_call_after_a_lost_answer_continues_the_same_refund(
    shop: Shop, sandbox: StripeSandbox, fault: Fault
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    sandbox.inject(fault, times=2)
    assert refund(shop, purchase, 500, AMOUNT).status_code == 202
    bob = shop.headers(shop.add_user(role="admin"))
    other = shop.refund(purchase, json={"amount": 500, "refundable": AMOUNT}, headers=bob)
    assert_error(other, 409, "refund_in_progress")
    assert other.json["refund"]["id"] == f"{payment}:1"
    assert_error(refund(shop, purchase, 400, AMOUNT), 409, "refund_in_progress")
    assert_error(shop.refund(purchase), 409, "refund_in_progress")

    again = refund(shop, purchase, 500, AMOUNT)
    assert (again.status_code, again.json["replayed"]) == (200, True)
    assert amounts(sandbox, payment) == [500]


@pytest.mark.parametrize("number", [1, None])
def test_changed_payment_is_answered_with_what_is_left_now(
    shop: Shop, sandbox: StripeSandbox, number: Any
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    sandbox.dashboard_refund(payment, 999)
    answer = refund(shop, purchase, 500, AMOUNT, number)
    assert_error(answer, 409, "refundable_changed")
    assert (answer.json["refundable"], answer.json["number"]) == (2000, 1)
    assert amounts(sandbox, payment) == [999]


def test_other_uses_of_a_taken_number_are_refused(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1)
    bob = shop.headers(shop.add_user(role="admin"))
    body = {"amount": 500, "refundable": AMOUNT, "number": 1}
    others = [
        shop.refund(purchase, json=body, headers=bob),
        shop.refund(purchase, json=body | {"note": "x"}),
        shop.refund(purchase, json=body | {"reason": "duplicate"}),
        shop.refund(purchase, json=body | {"markRefunded": True}),
        shop.refund(purchase, json=body | {"amount": 501}),
        shop.refund(shop.add_purchase(payment), json=body),
        shop.refund(purchase, json=body | {"refundable": AMOUNT - 500, "number": 3}),
    ]
    for answer in others:
        assert_error(answer, 409, "refundable_changed")
        assert (answer.json["refundable"], answer.json["number"]) == (AMOUNT - 500, 2)
    assert amounts(sandbox, payment) == [500]


def test_equal_fields_are_ambiguous_if_the_same_amount_is_left_again(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    elsewhere = sandbox.dashboard_refund(payment, 500)
    refund(shop, purchase, 500, AMOUNT - 500)
    sandbox.settle(elsewhere["id"], "failed")  # 24.99 are left again

    ambiguous = refund(shop, purchase, 500, AMOUNT - 500)
    assert_error(ambiguous, 409, "refund_ambiguous")
    assert ambiguous.json["refund"]["id"] == f"{payment}:1"
    assert amounts(sandbox, payment) == [500]
    assert refund(shop, purchase, 500, AMOUNT - 500, 2).status_code == 200
    assert amounts(sandbox, payment) == [500, 500]
    again = refund(shop, purchase, 500, AMOUNT - 500, 1)
    assert (again.json["refund"]["id"], again.json["replayed"]) == (f"{payment}:1", True)


def test_part_that_failed_is_refunded_again_by_the_same_call_once(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    first = refund(shop, purchase, 500, AMOUNT, 1).json["refund"]
    sandbox.settle(first["stripeRefundId"], "failed")
    extension.get_refunds(shop.app).sweep.run(full=True)
    for replayed in (None, True, True):
        answer = refund(shop, purchase, 500, AMOUNT, 1)
        assert answer.status_code == 200, answer.text
        assert answer.json["refund"]["id"] == f"{payment}:2"
        assert answer.json.get("replayed") is replayed
    assert amounts(sandbox, payment) == [500]


def test_rejected_part_gives_its_amount_back(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    sandbox.inject(Fault.CARD_ERROR)
    assert_error(refund(shop, purchase, 500, AMOUNT, 1), 400, "refund_failed")
    assert refund(shop, purchase, AMOUNT, AMOUNT, 2).status_code == 200
    assert shop.status_of(purchase) == "refunded"


def test_pending_parts_are_reserved(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    first = refund(shop, purchase, 500, AMOUNT, 1)
    assert (first.status_code, first.json["message"]) == (202, "Refund pending")
    assert_error(refund(shop, purchase, AMOUNT, AMOUNT, 2), 409, "refundable_changed")
    assert refund(shop, purchase, AMOUNT - 500, AMOUNT - 500, 2).status_code == 202
    assert_error(shop.refund(purchase), 400, "purchase_not_refundable")
    assert amounts(sandbox, payment) == [500, AMOUNT - 500]

    sandbox.settle(first.json["refund"]["stripeRefundId"], "succeeded")
    assert refund(shop, purchase, 500, AMOUNT, 1).json["replayed"] is True
    assert shop.status_of(purchase) == "completed"
    sandbox.settle(sandbox.refunds(payment)[-1]["id"], "succeeded")
    send(shop, sandbox.events[-1])
    assert shop.status_of(purchase) == "refunded"


def test_list_shows_what_each_purchase_got_back(shop: Shop, database: Any, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT, "eur")
    named, other = shop.add_purchase(payment), shop.add_purchase(payment)
    whole, untouched = shop.add_purchase(sandbox.create_payment(700)), shop.add_purchase(None)
    refund(shop, named, 500, AMOUNT, 1)
    shop.refund(whole)
    sandbox.settle(refund(shop, other, 300, AMOUNT - 500, 2).json["refund"]["stripeRefundId"], "failed")
    send(shop, sandbox.events[-1])
    shown = list_purchases(shop)
    assert [(shown[each]["refundedAmount"], shown[each]["refundedCurrency"]) for each in (named, other)] == [
        (500, "eur"),
        (0, "eur"),
    ]
    assert (shown[whole]["refundedAmount"], shown[untouched]["refundedAmount"]) == (700, 0)
    refund(shop, other, AMOUNT - 500, AMOUNT - 500, 3)
    assert list_purchases(shop)[other]["refundedAmount"] == AMOUNT - 500
    database.flask_refunds.update_one({"_id": f"{payment}:3"}, {"$set": {"status": "unheard of"}})
    assert list_purchases(shop)[other]["refundedAmount"] is None
    plain = make_shop(database, sandbox, REFUNDS_ALLOW_PARTIAL=False)
    assert "refundedAmount" not in list_purchases(plain)[named]


@pytest.mark.parametrize("kind", ["charge", "session"])
def test_list_shows_what_a_purchase_with_a_reference_got_back(
    shop: Shop, sandbox: StripeSandbox, kind: str
) -> None:
    payment = sandbox.create_payment(AMOUNT, "eur")
    referring, other = shop.add_purchase(refer(sandbox, kind, payment)), shop.add_purchase(payment)
    unknown, pending = (
        shop.add_purchase(refer(sandbox, kind, sandbox.create_payment(AMOUNT, card=PENDING_CARD)))
        for _ in range(2)
    )
    assert shop.refund(pending).status_code == 202
    refund(shop, referring, 500, AMOUNT, 1)
    refund(shop, other, 300, AMOUNT - 500, 2)
    shown, requests = list_purchases(shop), len(sandbox.requests)
    assert [shown[each]["refundedAmount"] for each in (referring, other, unknown)] == [500, 300, 0]
    assert [shown[each]["refundedCurrency"] for each in (referring, other, unknown)] == ["eur", "eur", None]
    assert [shown[each]["refundStatus"] for each in (referring, unknown, pending)] == [None, None, "pending"]
    list_purchases(shop)
    assert len(sandbox.requests) == requests


def list_purchases(shop: Shop) -> dict[ObjectId, Any]:
    """Return what the list says of each purchase."""
    listed = shop.client.get("/api/payments/admin/all", headers=shop.headers()).json["purchases"]
    return {ObjectId(each["_id"]): each["_refunds"] for each in listed}


# Refunds of the rest


def test_refund_without_amount_takes_the_rest(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase, other = shop.add_purchase(payment), shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1)
    assert [shop.status_of(each) for each in (purchase, other)] == ["completed", "completed"]
    answer = shop.refund(other)
    assert (answer.status_code, answer.json["refund"]["amount"]) == (200, AMOUNT - 500)
    assert answer.json["refund"]["isFull"] is False
    assert [shop.status_of(each) for each in (purchase, other)] == ["refunded", "refunded"]
    assert_error(shop.refund(purchase), 400, "purchase_not_refundable")


def test_refund_without_amount_beside_a_pending_part_takes_the_rest(
    database: Any, generous: StripeSandbox
) -> None:
    shop = make_shop(database, generous)
    payment = generous.create_payment(AMOUNT, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1)
    assert shop.refund(purchase).status_code == 202
    assert shop.refund(purchase).status_code == 202
    assert amounts(generous, payment) == [500, AMOUNT - 500]


def test_refund_without_amount_after_a_pending_part_of_everything_is_refused(
    database: Any, generous: StripeSandbox
) -> None:
    shop = make_shop(database, generous)
    payment = generous.create_payment(AMOUNT, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, AMOUNT, AMOUNT, 1)
    assert_error(shop.refund(purchase), 400, "purchase_not_refundable")
    assert amounts(generous, payment) == [AMOUNT]


# Purchases that are closed by a part


@pytest.mark.parametrize("cart", [1, 2])
def test_closing_part_marks_only_the_named_purchase(shop: Shop, sandbox: StripeSandbox, cart: int) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchases = [shop.add_purchase(payment) for _ in range(cart)]
    answer = refund(shop, purchases[0], 500, AMOUNT, 1, markRefunded=True)
    assert answer.json["purchase"]["status"] == "refunded"
    assert "hint" not in answer.json
    assert [shop.status_of(each) for each in purchases] == ["refunded", *["completed"] * (cart - 1)]
    assert refund(shop, purchases[0], 500, AMOUNT, 1, markRefunded=True).json["replayed"] is True
    assert_error(shop.refund(purchases[0]), 400, "purchase_not_refundable")
    refused = refund(shop, purchases[0], 5, AMOUNT - 500, 2)
    assert_error(refused, 400, "purchase_not_refundable")
    assert refused.json["refund"]["id"] == f"{payment}:1"
    assert amounts(sandbox, payment) == [500]


def test_closing_part_of_everything_marks_the_whole_cart(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    named, other = shop.add_purchase(payment), shop.add_purchase(payment)
    assert refund(shop, named, AMOUNT, AMOUNT, 1, markRefunded=True).status_code == 200
    assert [shop.status_of(each) for each in (named, other)] == ["refunded", "refunded"]


def test_closed_purchase_stays_refunded_when_another_part_fails(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    named, other = shop.add_purchase(payment), shop.add_purchase(payment)
    refund(shop, named, 500, AMOUNT, 1, markRefunded=True)
    shop.refund(other)
    assert [shop.status_of(each) for each in (named, other)] == ["refunded", "refunded"]
    closing, rest = sandbox.refunds(payment)

    sandbox.settle(rest["id"], "failed")
    send(shop, sandbox.events[-1])
    assert [shop.status_of(each) for each in (named, other)] == ["refunded", "completed"]

    sandbox.settle(closing["id"], "failed")
    send(shop, sandbox.events[-1])
    assert [shop.status_of(each) for each in (named, other)] == ["completed", "completed"]


def test_purchase_that_the_app_marked_is_left_when_a_part_fails(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    named, other = shop.add_purchase(payment), shop.add_purchase(payment)
    refund(shop, named, 500, AMOUNT, 1)
    shop.db.purchases.update_one({"_id": other}, {"$set": {"status": "refunded"}})
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    send(shop, sandbox.events[-1])
    assert [shop.status_of(each) for each in (named, other)] == ["completed", "refunded"]


def test_pending_closing_part_marks_the_purchase_when_it_succeeds(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT, card=PENDING_CARD)
    purchase = shop.add_purchase(payment)
    assert refund(shop, purchase, 500, AMOUNT, 1, markRefunded=True).status_code == 202
    assert refund(shop, purchase, 300, AMOUNT - 500, 2).status_code == 202
    assert shop.status_of(purchase) == "completed"
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "succeeded")
    send(shop, sandbox.events[-1])
    assert shop.status_of(purchase) == "refunded"


def test_part_of_a_purchase_that_only_the_app_marked_is_refused(shop: Shop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(AMOUNT), status="refunded")
    answer = refund(shop, purchase, 500, AMOUNT)
    assert_error(answer, 400, "purchase_not_refundable")
    assert answer.json.get("refund") is None
    assert sandbox.requests == []


def test_part_of_an_unknown_purchase_is_not_found(shop: Shop) -> None:
    assert_error(refund(shop, ObjectId(), 500, AMOUNT), 404, "purchase_not_found")


def test_closed_purchase_that_mongodb_rejects_is_marked_when_the_rule_is_gone(
    shop: Shop, database: Any, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase, other = shop.add_purchase(payment), shop.add_purchase(payment)
    require_invoice(database)
    answer = refund(shop, purchase, 500, AMOUNT, 1, markRefunded=True)
    assert (answer.status_code, answer.json["purchase"]["status"]) == (200, "completed")
    assert "rejected" in answer.json["hint"]
    verify(shop, f"{payment}:1")
    assert shop.records()[0]["review"]["code"] == "purchase_not_updated"
    drop_validator(database)
    verify(shop, f"{payment}:1")
    assert [shop.status_of(each) for each in (purchase, other)] == ["refunded", "completed"]
    assert shop.records()[0]["review"] is None


def test_closed_purchase_that_the_app_completes_again_is_left_alone(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1, markRefunded=True)
    verify(shop, f"{payment}:1")
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "completed"}})
    reconcile(shop, "--full")
    assert shop.status_of(purchase) == "completed"
    assert shop.refund(purchase).json["refund"]["amount"] == AMOUNT - 500  # the shop gives its fee back, too
    assert shop.status_of(purchase) == "refunded"


def test_rest_of_a_closed_purchase_is_refunded_as_a_part(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    refund(shop, purchase, 500, AMOUNT, 1, markRefunded=True)
    shop.db.purchases.update_one({"_id": purchase}, {"$set": {"status": "completed"}})
    assert refund(shop, purchase, AMOUNT - 500, AMOUNT - 500, 2).status_code == 200
    assert amounts(sandbox, payment) == [500, AMOUNT - 500]
    assert shop.status_of(purchase) == "refunded"


# Signals


@pytest.mark.parametrize("card", ["4242424242424242", PENDING_CARD])
def test_signals_have_the_amount_of_the_part_and_the_purchase_says_whether_it_is_done(
    shop: Shop, sandbox: StripeSandbox, card: str
) -> None:
    payment = sandbox.create_payment(AMOUNT, "eur", card=card)
    purchase, other = shop.add_purchase(payment), shop.add_purchase(payment)
    sent: list[Any] = []

    def receive(sender: Any, refund: Any, refund_id: str, **extra: Any) -> None:
        done = [str(each) for each in refund.purchase_ids if shop.status_of(each) == "refunded"]
        sent.append((refund.status, refund.amount, refund.amount_text, refund.is_full, done))

    with refund_succeeded.connected_to(receive), refund_failed.connected_to(receive):
        for amount, left, closes in ((500, AMOUNT, False), (700, AMOUNT - 500, True)):
            made = refund(shop, purchase, amount, left, markRefunded=closes).json["refund"]
            settle(shop, sandbox, made, "succeeded")
        made = shop.refund(other).json["refund"]
        settle(shop, sandbox, made, "succeeded")
        settle(shop, sandbox, made, "failed")
    assert sent == [
        ("succeeded", 500, "5.00 EUR", False, []),
        ("succeeded", 700, "7.00 EUR", False, [str(purchase)]),
        ("succeeded", 1799, "17.99 EUR", False, [str(other), str(purchase)]),
        ("failed", 1799, "17.99 EUR", False, [str(purchase)]),
    ]


def settle(shop: Shop, sandbox: StripeSandbox, shown: Any, status: str) -> None:
    """Let Stripe settle a refund, unless it has that status, and send the event."""
    if sandbox.refund(shown["stripeRefundId"])["status"] != status:
        sandbox.settle(shown["stripeRefundId"], status)
        send(shop, sandbox.events[-1])


def test_failed_part_on_a_connected_account_is_retried_there(database: Any, sandbox: StripeSandbox) -> None:
    options = {"REFUNDS_PURCHASE_FIELDS": {"stripe_account": "seller.account"}}
    shop = make_shop(database, sandbox, **options)
    payment = sandbox.create_payment(AMOUNT, account=SELLER)
    purchase = shop.add_purchase(payment, seller={"account": SELLER})
    failed = refund(shop, purchase, 500, AMOUNT, 1).json["refund"]
    sandbox.settle(failed["stripeRefundId"], "failed")
    reconcile(shop, "--full")
    before = len(sandbox.requests)
    result = shop.flask("resolve", failed["id"], "--retry", "--comment", "by phone")
    assert result.exit_code == 0, result.output
    assert {each.account for each in sandbox.requests[before:]} == {SELLER}
    assert amounts(sandbox, payment) == [500]


def test_key_that_may_not_read_payments_refunds_no_part(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(AMOUNT)
    purchase = shop.add_purchase(payment)
    sandbox.inject("key_forbidden", method="GET", path="/v1/payment_intents/*")
    answer = refund(shop, purchase, 500, AMOUNT)
    assert_error(answer, 500, "stripe_key_rejected")
    assert "permission to read Payment Intents" in answer.json["hint"]
    assert shop.records() == sandbox.refunds(payment) == []


@pytest.mark.parametrize("kind", ["charge", "session"])
def test_part_of_a_payment_on_a_connected_account_is_refunded_there(
    database: Any, sandbox: StripeSandbox, kind: str
) -> None:
    options = {"REFUNDS_PURCHASE_FIELDS": {"stripe_account": "seller.account"}}
    shop = make_shop(database, sandbox, **options)
    payment = sandbox.create_payment(AMOUNT, account=SELLER)
    purchase = shop.add_purchase(refer(sandbox, kind, payment), seller={"account": SELLER})
    for replayed in (None, True):
        answer = refund(shop, purchase, 500, AMOUNT, 1)
        assert (answer.status_code, answer.json.get("replayed")) == (200, replayed), answer.text
    assert {each.account for each in sandbox.requests} == {SELLER}
    assert refund(shop, purchase, AMOUNT - 500, AMOUNT - 500, 2).status_code == 200
    assert shop.status_of(purchase) == "refunded"
    assert amounts(sandbox, payment) == [500, AMOUNT - 500]


def test_options_of_the_app_are_sent_with_a_part(database: Any, sandbox: StripeSandbox) -> None:
    sandbox.connect_account(SELLER)
    payment = sandbox.create_payment(AMOUNT, transfer_to=SELLER)
    shop = make_shop(database, sandbox, REFUNDS_STRIPE_OPTIONS={"reverse_transfer": True})
    purchase = shop.add_purchase(payment)
    assert refund(shop, purchase, 500, AMOUNT, 1).status_code == 200
    assert shop.records()[0]["request"]["amount"] == 500
    assert sandbox.transfer(payment)["amount_reversed"] == 500
