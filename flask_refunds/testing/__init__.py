"""Test kit for apps that use flask_refunds: a local Stripe sandbox, access tokens and signed events."""

from __future__ import annotations

from .delivery import Delivery
from .errors import ApiError
from .faults import Fault, Injected
from .request_log import ReceivedRequest
from .sandbox import StripeSandbox
from .signatures import make_event, signed_event
from .tokens import make_token

__all__ = [
    "ApiError",
    "Delivery",
    "Fault",
    "Injected",
    "ReceivedRequest",
    "StripeSandbox",
    "make_event",
    "make_token",
    "signed_event",
]
