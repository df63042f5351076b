"""The customer's API: buy contents, list purchases, open contents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import stripe
from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from flask_refunds import authenticate, current_user

from . import orders
from .database import db, find_object_id
from .errors import ShopError

purchases_bp = Blueprint("purchases", __name__, url_prefix="/api")

_IDEMPOTENCY_KEY = re.compile(r"[0-9A-Za-z-]{16,64}")
_MAX_CONTENTS = 20


@purchases_bp.post("/purchases")
@authenticate
def buy() -> ResponseReturnValue:
    """``{"contents": [IDs], "card": number}`` with an ``Idempotency-Key`` -> the pending purchases.

    A retry with the same key returns the same purchases and doesn't charge again.
    """
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise ShopError(400, "Send contents and a card.")
    contents, card = _read_contents(body.get("contents")), _read_card(body.get("card"))
    order_id = f"{current_user['_id']}-{_read_idempotency_key()}"
    try:
        order = orders.create_order(order_id, current_user["_id"], contents, card)
    except stripe.StripeError:
        raise ShopError(502, "The payment couldn't be started. Nothing was charged.") from None
    try:
        orders.pay(order)
    except stripe.CardError as declined:
        raise ShopError(402, declined.user_message or "Your card was declined.") from None
    except stripe.StripeError:
        # The outcome is unknown. The purchase stays pending until Stripe's event arrives.
        return _list_purchases({"order": order_id}), 202
    return _list_purchases({"order": order_id}), 201


def _read_idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ShopError(400, "Send an Idempotency-Key of 16 to 64 letters, digits or hyphens.")
    return key


def _read_card(number: object) -> orders.Card:
    card = orders.CARDS.get(number) if isinstance(number, str) else None
    if card is None:
        raise ShopError(400, "This demo accepts only the listed test cards.")
    return card


def _read_contents(ids: object) -> Sequence[Mapping[str, Any]]:
    listed = ids[:_MAX_CONTENTS] if isinstance(ids, list) else []
    object_ids = {find_object_id(each) for each in listed}
    found = list(db().contents.find({"_id": {"$in": list(object_ids)}}))
    if not found or len(found) != len(object_ids):
        raise ShopError(400, "Choose contents from the catalogue.")
    if len({content["currency"] for content in found}) > 1:
        raise ShopError(400, "These contents have different currencies. Pay for them separately.")
    return found


@purchases_bp.get("/purchases")
@authenticate
def list_own() -> ResponseReturnValue:
    """Return the user's own purchases, newest first."""
    return _list_purchases({})


def _list_purchases(query: Mapping[str, Any]) -> dict[str, Any]:
    own = {**query, "user": current_user["_id"]}
    return {"purchases": describe(db().purchases.find(own).sort([("createdAt", -1), ("_id", -1)]))}


@purchases_bp.get("/contents/<content_id>")
@authenticate
def open_content(content_id: str) -> ResponseReturnValue:
    """Return a content that the user has access to."""
    content = db().contents.find_one({"_id": find_object_id(content_id)})
    bought = {"user": current_user["_id"], "content": content and content["_id"], "accessGranted": True}
    if content is None or db().purchases.find_one(bought) is None:
        raise ShopError(403, "You don't have access to this content.")
    return {"title": content["title"], "body": content["body"]}


def describe(purchases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return purchases and their contents as JSON values, with amounts in minor units."""
    listed = list(purchases)
    ids = [purchase["content"] for purchase in listed]
    contents = {content["_id"]: content for content in db().contents.find({"_id": {"$in": ids}})}
    return [_describe(purchase, contents.get(purchase["content"], {})) for purchase in listed]


def _describe(purchase: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(purchase["_id"]),
        "content": {
            "id": str(purchase["content"]),
            "title": content.get("title"),
            "type": content.get("type"),
        },
        "amount": purchase["amount"],
        "currency": purchase["currency"],
        "paymentIntent": purchase["stripePaymentIntentId"],
        "cardLast4": purchase["cardLast4"],
        "status": purchase["status"],
        "refundStatus": purchase.get("refundStatus"),
        "accessGranted": purchase["accessGranted"],
        "createdAt": purchase["createdAt"].isoformat(),
    }
