"""What the library decides, told to the logger ``flask_refunds``: one record a decision, in fixed words.

A record's ``refunds`` is a flat dict of texts, whole numbers, truths and ``None``, for a JSON formatter. No
words of anybody else's get in: no token, key, body, note, name or e-mail address, and no exception's message.
"""

from __future__ import annotations

import logging
import re
from enum import Enum
from hashlib import sha256

from pymongo.errors import ConnectionFailure, OperationFailure

from .errors import RefundsError, StripeAnswer

Fact = str | int | None

_log = logging.getLogger("flask_refunds")
_ID = re.compile(r"[0-9A-Za-z_.|-]{1,100}", re.ASCII)
_MAX_CAUSES = 5


class Decision(Enum):
    """What can be decided: the event's name, its level, and its words."""

    OPENED = "refund_opened", logging.INFO, "A refund is written down, and Stripe is asked next"
    RESUMED = "refund_resumed", logging.INFO, "A call goes on with a refund that another one left"
    STATUS = "refund_status", logging.INFO, "Stripe says how a refund stands"
    RECORDED = "refund_recorded", logging.INFO, "A refund was made elsewhere"
    REFUSED = "refund_refused", logging.WARNING, "Stripe will not make a refund"
    UNKNOWN = "outcome_unknown", logging.WARNING, "Nobody knows yet how a refund ended"
    UNANSWERED = "stripe_unanswered", logging.WARNING, "Stripe did not say how a refund stands"
    UNREADABLE = "stripe_unreadable", logging.WARNING, "An answer or event of Stripe's cannot be read"
    BEHIND = "ledger_behind", logging.ERROR, "Stripe may have acted, and the database could not note it"
    LEASE_KEPT = "lease_kept", logging.WARNING, "A refund is held until its lease ends"
    ATTENTION = "attention_asked", logging.WARNING, "A person must look at a refund"
    RESOLVED = "refund_resolved", logging.INFO, "A person has dealt with a refund"
    RECEIVER_FAILED = "receiver_failed", logging.ERROR, "A receiver raised, and will be called again"
    OBSERVER_FAILED = "observer_failed", logging.ERROR, "An observer raised, and missed something"
    TOLD_AGAIN = "receivers_again", logging.WARNING, "Receivers ran, and will run again"
    NOT_RECONCILED = "not_reconciled", logging.ERROR, "Reconcile could not finish a refund"
    NOT_REFUNDED = "bulk_item_failed", logging.ERROR, "A bulk run met an error of ours at a purchase"
    EVENT_TAKEN = "event_taken", logging.INFO, "An event of Stripe's is taken in"
    EVENT_IGNORED = "event_ignored", logging.INFO, "An event of Stripe's concerns no payment here"
    EVENT_REFUSED = "event_refused", logging.WARNING, "A webhook call is not believed"
    NOT_AUTHENTICATED = "not_authenticated", logging.WARNING, "A caller is not let in"
    FORBIDDEN = "forbidden", logging.WARNING, "A known caller is no admin"
    FAILED = "call_failed", logging.ERROR, "A call could not be served"

    def __init__(self, event: str, level: int, words: str) -> None:
        self.event = event
        self.level = level
        self.words = words


def decided(decision: Decision, error: BaseException | None = None, /, **facts: Fact) -> None:
    """Log a decision.

    :param error: what went wrong; its kind and its way through the code are logged, and not what it says.
    :param facts: beside ``by`` and ``identity``, which are made unspeaking, they are logged as they are.
    """
    if not _log.isEnabledFor(decision.level):
        return
    told = {name: _pseudonym(name, value) for name, value in facts.items()}
    if error is not None:
        told["error"] = type(error).__name__
    spoken = " ".join(f"{name}={value}" for name, value in told.items() if value is not None)
    _log.log(
        decision.level,
        f"{decision.words}: {spoken}".removesuffix(": "),
        extra={"refunds": {"event": decision.event, **told}},
        exc_info=error and _unquoted(error),
        stacklevel=2,
    )


def _pseudonym(name: str, value: Fact) -> Fact:
    """Who did something: his id, or where that is an e-mail address or other words, its hash."""
    if name not in ("by", "identity") or not isinstance(value, str):
        return value
    where, colon, who = value.partition(":") if name == "by" else ("", "", value)
    if who and not _ID.fullmatch(who):
        who = f"sha256-{sha256(who.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
    return f"{where}{colon}{who}"


class Unquoted(Exception):
    """Stands in the log for an exception whose message may quote a document, an address or a secret."""


def _unquoted(error: BaseException, depth: int = 0) -> Unquoted:
    """The exception's kind, place and causes."""
    told = Unquoted(_describe(error)).with_traceback(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _MAX_CAUSES:
        told.__cause__ = _unquoted(cause, depth + 1)
    return told


def _describe(error: BaseException) -> str:
    """An exception's kind, and its words where those are ours or name servers only."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, (RefundsError, ConnectionFailure)):
        return f"{kind}: {error}"
    if isinstance(error, (OperationFailure, StripeAnswer)):
        return f"{kind} ({error.code})"
    return kind
