"""What a host needs to test its own use of refunds: a Stripe to talk to, tokens, and events."""

from __future__ import annotations

from .delivery import Delivery
from .errors import ApiError
from .faults import Fault, Injected
from .journal import ReceivedRequest
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
