"""Payment methods without a way back: the customer's e-mail address, and where the money goes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from flask_refunds import refund_purchase
from flask_refunds.testing import StripeSandbox
from tests.integration.unfinished import age, reconcile
from tests.shop import Shop, make_app

EMAIL = "ann.o'neil+refunds@example.com"


def konbini(shop: Shop, sandbox: StripeSandbox, **purchase: Any) -> tuple[str, Any]:
    payment = sandbox.create_payment(1200, currency="jpy", method="konbini")
    return payment, shop.add_purchase(payment, **purchase)


def preview(shop: Shop, purchase: Any) -> dict[str, Any]:
    response = shop.client.get(f"/api/payments/admin/refund/{purchase}", headers=shop.headers())
    assert response.status_code == 200, response.text
    payment: dict[str, Any] = response.json["payment"]
    return payment


def stored(shop: Shop) -> Any:
    return shop.records()[-1]["request"].get("instructions_email")


def test_refund_without_an_address_is_rejected_and_can_be_tried_with_one(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    _, purchase = konbini(shop, sandbox)
    without = shop.refund(purchase)
    assert (without.status_code, without.json["refund"]["failure"]["code"]) == (400, "parameter_missing")
    response = shop.refund(purchase, json={"instructionsEmail": EMAIL, "reason": "duplicate"})
    assert (response.status_code, response.json["refund"]["status"]) == (202, "requires_action")
    assert response.json["refund"]["details"]["instructionsEmail"] == EMAIL
    assert response.json["refund"]["details"]["actionEmail"] == EMAIL


def test_python_command_and_options_name_the_address(database: Any, sandbox: StripeSandbox) -> None:
    options = {"instructions_email": "shop@example.com"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_STRIPE_OPTIONS=options)
    shop = Shop(app, database)
    assert shop.refund(konbini(shop, sandbox)[1]).status_code == 202
    assert stored(shop) == "shop@example.com"
    assert shop.refund(konbini(shop, sandbox)[1], json={"instructionsEmail": EMAIL}).status_code == 202
    assert stored(shop) == EMAIL
    with app.app_context():
        refund_purchase(konbini(shop, sandbox)[1], instructions_email="py@example.com")
    assert stored(shop) == "py@example.com"
    _, purchase = konbini(shop, sandbox)
    result = shop.flask("refund", str(purchase), "--instructions-email", "cli@example.com")
    assert (result.exit_code, stored(shop)) == (0, "cli@example.com")
    assert shop.flask("refund", str(purchase), "--instructions-email", "cli").exit_code == 2


def test_address_is_sent_again_as_stored(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = konbini(shop, sandbox)
    sandbox.inject("request_lost", times=2)
    assert shop.refund(purchase, json={"instructionsEmail": EMAIL}).json["message"] == "Refund submitted"
    age(shop, minutes=2)
    other = shop.refund(purchase, json={"instructionsEmail": "other@example.com"})
    assert other.json["refund"]["details"]["instructionsEmail"] == EMAIL
    assert len(sandbox.refunds(payment)) == 1


def test_retry_keeps_the_address(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = konbini(shop, sandbox)
    shop.refund(purchase, json={"instructionsEmail": EMAIL})
    refund = sandbox.refunds(payment)[0]["id"]
    sandbox.settle(refund, "succeeded")
    reconcile(shop, "--full")
    sandbox.settle(refund, "failed")
    reconcile(shop, "--full")
    result = shop.flask("resolve", f"{payment}:1", "--retry", "--comment", "Asked again.")
    assert (result.exit_code, stored(shop)) == (0, EMAIL)


def test_equal_part_with_another_address_is_another_refund(database: Any, sandbox: StripeSandbox) -> None:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_ALLOW_PARTIAL=True)
    shop = Shop(app, database)
    _, purchase = konbini(shop, sandbox)
    part = {"amount": 500, "refundable": 1200, "number": 1, "instructionsEmail": EMAIL}
    assert shop.refund(purchase, json=part).status_code == 202
    again = shop.refund(purchase, json=part)
    assert (again.status_code, again.json["replayed"]) == (202, True)
    other = shop.refund(purchase, json={**part, "instructionsEmail": "other@example.com"})
    assert (other.status_code, other.json["code"]) == (409, "refundable_changed")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "ann@@example.com",
        "ann @example.com",
        "ann@example.com\n",
        "ann@exam\u0000ple.com",
        "ann\u2028@example.com",
        "\ud800@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "e" * 251,
        7,
        ["ann@example.com"],
        {"address": "ann@example.com"},
        True,
    ],
)
def test_what_is_not_an_address_refunds_nothing(shop: Shop, sandbox: StripeSandbox, address: Any) -> None:
    _, purchase = konbini(shop, sandbox)
    response = shop.refund(purchase, json={"instructionsEmail": address})
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")
    assert response.json["error"].startswith("instructionsEmail must be an e-mail address")
    assert shop.records() == []


def test_longest_address_is_taken(shop: Shop, sandbox: StripeSandbox) -> None:
    _, purchase = konbini(shop, sandbox)
    address = "ann@" + "e" * 246 + ".com"
    assert shop.refund(purchase, json={"instructionsEmail": address}).status_code == 202
    assert stored(shop) == address


def test_address_is_never_logged(
    shop: Shop, sandbox: StripeSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_refunds")
    _, purchase = konbini(shop, sandbox)
    sandbox.inject("service_unavailable", method="POST", path="/v1/refunds", times=2)
    shop.refund(purchase, json={"instructionsEmail": EMAIL})
    shop.refund(purchase, json={"instructionsEmail": "not an address"})
    age(shop, minutes=2)
    shop.refund(purchase, json={"instructionsEmail": EMAIL})
    records = [each for each in caplog.records if each.name == "flask_refunds"]
    assert records
    assert not any("neil" in f"{each.getMessage()} {vars(each)}" for each in records)


# The preview


def test_preview_of_a_method_without_a_way_back_asks_for_an_address(
    shop: Shop, sandbox: StripeSandbox
) -> None:
    _, purchase = konbini(shop, sandbox, user=shop.add_user(email="bob@example.org"))
    payment = preview(shop, purchase)
    assert (payment["method"], payment["needsEmail"], payment["card"]) == ("konbini", True, None)
    assert payment["customerEmail"] == "bob@example.org"
    assert payment["goesTo"] == (
        "The money goes to a bank account, for which Stripe asks the customer by e-mail."
    )


def test_preview_of_a_card_names_it(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = preview(shop, shop.add_purchase(sandbox.create_payment(1999)))
    assert (payment["method"], payment["needsEmail"], payment["customerEmail"]) == ("card", False, None)
    assert payment["goesTo"] == "The money goes back to the Visa card ending in 4242."


def test_address_of_the_payment_comes_before_the_users(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, purchase = konbini(shop, sandbox, user=shop.add_user(email="bob@example.org"))
    account = sandbox._account(False)
    [charge] = [each for each in account._charges.values() if each["payment_intent"] == payment]
    charge["receipt_email"] = "receipts@example.org"
    assert preview(shop, purchase)["customerEmail"] == "receipts@example.org"
    charge["billing_details"]["email"] = "paid@example.org"
    assert preview(shop, purchase)["customerEmail"] == "paid@example.org"
    charge["billing_details"] = charge["payment_method_details"] = ["odd"]
    charge["receipt_email"] = 7
    odd = preview(shop, purchase)
    assert (odd["customerEmail"], odd["method"], odd["needsEmail"]) == ("bob@example.org", None, False)


def test_address_is_of_the_purchase_that_is_previewed(shop: Shop, sandbox: StripeSandbox) -> None:
    payment, first = konbini(shop, sandbox, user=shop.add_user(email="bob@example.org"))
    second = shop.add_purchase(payment, user=shop.add_user(email="cy@example.org"))
    third = shop.add_purchase(payment, user=shop.add_user(email=["odd"]))
    shown = [preview(shop, each)["customerEmail"] for each in (first, second, third)]
    assert shown == ["bob@example.org", "cy@example.org", None]


@pytest.mark.parametrize("method", ["boleto", "customer_balance", "konbini", "multibanco", "promptpay"])
def test_methods_without_a_way_back_are_those_of_the_sandbox(
    shop: Shop, sandbox: StripeSandbox, method: str
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1200, method=method))
    assert preview(shop, purchase)["needsEmail"]
    assert shop.refund(purchase).json["refund"]["failure"]["code"] == "parameter_missing"


@pytest.mark.parametrize("method", ["ideal", "klarna", "us_bank_account", "paypal", "a_new_one"])
def test_methods_with_a_way_back_need_no_address(shop: Shop, sandbox: StripeSandbox, method: str) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1200, method=method))
    payment = preview(shop, purchase)
    assert (payment["needsEmail"], payment["goesTo"].startswith("The money goes ")) == (False, True)
    assert shop.refund(purchase).status_code == 200


# Disputes


def dispute_requests(sandbox: StripeSandbox) -> int:
    return [each.path for each in sandbox.requests].count("/v1/disputes")


@pytest.mark.parametrize(("inquiry", "dispute"), [(True, "inquiry"), (False, "chargeback")])
@pytest.mark.parametrize("intent", [True, False])
def test_preview_tells_an_inquiry_from_a_chargeback(
    shop: Shop, sandbox: StripeSandbox, inquiry: bool, dispute: str, intent: bool
) -> None:
    payment = sandbox.create_payment(1999, intent=intent)
    purchase = shop.add_purchase(payment)
    sandbox.dispute(payment, inquiry=inquiry)
    shown = preview(shop, purchase)
    assert (shown["disputed"], shown["dispute"]) == (True, dispute)
    assert dispute_requests(sandbox) == 1
    assert shop.refund(purchase).status_code == (200 if inquiry else 400)
    assert dispute_requests(sandbox) == 1


def test_chargeback_after_an_inquiry_is_one(shop: Shop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    for inquiry in (True, False, True):
        sandbox.dispute(payment, inquiry=inquiry)
    assert preview(shop, purchase)["dispute"] == "chargeback"


def test_undisputed_payment_costs_no_request(shop: Shop, sandbox: StripeSandbox) -> None:
    shown = preview(shop, shop.add_purchase(sandbox.create_payment(1999)))
    assert (shown["disputed"], shown["dispute"], dispute_requests(sandbox)) == (False, None, 0)


@pytest.mark.parametrize("fault", ["key_forbidden", "service_unavailable", "rate_limited", "wrong_object"])
def test_dispute_that_stripe_does_not_show_is_not_told(
    shop: Shop, sandbox: StripeSandbox, fault: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    sandbox.dispute(payment)
    sandbox.inject(fault, method="GET", path="/v1/disputes", times=None)
    shown = preview(shop, purchase)
    assert (shown["disputed"], shown["dispute"]) == (True, None)


def test_dispute_is_read_on_the_connected_account(database: Any, sandbox: StripeSandbox) -> None:
    fields = {"stripe_account": "seller"}
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, REFUNDS_PURCHASE_FIELDS=fields)
    shop = Shop(app, database)
    payment = sandbox.create_payment(1999, account="acct_1Seller00000000")
    sandbox.dispute(payment)
    purchase = shop.add_purchase(payment, seller="acct_1Seller00000000")
    assert preview(shop, purchase)["dispute"] == "chargeback"
    assert {each.account for each in sandbox.requests} == {"acct_1Seller00000000"}
