"""The storefront over HTTP, in its own process without configuration."""

from __future__ import annotations

import urllib.request

import pytest

from tests.examples.storefront import CARD_DECLINED, Storefront, call


def test_printed_curl_command_refunds_once(storefront: Storefront) -> None:
    url, authorization = storefront.curl
    status, body = call("POST", url, headers={"Authorization": authorization})
    assert (status, body["purchase"]["status"]) == (200, "refunded")
    status, body = call("POST", url, headers={"Authorization": authorization})
    assert (status, body["code"]) == (400, "purchase_not_refundable")


def test_printed_accounts_can_sign_in(storefront: Storefront) -> None:
    assert len(storefront.accounts) == 3
    for email in storefront.accounts:
        storefront.sign_in(email.partition("@")[0])


@pytest.mark.parametrize("path", ["/", "/sign-in", "/purchases", "/admin", "/static/admin.js"])
def test_pages_are_served(storefront: Storefront, path: str) -> None:
    with urllib.request.urlopen(storefront.url + path) as response:
        assert response.status == 200
        assert response.read()


def test_pages_allow_scripts_from_this_server_only(storefront: Storefront) -> None:
    with urllib.request.urlopen(f"{storefront.url}/admin") as response:
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert b"onclick" not in response.read()


def test_demo_data_has_purchases_in_every_status(storefront: Storefront) -> None:
    _, body = storefront.sign_in("admin").call("GET", "/api/admin/purchases")
    purchases = body["purchases"]
    assert {"pending", "completed", "failed"} <= {purchase["status"] for purchase in purchases}
    assert {"usd", "eur", "jpy"} <= {purchase["currency"] for purchase in purchases}
    assert {"4242", "7726", "5126", "0259", "0002"} <= {purchase["cardLast4"] for purchase in purchases}
    assert len({purchase["paymentIntent"] for purchase in purchases}) < len(purchases)


def test_event_completes_purchase_and_refund_revokes_access(storefront: Storefront) -> None:
    ada, content = storefront.sign_in("ada"), storefront.content_id("Bonsai for Beginners")
    assert ada.call("GET", f"/api/contents/{content}")[0] == 403

    status, body = ada.buy(content, key="a-bonsai-for-ada")
    assert (status, [each["status"] for each in body["purchases"]]) == (201, ["pending"])
    [purchase] = ada.wait_for_purchases(body["purchases"][0]["id"])
    assert (purchase["status"], purchase["amount"], purchase["currency"]) == ("completed", 6800, "jpy")
    assert ada.call("GET", f"/api/contents/{content}")[0] == 200

    status, body = storefront.sign_in("admin").refund(purchase["id"])
    assert (status, body["refund"]["status"]) == (200, "succeeded")
    [purchase] = ada.wait_for_purchases(purchase["id"])
    assert (purchase["status"], purchase["accessGranted"]) == ("refunded", False)
    assert ada.call("GET", f"/api/contents/{content}")[0] == 403


def test_refund_covers_all_purchases_of_the_payment(storefront: Storefront) -> None:
    ben = storefront.sign_in("ben")
    contents = [storefront.content_id(title) for title in ("Pruning Fruit Trees", "Saving Your Own Seed")]
    _, body = ben.buy(*contents, key="a-cart-of-two-for-ben")
    ids = [purchase["id"] for purchase in body["purchases"]]
    assert [purchase["status"] for purchase in ben.wait_for_purchases(*ids)] == ["completed", "completed"]

    status, body = storefront.sign_in("admin").refund(ids[0])
    assert (status, body["refund"]["amount"], sorted(body["refund"]["purchaseIds"])) == (
        200,
        6050,
        sorted(ids),
    )
    assert [purchase["status"] for purchase in ben.wait_for_purchases(*ids)] == ["refunded", "refunded"]


def test_declined_card_fails_purchase(storefront: Storefront) -> None:
    ben, content = storefront.sign_in("ben"), storefront.content_id("The Compost Handbook")
    before = {purchase["id"] for purchase in ben.purchases()}
    status, body = ben.buy(content, card=CARD_DECLINED, key="compost-declined")
    assert (status, body["error"]) == (402, "Your card was declined.")

    [new] = {purchase["id"] for purchase in ben.purchases()} - before
    [purchase] = ben.wait_for_purchases(new)
    assert (purchase["status"], purchase["accessGranted"]) == ("failed", False)
    status, body = storefront.sign_in("admin").refund(new)
    assert (status, body["code"]) == (400, "purchase_not_refundable")


def test_order_sent_twice_is_charged_once(storefront: Storefront) -> None:
    ada, content = storefront.sign_in("ada"), storefront.content_id("The Compost Handbook")
    before = len(ada.purchases())
    (status, first), (again, second) = (ada.buy(content, key="the-same-order-twice") for _ in range(2))
    assert (status, again) == (201, 201)
    assert first["purchases"][0]["id"] == second["purchases"][0]["id"]
    assert first["purchases"][0]["paymentIntent"] == second["purchases"][0]["paymentIntent"]
    assert len(ada.purchases()) == before + 1


def test_customer_sees_own_purchases_only(storefront: Storefront) -> None:
    _, body = storefront.sign_in("admin").call("GET", "/api/admin/purchases")
    for name in ("ada", "ben"):
        own = {each["id"] for each in body["purchases"] if each["user"]["email"] == f"{name}@shop.example"}
        assert {each["id"] for each in storefront.sign_in(name).purchases()} == own != set()


def test_customer_cannot_refund(storefront: Storefront) -> None:
    ada = storefront.sign_in("ada")
    status, body = ada.refund(ada.purchases()[0]["id"])
    assert (status, body["code"]) == (403, "admin_required")
    assert ada.call("GET", "/api/admin/purchases")[0] == 403
