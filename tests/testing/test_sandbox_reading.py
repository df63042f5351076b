"""Reading refunds, charges and the balance."""

from __future__ import annotations

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient


@pytest.fixture
def refund_ids(sandbox: StripeSandbox, payment: str) -> list[str]:
    """The IDs of five refunds of one payment, newest first. Another payment has a refund too."""
    ids = []
    for _ in range(5):
        ids.append(sandbox.dashboard_refund(payment, 10)["id"])
        sandbox.advance(100)
    sandbox.dashboard_refund(sandbox.create_payment(1))
    return ids[::-1]


def list_ids(stripe_api: HttpClient, **params: object) -> tuple[list[str], bool]:
    page = stripe_api.get("/v1/refunds", params).json
    assert (page["object"], page["url"]) == ("list", "/v1/refunds")
    return [refund["id"] for refund in page["data"]], page["has_more"]


def test_refunds_of_payment_intent_are_newest_first(
    stripe_api: HttpClient, payment: str, refund_ids: list[str]
) -> None:
    assert list_ids(stripe_api, payment_intent=payment) == (refund_ids, False)


def test_refunds_are_filtered_by_charge(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, refund_ids: list[str]
) -> None:
    assert list_ids(stripe_api, charge=sandbox.charge(payment)["id"]) == (refund_ids, False)


def test_all_refunds_are_listed_without_filter(stripe_api: HttpClient, refund_ids: list[str]) -> None:
    assert list_ids(stripe_api)[0][1:] == refund_ids


def test_refunds_of_unknown_payment_intent_is_404(stripe_api: HttpClient) -> None:
    assert stripe_api.get("/v1/refunds", {"payment_intent": "pi_x"}).status == 404


def test_cursors_page_forwards_and_backwards(
    stripe_api: HttpClient, payment: str, refund_ids: list[str]
) -> None:
    query = {"payment_intent": payment, "limit": 2}
    assert list_ids(stripe_api, **query) == (refund_ids[:2], True)
    assert list_ids(stripe_api, **query, starting_after=refund_ids[1]) == (refund_ids[2:4], True)
    assert list_ids(stripe_api, **query, starting_after=refund_ids[3]) == (refund_ids[4:], False)
    assert list_ids(stripe_api, **query, ending_before=refund_ids[3]) == (refund_ids[1:3], True)
    assert list_ids(stripe_api, **query, ending_before=refund_ids[2]) == (refund_ids[:2], False)


def test_default_page_size_is_ten(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    for _ in range(11):
        sandbox.dashboard_refund(payment, 1)

    assert [len(ids) for ids in (list_ids(stripe_api)[0], list_ids(stripe_api, limit=100)[0])] == [10, 11]


def test_created_filter_bounds_are_applied(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str, refund_ids: list[str]
) -> None:
    middle = sandbox.refund(refund_ids[2])["created"]
    found = {
        name: list_ids(stripe_api, payment_intent=payment, **{f"created{name}": middle})[0]
        for name in ("", "[gt]", "[gte]", "[lt]", "[lte]")
    }
    assert found == {
        "": refund_ids[2:3],
        "[gt]": refund_ids[:2],
        "[gte]": refund_ids[:3],
        "[lt]": refund_ids[3:],
        "[lte]": refund_ids[2:],
    }


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"starting_after": "re_x"},
        {"created[around]": 5},
        {"created": "now"},
        {"status": "pending"},
    ],
)
def test_invalid_list_parameter_is_rejected(stripe_api: HttpClient, params: dict[str, object]) -> None:
    assert stripe_api.get("/v1/refunds", params).status in (400, 404)


def test_expand_replaces_ids_with_objects(
    stripe_api: HttpClient, payment: str, refund_ids: list[str]
) -> None:
    params = {"expand[0]": "charge.payment_intent", "expand[1]": "payment_intent"}
    refund = stripe_api.get(f"/v1/refunds/{refund_ids[0]}", params).json
    page = stripe_api.get("/v1/refunds", {"expand[]": "data.charge", "limit": 1}).json

    assert refund["charge"]["payment_intent"]["id"] == refund["payment_intent"]["id"] == payment
    assert page["data"][0]["charge"]["object"] == "charge"


def test_unknown_object_is_404(stripe_api: HttpClient) -> None:
    for path in ("refunds/re_x", "charges/ch_x", "payment_intents/pi_x", "events/evt_x"):
        response = stripe_api.get(f"/v1/{path}")
        assert (response.status, response.error["code"]) == (404, "resource_missing")


def test_charge_endpoint_returns_charge(sandbox: StripeSandbox, stripe_api: HttpClient, payment: str) -> None:
    charge = sandbox.charge(payment)

    assert stripe_api.get(f"/v1/charges/{charge['id']}").json == charge


def test_balance_is_paid_minus_refunded_by_currency(
    sandbox: StripeSandbox, stripe_api: HttpClient, payment: str
) -> None:
    sandbox.dashboard_refund(payment, 300)
    sandbox.create_payment(7, "eur")

    available = stripe_api.get("/v1/balance").json["available"]
    assert [(each["currency"], each["amount"]) for each in available] == [("eur", 7), ("usd", 1700)]


def test_changing_a_returned_copy_does_not_change_account(sandbox: StripeSandbox, payment: str) -> None:
    refund = sandbox.dashboard_refund(payment)
    refund["metadata"]["key"] = "x"
    sandbox.refunds(payment)[0]["status"] = "failed"

    assert (sandbox.refund(refund["id"])["metadata"], sandbox.money_refunded(payment)) == ({}, 2000)


def test_unknown_id_in_python_is_lookup_error(sandbox: StripeSandbox) -> None:
    for read in (sandbox.refund, sandbox.payment_intent, sandbox.charge, sandbox.dashboard_refund):
        with pytest.raises(LookupError, match="No such"):
            read("x")
    for count in (sandbox.refunds, sandbox.money_refunded, sandbox.assert_refunded_once):
        for unknown in ("pi_x", "ch_x", "pi_x:1"):
            with pytest.raises(LookupError, match=f"No such .*{unknown}"):
                count(unknown)
