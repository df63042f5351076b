"""Signing in: an e-mail address and a password for a bearer token."""

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
from .errors import Refusal

accounts_bp = Blueprint("accounts", __name__, url_prefix="/api")

_TOKEN_LIFETIME = timedelta(hours=8)


@accounts_bp.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    """``{"email", "password"}`` -> ``{"token", "expiresAt", "user"}``."""
    body = request.get_json(silent=True)
    email, password = (body.get("email"), body.get("password")) if isinstance(body, dict) else (None, None)
    # A JSON object in place of a text would be an operator in MongoDB's query.
    if not isinstance(email, str) or not isinstance(password, str):
        raise Refusal(400, "Send an email and a password.")
    user = find_by_password(email, password)
    if user is None:
        raise Refusal(401, "This e-mail address and password do not belong together.")
    expires_at = datetime.now(timezone.utc) + _TOKEN_LIFETIME
    return {
        "token": make_token(user["_id"], expires_at),
        "expiresAt": expires_at.isoformat(),
        "user": {"name": user["name"], "email": user["email"], "role": user["role"]},
    }


def make_token(user_id: ObjectId, expires_at: datetime) -> str:
    """A token that this app and flask_refunds accept: HS256, with ``sub`` and ``exp``."""
    claims = {"sub": str(user_id), "iat": datetime.now(timezone.utc), "exp": expires_at}
    return jwt.encode(claims, current_app.config["JWT_SECRET_KEY"], algorithm="HS256")


def find_by_password(email: str, password: str) -> dict[str, Any] | None:
    """The user with this address, if the password is his."""
    user = db().users.find_one({"email": email.strip().lower()})
    # An unknown address takes as long as a wrong password, so that nobody learns who is a customer.
    expected = user["passwordHash"] if user and "passwordHash" in user else _nobodys_hash()
    return user if check_password_hash(expected, password) and user else None


@cache
def _nobodys_hash() -> str:
    return generate_password_hash(secrets.token_urlsafe())
