"""Access to purchased contents: revoked by a refund, restored if the refund fails."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_refunds import refund_failed, refund_pending, refund_succeeded

from .orders import COMPLETED, REFUNDED


def init_app(app: Flask) -> None:
    """Connect to the refund signals of this app."""
    for signal in (refund_pending, refund_succeeded, refund_failed):
        signal.connect(update_access, app)


def update_access(app: Flask, refund: Any, **extra: Any) -> None:
    """Set the access to the refund's purchases from their current status.

    Signals can be sent again, also for an older state of the refund. So this receiver uses the purchase's
    current status, not the refund's.
    """
    purchases = app.config["REFUNDS_MONGO"].purchases
    query = {"_id": {"$in": list(refund.purchase_ids)}}
    purchases.update_many(query, {"$set": {"refundStatus": refund.status.value}})
    purchases.update_many({**query, "status": REFUNDED}, {"$set": {"accessGranted": False}})
    purchases.update_many({**query, "status": COMPLETED}, {"$set": {"accessGranted": True}})
