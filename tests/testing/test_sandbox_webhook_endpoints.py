"""The list of webhook endpoints, and the Date header."""

from __future__ import annotations

import contextlib
from email.utils import parsedate_to_datetime

import pytest

from flask_refunds.testing import StripeSandbox
from tests.testing.http_client import HttpClient


def test_endpoints_are_listed_newest_first_without_secrets(
    sandbox: StripeSandbox, stripe_api: HttpClient
) -> None:
    sandbox.add_webhook("https://shop.example/a", "whsec_a", ["refund.created"])
    sandbox.add_webhook("https://shop.example/b", "whsec_b")

    response = stripe_api.get("/v1/webhook_endpoints", {"limit": 1})

    assert (response.json["object"], response.json["has_more"]) == ("list", True)
    [newest] = response.json["data"]
    assert newest["object"] == "webhook_endpoint"
    assert newest["id"].startswith("we_")
    assert (newest["url"], newest["enabled_events"], newest["status"]) == (
        "https://shop.example/b",
        ["*"],
        "enabled",
    )
    assert b"whsec" not in response.raw
    more = stripe_api.get("/v1/webhook_endpoints", {"starting_after": newest["id"]}).json["data"]
    assert [each["enabled_events"] for each in more] == [["refund.created"]]


def test_endpoints_are_listed_in_their_mode_only(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    sandbox.add_webhook("https://shop.example/live", "whsec_a", livemode=True)
    sandbox.add_webhook("https://shop.example/both", "whsec_a")
    with contextlib.closing(HttpClient(sandbox.url, "sk_live_123")) as live:
        urls = [each["url"][-4:] for each in live.get("/v1/webhook_endpoints").json["data"]]
    assert urls == ["both", "live"]
    [both] = stripe_api.get("/v1/webhook_endpoints").json["data"]
    assert (both["url"][-4:], both["livemode"]) == ("both", False)


@pytest.mark.parametrize("livemode", [False, True])
def test_endpoint_receives_events_of_its_mode_only(sandbox: StripeSandbox, livemode: bool) -> None:
    sandbox.add_webhook("http://127.0.0.1:1/", "whsec_a", ["charge.succeeded"], livemode=livemode)
    for mode in (False, True):
        sandbox.create_payment(100, livemode=mode)
    sandbox.wait_delivered()
    [delivery] = sandbox.deliveries
    [event] = [each for each in sandbox.events if each["id"] == delivery.event_id]
    assert event["livemode"] is livemode


def test_reset_removes_endpoints(sandbox: StripeSandbox, stripe_api: HttpClient) -> None:
    sandbox.add_webhook("https://shop.example/", "whsec_a")
    sandbox.reset()
    assert stripe_api.get("/v1/webhook_endpoints").json["data"] == []


def test_every_response_has_sandbox_time_in_date_header(
    sandbox: StripeSandbox, stripe_api: HttpClient
) -> None:
    sandbox.advance(86400)
    for path in ("/v1/balance", "/v1/refunds/re_none", "/v1/nothing"):
        date = parsedate_to_datetime(stripe_api.get(path).headers["Date"]).timestamp()
        assert date == pytest.approx(sandbox.now(), abs=2)
