"""The admin page of shops with other field names and status words."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.models import id_text
from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.integration.shapes import SHAPES, ShapedShop


@pytest.fixture(params=["nested", "numbers"])
def shop(request: pytest.FixtureRequest, database: Any, sandbox: StripeSandbox) -> ShapedShop:
    return ShapedShop(database, sandbox, SHAPES[request.param])


def test_purchase_is_listed_filtered_and_refunded(
    admin_page: AdminPage, shop: ShapedShop, sandbox: StripeSandbox
) -> None:
    shape = shop.shape
    shop.sell("pi_open", shape.pending)
    sold = shop.sell(sandbox.create_payment(1950, "eur"), shape.completed[0])
    shop.sell("pi_returned", shape.refunded)
    amount = "€19.50" if shape.unit == "minor" else "€1,950.00"
    admin_page.open()
    admin_page.wait_for_count(3)
    rows = admin_page.page.locator("tbody tr").all_inner_texts()
    statuses = ["refunded", "completed", id_text(shape.pending)]
    for row, status, day in zip(rows, statuses, ("Mar 4", "Mar 3", "Mar 2"), strict=True):
        for text in ("Pruning", "Ann", "ann@example.org", amount, status, day):
            assert text in row
    admin_page.page.get_by_label("Status").select_option(id_text(shape.completed[0]))
    admin_page.wait_for_count(1)
    admin_page.page.get_by_role("button", name="Refund: Pruning, Ann").click()
    admin_page.page.get_by_role("button", name="Refund €19.50").click()
    admin_page.page.get_by_text("Refunded.", exact=True).wait_for()
    assert shop.word_of(sold) == shape.refunded
    admin_page.page.get_by_role("button", name="Close").click()
    assert "refunded" in admin_page.page.locator("tbody tr").inner_text()
