"""Structured log events of the logger ``flask_refunds``.

A record's ``refunds`` is a flat dict of text, whole numbers, booleans and ``None``, for a JSON formatter.
Text from outside is never logged: no token, key, body, note, name, e-mail address or exception message.
"""

from __future__ import annotations

import logging
import re
from enum import Enum
from hashlib import sha256

from pymongo.errors import ConnectionFailure, OperationFailure

from .errors import RefundsError, StripeCallError

LogValue = str | int | None

_log = logging.getLogger("flask_refunds")
_ID = re.compile(r"[0-9A-Za-z_.|-]{1,100}", re.ASCII)
_MAX_CAUSES = 5


class LogEvent(Enum):
    """The events: name, level and message."""

    REFUND_CREATED = "refund_created", logging.INFO, "Refund record created; the request to Stripe follows"
    REFUND_RESUMED = "refund_resumed", logging.INFO, "A call resumed an unfinished refund"
    REFUND_STATUS_CHANGED = "refund_status_changed", logging.INFO, "Stripe reported a refund's status"
    EXTERNAL_REFUND_RECORDED = "external_refund_recorded", logging.INFO, "An external refund was recorded"
    REFUND_REJECTED = "refund_rejected", logging.WARNING, "Stripe rejected a refund"
    OUTCOME_UNKNOWN = "outcome_unknown", logging.WARNING, "The outcome of a refund is unknown"
    STRIPE_REQUEST_FAILED = "stripe_request_failed", logging.WARNING, "Stripe didn't return a refund's status"
    STRIPE_RESPONSE_INVALID = "stripe_response_invalid", logging.WARNING, "A Stripe response can't be parsed"
    LEDGER_UPDATE_FAILED = (
        "ledger_update_failed",
        logging.ERROR,
        "The database couldn't store a refund's status",
    )
    LEASE_RELEASE_FAILED = (
        "lease_release_failed",
        logging.WARNING,
        "A refund stays leased until its lease expires",
    )
    REFUND_NEEDS_REVIEW = "refund_needs_review", logging.WARNING, "A refund needs manual review"
    REFUND_RESOLVED = "refund_resolved", logging.INFO, "A review was closed"
    RECEIVER_FAILED = "receiver_failed", logging.ERROR, "A signal receiver raised, and will be called again"
    OBSERVER_FAILED = "observer_failed", logging.ERROR, "An observer raised"
    SIGNAL_REDELIVERY_SCHEDULED = (
        "signal_redelivery_scheduled",
        logging.WARNING,
        "Receivers will be called again",
    )
    RECORD_UNREADABLE = "record_unreadable", logging.ERROR, "A document of the ledger isn't a refund record"
    RECONCILE_FAILED = "reconcile_failed", logging.ERROR, "Reconcile couldn't finish a refund"
    FULL_SWEEP_OVERDUE = "full_sweep_overdue", logging.ERROR, "No full sweep was complete for 25 hours"
    BULK_ITEM_FAILED = "bulk_item_failed", logging.ERROR, "A bulk run met an internal error at a purchase"
    WEBHOOK_PROCESSED = "webhook_processed", logging.INFO, "A Stripe event was processed"
    WEBHOOK_IGNORED = "webhook_ignored", logging.INFO, "A Stripe event doesn't concern a payment of this app"
    WEBHOOK_REJECTED = "webhook_rejected", logging.WARNING, "A webhook request was rejected"
    AUTHENTICATION_FAILED = "authentication_failed", logging.WARNING, "A caller couldn't be authenticated"
    ADMIN_REQUIRED = "admin_required", logging.WARNING, "A caller isn't an admin"
    CROSS_SITE_REQUEST = (
        "cross_site_request",
        logging.WARNING,
        "Another website may have made a request with a session",
    )
    REQUEST_FAILED = "request_failed", logging.ERROR, "A request failed"

    def __init__(self, event: str, level: int, message: str) -> None:
        self.event = event
        self.level = level
        self.message = message


def log_event(event: LogEvent, error: BaseException | None = None, /, **fields: LogValue) -> None:
    """Log an event.

    :param error: its type, traceback and causes are logged, without its message.
    :param fields: logged as given, except that ``actor``, ``identity`` and ``purchase_id`` are pseudonymized.
    """
    if not _log.isEnabledFor(event.level):
        return
    values = {name: _pseudonym(name, value) for name, value in fields.items()}
    if error is not None:
        values["error"] = type(error).__name__
    values = {"event": event.event, **values}
    text = " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    _log.log(
        event.level,
        f"{event.message}: {text}",
        extra={"refunds": values},
        exc_info=error and _sanitized(error),
        stacklevel=2,
    )


def _pseudonym(name: str, value: LogValue) -> LogValue:
    """Return an ID as it is, and the hash of anything else, such as an e-mail address."""
    if name not in ("actor", "identity", "purchase_id") or not isinstance(value, str):
        return value
    source, colon, who = value.partition(":") if name == "actor" else ("", "", value)
    if who and not _ID.fullmatch(who):
        who = f"sha256-{sha256(who.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
    return f"{source}{colon}{who}"


class SanitizedException(Exception):
    """Replaces, in the log, an exception whose message may contain a document, an address or a secret."""


def _sanitized(error: BaseException, depth: int = 0) -> SanitizedException:
    """Return the exception's type, traceback and causes."""
    sanitized = SanitizedException(_describe(error)).with_traceback(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _MAX_CAUSES:
        sanitized.__cause__ = _sanitized(cause, depth + 1)
    return sanitized


def _describe(error: BaseException) -> str:
    """Return an exception's type, and its message where this library wrote it or it names servers only."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, (RefundsError, ConnectionFailure)):
        return f"{kind}: {error}"
    if isinstance(error, (OperationFailure, StripeCallError)):
        return f"{kind} ({error.code})"
    return kind
