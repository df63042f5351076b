"""The admin's view of the shop. Refunds are made by flask_refunds' own endpoint."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from flask_refunds import require_admin

from .database import db
from .purchases import describe

admin_bp = Blueprint("admin", __name__, url_prefix="/api/admin")

_MAX_LISTED = 100


@admin_bp.get("/purchases")
@require_admin
def list_all() -> ResponseReturnValue:
    """Return the newest purchases and their customers."""
    purchases = list(db().purchases.find().sort([("createdAt", -1), ("_id", -1)]).limit(_MAX_LISTED))
    ids = [purchase["user"] for purchase in purchases]
    users = {user["_id"]: user for user in db().users.find({"_id": {"$in": ids}})}
    described = describe(purchases)
    for purchase, description in zip(purchases, described, strict=True):
        description["user"] = _describe_user(users.get(purchase["user"], {}))
    return {"purchases": described}


def _describe_user(user: dict[str, Any]) -> dict[str, Any]:
    return {"name": user.get("name"), "email": user.get("email")}
