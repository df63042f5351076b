"""What the customer is told of his refund, by mail, and once where that can be known.

A receiver may be called again with the same refund, so what was sent is remembered, in the collection
``mails``. Without ``MAIL_SERVER`` mails are printed to the log.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from textwrap import fill
from typing import Any

from flask import Flask, current_app
from flask_mail import Connection, Mail, Message

from flask_refunds import refund_failed, refund_pending, refund_succeeded

from .database import db
from .orders import COMPLETED

_DEFAULT_SENDER = "The storefront <shop@shop.example>"
_TIMEOUT_SECONDS = 5.0
_WIDTH = 72
_WITHOUT_DECIMALS = frozenset({"jpy", "krw", "vnd", "clp"})
_log = logging.getLogger("shop.mails")

_SUBMITTED = (
    "Your refund was submitted",
    "we have submitted your refund of {amount} for {titles}. It is not made yet. Until then you can open "
    "what you bought, and we will write again when it is made, or if it cannot be.",
)
_REFUNDED = (
    "You are refunded",
    "{amount} for {titles} is on its way to your card, and should be there within ten days. What you bought "
    "can no longer be opened. Should your bank return the money, we will write again.",
)
_FAILED = (
    "Your refund failed",
    "the refund of {amount} for {titles} did not reach you: {why}. You have not got the money back.{access} "
    "We will find another way to pay you; please answer this mail.",
)
_WORDS = {"requires_action": _SUBMITTED, "pending": _SUBMITTED, "succeeded": _REFUNDED}


def init_app(app: Flask) -> None:
    """Listen to the refunds of this app."""
    app.config.setdefault("MAIL_DEFAULT_SENDER", _DEFAULT_SENDER)
    app.config.setdefault("MAIL_TIMEOUT", _TIMEOUT_SECONDS)
    Mail(app)
    for signal in (refund_pending, refund_succeeded, refund_failed):
        signal.connect(tell_customers, app)


def tell_customers(app: Flask, refund: Any, refund_id: str, **extra: Any) -> None:
    """Mail how the refund stands to whoever bought what it is for.

    :raises OSError: the mail server does not take it (smtplib's errors are of this kind); reconcile will try
        again.
    """
    purchases = list(db().purchases.find({"_id": {"$in": list(refund.purchase_ids)}}))
    for user in db().users.find({"_id": {"$in": [purchase["user"] for purchase in purchases]}}):
        if refund.status.ended_unpaid and not _was_told(refund_id, user):
            continue  # that of which he never heard need not trouble him
        own = [purchase for purchase in purchases if purchase["user"] == user["_id"]]
        _send_once(refund_id, refund.status.value, user, _write(refund, user, own))


def _was_told(refund_id: str, user: Mapping[str, Any]) -> bool:
    """Whether he was written to about this refund, or may have been when a crash came."""
    return db().mails.find_one({"refund": refund_id, "user": user["_id"]}) is not None


def _send_once(refund_id: str, status: str, user: Mapping[str, Any], message: Message) -> None:
    mail = {"_id": f"{refund_id} {status} {user['_id']}"}
    begun = {"refund": refund_id, "user": user["_id"], "begunAt": datetime.now(timezone.utc)}
    db().mails.update_one(mail, {"$setOnInsert": begun}, upsert=True)
    if db().mails.find_one({**mail, "sentAt": {"$exists": True}}) is not None:
        return
    _send(message)
    # A crash just before this line mails twice; the other order would, after a crash, not mail at all.
    db().mails.update_one(mail, {"$set": {"sentAt": datetime.now(timezone.utc)}})


def _write(refund: Any, user: Mapping[str, Any], purchases: Sequence[Mapping[str, Any]]) -> Message:
    subject, words = _WORDS.get(refund.status.value, _FAILED)
    again = all(purchase["status"] == COMPLETED for purchase in purchases)
    text = words.format(
        amount=_format(refund.amount, refund.currency),
        titles=" and ".join(_titles(purchases)),
        why="it was canceled" if refund.status.value == "canceled" else "your bank did not take it",
        access=" What you bought can be opened again." if again else "",
    )
    body = f"Dear {user['name']},\n\n{fill(text, _WIDTH)}\n\nThe refund's number is {refund.id}.\n"
    return Message(subject, recipients=[user["email"]], body=body)


def _titles(purchases: Sequence[Mapping[str, Any]]) -> list[str]:
    ids = [purchase["content"] for purchase in purchases]
    return [content["title"] for content in db().contents.find({"_id": {"$in": ids}}).sort("title", 1)]


def _format(amount: int, currency: str) -> str:
    """An amount in minor units, as people write it."""
    number = f"{amount:,}" if currency in _WITHOUT_DECIMALS else f"{amount // 100:,}.{amount % 100:02}"
    return f"{number} {currency.upper()}"


def _send(message: Message) -> None:
    if not current_app.config.get("MAIL_SERVER"):
        _log.info("To %s: %s\n\n%s", ", ".join(map(str, message.recipients)), message.subject, message.body)
        return
    with _PatientConnection(current_app.extensions["mail"]) as connection:
        connection.send(message)


class _PatientConnection(Connection):
    """Flask-Mail's connection, whose own would wait for a silent server without end."""

    def configure_host(self) -> smtplib.SMTP | smtplib.SMTP_SSL:
        """Connect as the app's ``MAIL_…`` config says."""
        make = smtplib.SMTP_SSL if self.mail.use_ssl else smtplib.SMTP
        host = make(self.mail.server, self.mail.port, timeout=current_app.config["MAIL_TIMEOUT"])
        if self.mail.use_tls:
            host.starttls()
        if self.mail.username and self.mail.password:
            host.login(self.mail.username, self.mail.password)
        return host
