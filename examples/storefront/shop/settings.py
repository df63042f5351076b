"""The shop's settings from the environment, refused where a demo must not run with them."""

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
"""What the shop wants to hear from Stripe: the first two for itself, the others for flask_refunds."""

_LIVE_KEY = re.compile(r"\s*(sk|rk)_live_")


class SettingsError(Exception):
    """The environment cannot be used; the words say what to do."""


def from_environment(environ: Mapping[str, str], shop_url: str = "http://127.0.0.1:5000") -> dict[str, Any]:
    """Those of :data:`KEYS` that are set, and a secret for the tokens where there is none.

    :param shop_url: where Stripe's events must be forwarded to, for the words of the error.
    :raises SettingsError: a live key, or one without a secret for its webhooks, or a port that is none.
    """
    config: dict[str, Any] = {key: environ[key] for key in KEYS if environ.get(key, "").strip()}
    config.setdefault("JWT_SECRET_KEY", secrets.token_urlsafe(64))
    config |= _typed(config)
    if _LIVE_KEY.match(config.get("STRIPE_SECRET_KEY", "")):
        raise SettingsError(
            "STRIPE_SECRET_KEY is a live key. This demo pays with test cards and signs people in with "
            "published passwords, so it takes test keys only (sk_test_… or rk_test_…)."
        )
    if "STRIPE_SECRET_KEY" in config and "STRIPE_WEBHOOK_SECRET" not in config:
        raise SettingsError(
            "STRIPE_SECRET_KEY is set and STRIPE_WEBHOOK_SECRET is not. A purchase is completed by Stripe's "
            "signed event only, so in another terminal run\n\n"
            f"    stripe listen --events {','.join(EVENTS)} --forward-to {shop_url}{WEBHOOK_PATH}\n\n"
            "and set STRIPE_WEBHOOK_SECRET to the whsec_… that it prints."
        )
    return config


def _typed(config: Mapping[str, str]) -> dict[str, Any]:
    """What Flask-Mail wants as a number or a truth."""
    typed: dict[str, Any] = {}
    if "MAIL_PORT" in config:
        if not config["MAIL_PORT"].strip().isdecimal():
            raise SettingsError("MAIL_PORT must be a number, as 25 or 587.")
        typed["MAIL_PORT"] = int(config["MAIL_PORT"])
    if "MAIL_USE_TLS" in config:
        typed["MAIL_USE_TLS"] = config["MAIL_USE_TLS"].strip().lower() in ("1", "true", "yes", "on")
    return typed
