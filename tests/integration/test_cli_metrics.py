"""``flask refunds metrics``: the refund report as JSON and as tables."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop


def make_refunds(shop: Shop, sandbox: StripeSandbox) -> None:
    """Make refunds in two currencies, one of them without decimals, and a pending one."""
    for amount, currency in ((1999, "usd"), (1, "usd"), (500, "jpy")):
        assert shop.refund(shop.add_purchase(sandbox.create_payment(amount, currency))).status_code == 200
    pending = sandbox.create_payment(1000, card="4000000000007726")
    assert shop.refund(shop.add_purchase(pending)).status_code == 202


def test_json_report_equals_the_http_report(shop: Shop, sandbox: StripeSandbox) -> None:
    make_refunds(shop, sandbox)
    path = "/api/payments/admin/refunds/metrics?from=2024-01-01&to=2031-12-31"
    report = shop.client.get(path, headers=shop.headers()).json
    result = shop.flask("metrics", "--from", "2024-01-01", "--to", "2031-12-31", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, report)
    assert report["total"]["currencies"]["jpy"]["amount"] == 500


def test_tables_show_amounts_in_major_units(shop: Shop, sandbox: StripeSandbox) -> None:
    make_refunds(shop, sandbox)
    output = shop.flask("metrics").stdout
    month = f"{datetime.now(timezone.utc):%Y-%m}"
    for name in (month, "total"):
        assert re.search(rf"^{name} +USD +2 +20\.00 +10\.00$", output, re.MULTILINE), output
        assert re.search(rf"^{name} +JPY +1 +500 +500$", output, re.MULTILINE), output
        assert re.search(rf"^{name} +75\.00% +0 +0 +\S+ s +\S+ s +\S+ s$", output, re.MULTILINE), output
    assert "Reasons      3 none\n" in output
    assert "Open now     1: 1 pending under 1h\n" in output
    assert "Need review  none\n" in output


def test_refunds_that_took_weeks_show_all_their_seconds(shop: Shop, sandbox: StripeSandbox) -> None:
    """As after the customer had to give an account."""
    for _ in range(2):
        assert shop.refund(shop.add_purchase(sandbox.create_payment(700))).status_code == 200
    settled = shop.db.flask_refunds.find_one()["settledAt"]
    for seconds, record in zip((1_234_567.5, 2_000_000), shop.records(), strict=True):
        times = {"settledAt": settled, "createdAt": settled - timedelta(seconds=seconds)}
        shop.db.flask_refunds.update_one({"_id": record["_id"]}, {"$set": times})
    output = shop.flask("metrics").stdout
    assert re.search(r"^total .* 1617283\.75 s +1617283\.5 s +2000000 s$", output, re.MULTILINE), output


def test_empty_ledger_has_a_total_of_0(shop: Shop) -> None:
    result = shop.flask("metrics")
    assert result.exit_code == 0
    assert re.search(r"^total +0$", result.stdout, re.MULTILINE)


def test_range_over_ten_years_is_rejected(shop: Shop) -> None:
    early = datetime.now(timezone.utc) - timedelta(days=4000)
    result = shop.flask("metrics", "--from", f"{early:%Y-%m-%d}")
    assert (result.exit_code, "at most ten years apart" in result.stderr) == (2, True)
