"""A hand-written refund view: good code of its kind, with none of the library's guarantees."""

from __future__ import annotations

from typing import Any

import jwt
import stripe
from bson import ObjectId
from bson.json_util import dumps
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue


def make_app(database: Any, jwt_secret: str, stripe_key: str, stripe_base: str) -> Flask:
    """Return an app with only this view."""
    app = Flask("handwritten")
    client = stripe.StripeClient(stripe_key, base_addresses={"api": stripe_base})

    @app.post("/api/payments/admin/refund/<purchase_id>")
    def refund_purchase(purchase_id: str) -> ResponseReturnValue:
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
        refund = client.v1.refunds.create({"payment_intent": purchase["stripePaymentIntentId"]})
        if refund.status != "succeeded":
            return {"error": "Refund failed"}, 400
        purchase["status"] = "refunded"
        database.purchases.update_one({"_id": purchase["_id"]}, {"$set": {"status": "refunded"}})
        body = dumps({"message": "Refund successful", "purchase": purchase})
        return Response(body, mimetype="application/json")

    return app
