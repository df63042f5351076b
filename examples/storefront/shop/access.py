"""Who may open what he bought, as refunds come and fail."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_refunds import refund_failed, refund_pending, refund_succeeded

from .orders import COMPLETED, REFUNDED


def init_app(app: Flask) -> None:
    """Listen to the refunds of this app."""
    for signal in (refund_pending, refund_succeeded, refund_failed):
        signal.connect(follow_refund, app)


def follow_refund(app: Flask, refund: Any, **extra: Any) -> None:
    """Let access follow the purchase: refunded, none; completed again because the refund failed, given back.

    A receiver may be called again with the same refund, or with an older one, so it acts on what the purchase
    is now rather than on what the refund was.
    """
    purchases = app.config["REFUNDS_MONGO"].purchases
    named = {"_id": {"$in": list(refund.purchase_ids)}}
    purchases.update_many(named, {"$set": {"refundStatus": refund.status.value}})
    purchases.update_many({**named, "status": REFUNDED}, {"$set": {"accessGranted": False}})
    purchases.update_many({**named, "status": COMPLETED}, {"$set": {"accessGranted": True}})
