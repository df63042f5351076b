"""Sign-in with an email address and a password. The response has a bearer token."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import jwt
from bson import ObjectId
from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.security import check_password_hash, generate_password_hash

from .database import db
from .errors import ShopError

accounts_bp = Blueprint("accounts", __name__, url_prefix="/api")

_TOKEN_LIFETIME = timedelta(hours=8)


@accounts_bp.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    """``{"email", "password"}`` -> ``{"token", "expiresAt", "user"}``."""
    body = request.get_json(silent=True)
    email, password = (body.get("email"), body.get("password")) if isinstance(body, dict) else (None, None)
    # A JSON object instead of a string would be an operator in the MongoDB query.
    if not isinstance(email, str) or not isinstance(password, str):
        raise ShopError(400, "Send an email and a password.")
    user = find_by_password(email, password)
    if user is None:
        raise ShopError(401, "The email address or password is wrong.")
    expires_at = datetime.now(timezone.utc) + _TOKEN_LIFETIME
    return {
        "token": make_token(user["_id"], expires_at),
        "expiresAt": expires_at.isoformat(),
        "user": {"name": user["name"], "email": user["email"], "role": user["role"]},
    }


def make_token(user_id: ObjectId, expires_at: datetime) -> str:
    """Return a token that this app and flask_refunds accept: HS256, with ``sub`` and ``exp``."""
    claims = {"sub": str(user_id), "iat": datetime.now(timezone.utc), "exp": expires_at}
    return jwt.encode(claims, current_app.config["JWT_SECRET_KEY"], algorithm="HS256")


def find_by_password(email: str, password: str) -> dict[str, Any] | None:
    """Return the user with this email address, or None if the password is wrong."""
    user = db().users.find_one({"email": email.strip().lower()})
    # An unknown address takes as long as a wrong password, so response times don't reveal customers.
    expected = user["passwordHash"] if user and "passwordHash" in user else _placeholder_hash()
    return user if check_password_hash(expected, password) and user else None


@cache
def _placeholder_hash() -> str:
    return generate_password_hash(secrets.token_urlsafe())
