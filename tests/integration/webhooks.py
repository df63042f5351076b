"""Webhook requests, as Stripe sends them."""

from __future__ import annotations

import time
from typing import Any

from werkzeug.test import TestResponse

from flask_refunds.testing import signed_event
from tests.shop import Shop

SECRET = "whsec_of_the_tests_0123456789"
PATH = "/api/payments/webhook/refunds"
PENDING_CARD = "4000000000007726"
"""Refunds to this card are pending until Stripe settles them."""


def send(shop: Shop, event: Any, secret: str = SECRET, *, at: float | None = None) -> TestResponse:
    """Send a signed event to the webhook."""
    body, headers = signed_event(event, secret, timestamp=int(time.time() if at is None else at))
    return shop.client.post(PATH, data=body, headers=headers)
