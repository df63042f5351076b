"""Refunds that reconcile has to finish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from click.testing import Result

from flask_refunds.testing import StripeSandbox
from tests.shop import Shop


def unknown(shop: Shop, sandbox: StripeSandbox, fault: str = "response_lost") -> tuple[str, Any]:
    """Make a refund with an unknown outcome, and return its payment and its purchase."""
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    injected = sandbox.inject(fault, times=2)
    assert shop.refund(purchase).json["message"] == "Refund submitted"
    assert injected.hits == 2
    return payment, purchase


def age(shop: Shop, **by: float) -> None:
    """Make every refund record older."""
    for record in shop.records():
        fields = ("createdAt", "updatedAt", "lookedAt", "leaseExpiresAt", "unwrittenSince")
        times = {name: record[name] - timedelta(**by) for name in fields if record.get(name)}
        if record.get("review"):
            times["review.since"] = record["review"]["since"] - timedelta(**by)
        shop.db.flask_refunds.update_one({"_id": record["_id"]}, {"$set": times})


def reconcile(shop: Shop, *arguments: str) -> Result:
    """Run ``flask refunds reconcile`` for all unfinished refunds, however recent."""
    return shop.flask("reconcile", "--older-than", "0", "--rate", "1000", *arguments)
