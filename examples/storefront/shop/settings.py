"""The shop's settings, read from environment variables."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

KEYS = (
    "MONGO_URI",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_API_BASE",
    "JWT_SECRET_KEY",
    "MAIL_SERVER",
    "MAIL_PORT",
    "MAIL_USERNAME",
    "MAIL_PASSWORD",
    "MAIL_USE_TLS",
    "MAIL_DEFAULT_SENDER",
)
WEBHOOK_PATH = "/webhooks/stripe"
EVENTS = (
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refunded",
)
"""The events that the shop's webhook needs. The first two are for the shop, the others for flask_refunds."""

_LIVE_KEY = re.compile(r"\s*(sk|rk)_live_")


class SettingsError(Exception):
    """An environment variable is invalid. The message says what to do."""


def from_environment(environ: Mapping[str, str], shop_url: str = "http://127.0.0.1:5000") -> dict[str, Any]:
    """Return the config from :data:`KEYS`. JWT_SECRET_KEY is random if it isn't set.

    :param shop_url: the shop's URL, for the error message.
    :raises SettingsError: STRIPE_SECRET_KEY is a live key, STRIPE_WEBHOOK_SECRET is missing, or MAIL_PORT
        isn't a number.
    """
    config: dict[str, Any] = {key: environ[key] for key in KEYS if environ.get(key, "").strip()}
    config.setdefault("JWT_SECRET_KEY", secrets.token_urlsafe(64))
    config |= _convert_mail_settings(config)
    if _LIVE_KEY.match(config.get("STRIPE_SECRET_KEY", "")):
        raise SettingsError(
            "STRIPE_SECRET_KEY is a live key. Use a test key (sk_test_… or rk_test_…): this demo pays with "
            "test cards and has accounts with public passwords."
        )
    if "STRIPE_SECRET_KEY" in config and "STRIPE_WEBHOOK_SECRET" not in config:
        raise SettingsError(
            "STRIPE_SECRET_KEY is set, but STRIPE_WEBHOOK_SECRET isn't. The shop completes a purchase only "
            "after Stripe's signed event. In another terminal, run:\n\n"
            f"    stripe listen --events {','.join(EVENTS)} --forward-to {shop_url}{WEBHOOK_PATH}\n\n"
            "Then set STRIPE_WEBHOOK_SECRET to the whsec_… secret that it prints."
        )
    return config


def _convert_mail_settings(config: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that Flask-Mail needs as int or bool."""
    converted: dict[str, Any] = {}
    if "MAIL_PORT" in config:
        if not config["MAIL_PORT"].strip().isdecimal():
            raise SettingsError("MAIL_PORT must be a number, such as 25 or 587.")
        converted["MAIL_PORT"] = int(config["MAIL_PORT"])
    if "MAIL_USE_TLS" in config:
        converted["MAIL_USE_TLS"] = config["MAIL_USE_TLS"].strip().lower() in ("1", "true", "yes", "on")
    return converted
