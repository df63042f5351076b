"""``flask refunds metrics``: the same figures as over HTTP, for people in major units."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop


def trade(shop: Shop, sandbox: StripeSandbox) -> None:
    """Refunds in two currencies, one of them without decimals; one that is pending."""
    for amount, currency in ((1999, "usd"), (1, "usd"), (500, "jpy")):
        assert shop.refund(shop.add_purchase(sandbox.create_payment(amount, currency))).status_code == 200
    waiting = sandbox.create_payment(1000, card="4000000000007726")
    assert shop.refund(shop.add_purchase(waiting)).status_code == 202


def test_for_programs_as_over_http(shop: Shop, sandbox: StripeSandbox) -> None:
    trade(shop, sandbox)
    path = "/api/payments/admin/refunds/metrics?from=2024-01-01&to=2031-12-31"
    answer = shop.client.get(path, headers=shop.headers()).json
    said = shop.flask("metrics", "--from", "2024-01-01", "--to", "2031-12-31", "--json")
    assert (said.exit_code, json.loads(said.stdout)) == (0, answer)
    assert answer["total"]["currencies"]["jpy"]["amount"] == 500


def test_for_people(shop: Shop, sandbox: StripeSandbox) -> None:
    trade(shop, sandbox)
    said = shop.flask("metrics").stdout
    month = f"{datetime.now(timezone.utc):%Y-%m}"
    for name in (month, "total"):
        assert re.search(rf"^{name} +USD +2 +20\.00 +10\.00$", said, re.MULTILINE), said
        assert re.search(rf"^{name} +JPY +1 +500 +500$", said, re.MULTILINE), said
        assert re.search(rf"^{name} +75\.00% +0 +0 +\S+ s +\S+ s +\S+ s$", said, re.MULTILINE), said
    assert "Reasons        3 none\n" in said
    assert "Open now       1: 1 pending under 1h\n" in said
    assert "Need a person  none\n" in said


def test_a_shop_without_refunds(shop: Shop) -> None:
    said = shop.flask("metrics")
    assert said.exit_code == 0
    assert re.search(r"^total +0$", said.stdout, re.MULTILINE)


def test_a_range_that_is_too_long(shop: Shop) -> None:
    early = datetime.now(timezone.utc) - timedelta(days=4000)
    result = shop.flask("metrics", "--from", f"{early:%Y-%m-%d}")
    assert (result.exit_code, "at most ten years apart" in result.stderr) == (2, True)
