"""The view that people write today, as good as such code gets, and with none of our promises."""

from __future__ import annotations

from typing import Any

import jwt
import stripe
from bson import ObjectId
from bson.json_util import dumps
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue


def make_app(database: Any, jwt_secret: str, stripe_key: str, stripe_base: str) -> Flask:
    """An app with this one view."""
    app = Flask("handwritten")
    client = stripe.StripeClient(stripe_key, base_addresses={"api": stripe_base})

    @app.post("/api/payments/admin/refund/<purchase_id>")
    def refund(purchase_id: str) -> ResponseReturnValue:
        try:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, jwt_secret, algorithms=["HS256"])
        except (KeyError, jwt.PyJWTError):
            return {"error": "Not authenticated"}, 401
        user = database.users.find_one({"_id": ObjectId(claims["sub"])})
        if user is None or user["role"] != "admin":
            return {"error": "Admin access required"}, 403
        purchase = database.purchases.find_one({"_id": ObjectId(purchase_id)})
        if purchase is None:
            return {"error": "Purchase not found"}, 404
        if purchase["status"] != "completed":
            return {"error": "Only completed purchases can be refunded"}, 400
        made = client.v1.refunds.create({"payment_intent": purchase["stripePaymentIntentId"]})
        if made.status != "succeeded":
            return {"error": "Refund failed"}, 400
        purchase["status"] = "refunded"
        database.purchases.update_one({"_id": purchase["_id"]}, {"$set": {"status": "refunded"}})
        body = dumps({"message": "Refund successful", "purchase": purchase})
        return Response(body, mimetype="application/json")

    return app
