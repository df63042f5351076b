"""Test kit for apps that use flask_refunds: a Stripe sandbox, a client for your app, tokens and events."""

from __future__ import annotations

from .app_config import make_config, open_database
from .cards import Cards
from .client import Purchase, RefundsClient, SentSignal, open_client
from .client_webhooks import ClientWebhooks
from .delivery import Delivery
from .errors import ApiError
from .faults import OUTCOME_UNKNOWN, REFUSED, RETRYABLE, Fault, FaultNotUsed, Injected
from .request_log import ReceivedRequest
from .sandbox import StripeSandbox
from .signatures import make_event, signed_event
from .tokens import make_token

__all__ = [
    "OUTCOME_UNKNOWN",
    "REFUSED",
    "RETRYABLE",
    "ApiError",
    "Cards",
    "ClientWebhooks",
    "Delivery",
    "Fault",
    "FaultNotUsed",
    "Injected",
    "Purchase",
    "ReceivedRequest",
    "RefundsClient",
    "SentSignal",
    "StripeSandbox",
    "make_config",
    "make_event",
    "make_token",
    "open_client",
    "open_database",
    "signed_event",
]
