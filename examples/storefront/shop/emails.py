"""Emails to customers about their refunds.

Signals can be sent again for the same refund, so the collection ``emails`` records what was sent. Without
``MAIL_SERVER``, emails are written to the log.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from textwrap import fill
from typing import Any

from flask import Flask, current_app
from flask_mail import Connection, Mail, Message

from flask_refunds import refund_failed, refund_pending, refund_succeeded
from flask_refunds.money import decimal_amount

from .database import db
from .orders import COMPLETED

_DEFAULT_SENDER = "The storefront <shop@shop.example>"
_TIMEOUT_SECONDS = 5.0
_WIDTH = 72
_log = logging.getLogger("shop.emails")

_SUBMITTED = (
    "Your refund was submitted",
    "We have submitted your refund of {amount} for {titles}. You can open what you bought until the refund "
    "is complete. We will email you when it is complete, or if it fails.",
)
_REFUNDED = (
    "Your refund is on its way",
    "We have refunded {amount} for {titles} to your card. The money should arrive within ten days. You can "
    "no longer open what you bought. If your bank returns the money, we will email you again.",
)
_FAILED = (
    "Your refund failed",
    "Your refund of {amount} for {titles} failed: {reason}. You have not received the money.{access} Please "
    "reply to this email, so that we can pay you another way.",
)
_TEMPLATES = {"requires_action": _SUBMITTED, "pending": _SUBMITTED, "succeeded": _REFUNDED}


def init_app(app: Flask) -> None:
    """Connect to the refund signals of this app."""
    app.config.setdefault("MAIL_DEFAULT_SENDER", _DEFAULT_SENDER)
    app.config.setdefault("MAIL_TIMEOUT", _TIMEOUT_SECONDS)
    Mail(app)
    for signal in (refund_pending, refund_succeeded, refund_failed):
        signal.connect(notify_customers, app)


def notify_customers(app: Flask, refund: Any, refund_id: str, **extra: Any) -> None:
    """Email the refund's status to the customers of its purchases.

    :raises OSError: the mail server didn't accept the email (smtplib's errors are OSErrors). flask_refunds
        sends the signal again later.
    """
    purchases = list(db().purchases.find({"_id": {"$in": list(refund.purchase_ids)}}))
    for user in db().users.find({"_id": {"$in": [purchase["user"] for purchase in purchases]}}):
        if refund.status.is_failed_or_canceled and not _was_notified(refund_id, user):
            continue  # The customer was never told about this refund.
        own = [purchase for purchase in purchases if purchase["user"] == user["_id"]]
        _send_once(refund_id, refund.status.value, user, _compose(refund, user, own))


def _was_notified(refund_id: str, user: Mapping[str, Any]) -> bool:
    """Return whether the user got an email about this refund, or may have got one before a crash."""
    return db().emails.find_one({"refund": refund_id, "user": user["_id"]}) is not None


def _send_once(refund_id: str, status: str, user: Mapping[str, Any], message: Message) -> None:
    key = {"_id": f"{refund_id} {status} {user['_id']}"}
    created = {"refund": refund_id, "user": user["_id"], "createdAt": datetime.now(timezone.utc)}
    db().emails.update_one(key, {"$setOnInsert": created}, upsert=True)
    if db().emails.find_one({**key, "sentAt": {"$exists": True}}) is not None:
        return
    _send(message)
    # A crash before this line sends the email twice. Writing sentAt first could lose the email instead.
    db().emails.update_one(key, {"$set": {"sentAt": datetime.now(timezone.utc)}})


def _compose(refund: Any, user: Mapping[str, Any], purchases: Sequence[Mapping[str, Any]]) -> Message:
    subject, template = _TEMPLATES.get(refund.status.value, _FAILED)
    has_access = all(purchase["status"] == COMPLETED for purchase in purchases)
    text = template.format(
        amount=_format_amount(refund.amount, refund.currency),
        titles=" and ".join(_titles(purchases)),
        reason="it was canceled" if refund.status.value == "canceled" else "your bank didn't accept it",
        access=" You can open what you bought again." if has_access else "",
    )
    body = f"Dear {user['name']},\n\n{fill(text, _WIDTH)}\n\nRefund number: {refund.id}\n"
    return Message(subject, recipients=[user["email"]], body=body)


def _titles(purchases: Sequence[Mapping[str, Any]]) -> list[str]:
    ids = [purchase["content"] for purchase in purchases]
    return [content["title"] for content in db().contents.find({"_id": {"$in": ids}}).sort("title", 1)]


def _format_amount(amount: int, currency: str) -> str:
    """Return an amount with thousands separators: ``1,950.00 EUR``."""
    return f"{Decimal(decimal_amount(amount, currency)):,} {currency.upper()}"


def _send(message: Message) -> None:
    if not current_app.config.get("MAIL_SERVER"):
        _log.info("To %s: %s\n\n%s", ", ".join(map(str, message.recipients)), message.subject, message.body)
        return
    with _ConnectionWithTimeout(current_app.extensions["mail"]) as connection:
        connection.send(message)


class _ConnectionWithTimeout(Connection):
    """Flask-Mail's connection with a timeout. Without one, it waits forever for a silent server."""

    def configure_host(self) -> smtplib.SMTP | smtplib.SMTP_SSL:
        """Connect to the server of the app's ``MAIL_…`` config."""
        smtp_class = smtplib.SMTP_SSL if self.mail.use_ssl else smtplib.SMTP
        host = smtp_class(self.mail.server, self.mail.port, timeout=current_app.config["MAIL_TIMEOUT"])
        if self.mail.use_tls:
            host.starttls()
        if self.mail.username and self.mail.password:
            host.login(self.mail.username, self.mail.password)
        return host
