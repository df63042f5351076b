"""Check what surrounds the endpoints in the app: cookies, tokens, and what runs before a request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from inspect import unwrap
from typing import Any

from flask import Flask
from flask.testing import EnvironBuilder
from werkzeug.routing import Rule
from werkzeug.test import Client, TestResponse

from ..config import Settings, unknown_keys
from ..config.app_keys import find_differing_keys, find_unsafe_keys
from ..stripe_client.webhook_signature import sign
from ..web.auth import current_user
from ..web.webhooks import receive_event
from .check_result import CheckResult, Status, fail, note, ok

_EVENT = {"id": "evt_check", "object": "event", "type": "flask_refunds.check"}
_EXTENSIONS = {
    "flask_wtf": "CSRFProtect: the refund endpoints exempt themselves, so it needs no change.",
    "flask_seasurf": "SeaSurf: it rejects the refund endpoint and the webhook. Exempt both.",
    "flask_limiter": "Flask-Limiter: its default limits include Stripe's webhook. Exempt it.",
    "flask_talisman": "Talisman: it replaces the admin page's Content-Security-Policy. Exempt the page.",
    "flask_cors": "Flask-CORS: it lets pages of other origins call the refund endpoints. Allow only yours.",
}
"""The extensions that act on every request, by their package, and what to know about each."""
_CALLBACKS = {
    "_token_in_blocklist_callback": "token_in_blocklist_loader",
    "_token_verification_callback": "token_verification_loader",
    "_decode_key_callback": "decode_key_loader",
}
"""The callbacks of Flask-JWT-Extended that reject a token or decide its key, by their attributes."""


def check_app(app: Flask, settings: Settings) -> Iterator[CheckResult]:
    """Run one check of the app after the other."""
    if unknown := unknown_keys(app.config):
        yield note("unknown", f"{', '.join(unknown)}: not settings of this library, so they are ignored.")
    if settings.refunds_current_user is current_user:
        yield fail(
            "REFUNDS_CURRENT_USER",
            "is this library's own current_user, which has no user by itself. Set it to that of your "
            "session, such as flask_login.current_user.",
        )
    for key, problem in find_unsafe_keys(app.config):
        yield fail(key, problem)
    for key, problem in find_differing_keys(app.config):
        yield note(key, problem)
    yield from _token_callbacks(app, settings)
    yield from _extensions(app)
    webhooks = [rule for rule in app.url_map.iter_rules() if _is_webhook(app, rule)]
    results = [_own_webhook(app, rule, settings) for rule in webhooks]
    yield from sorted(results, key=lambda each: each.status is Status.OK)[:1]


def _token_callbacks(app: Flask, settings: Settings) -> Iterator[CheckResult]:
    manager = app.extensions.get("flask-jwt-extended")
    used = [
        name
        for attribute, name in _CALLBACKS.items()
        if not _package(getattr(manager, attribute, None)).startswith(("flask_jwt_extended", "builtins"))
    ]
    if manager is not None and used and settings.refunds_user_loader is None:
        yield note(
            "callbacks",
            f"Flask-JWT-Extended's {', '.join(used)} is set, and the refund endpoints don't call it. "
            "Reject such tokens in REFUNDS_USER_LOADER.",
        )


def _extensions(app: Flask) -> Iterator[CheckResult]:
    hooks = [
        hook
        for functions in (app.before_request_funcs, app.after_request_funcs)
        for each in functions.values()
        for hook in each
    ]
    found = {_package(hook) for hook in hooks} & _EXTENSIONS.keys()
    if found:
        yield note("extensions", f"Found {' '.join(_EXTENSIONS[each] for each in sorted(found))}")


def _is_webhook(app: Flask, rule: Rule) -> bool:
    """Return whether a rule without parameters leads to our view, which the app may have wrapped."""
    return unwrap(app.view_functions[rule.endpoint]) is unwrap(receive_event) and not rule.arguments


def _own_webhook(app: Flask, rule: Rule, settings: Settings) -> CheckResult:
    """Send an event that changes nothing through the whole app, as a server would."""
    try:
        response = Context().run(_post_event, app, rule.rule, settings)
    except Exception as error:
        return fail("own webhook", f"Your app raised {type(error).__name__} for POST {rule.rule}.")
    body = response.get_json(silent=True)
    if body == {"received": True} or (
        not settings.stripe_webhook_secret and isinstance(body, dict) and "code" in body
    ):
        return ok("own webhook", f"POST {rule.rule} reaches the library.")
    hooks = ", ".join(_hooks_before(app, rule)) or "a WSGI middleware"
    returned = f"{response.status_code} {response.mimetype}"
    return fail(
        "own webhook",
        f"POST {rule.rule} returned {returned} instead of this library's answer. "
        f"Exempt this path from what runs before it: {hooks}.",
    )


def _post_event(app: Flask, path: str, settings: Settings) -> TestResponse:
    body = json.dumps(_EVENT).encode()
    headers = {"Content-Type": "application/json"}
    if settings.stripe_webhook_secret:
        headers["Stripe-Signature"] = sign(body, settings.stripe_webhook_secret[0], time.time())
    builder = EnvironBuilder(app, path, url_scheme="https", method="POST", data=body, headers=headers)
    return Client(app, use_cookies=False).open(builder)


def _hooks_before(app: Flask, rule: Rule) -> list[str]:
    names = (None, *rule.endpoint.split(".")[:-1])
    return [
        f"{hook.__module__}.{getattr(hook, '__qualname__', type(hook).__name__)}"
        for name in names
        for hook in app.before_request_funcs.get(name, ())
    ]


def _package(function: Callable[..., Any] | None) -> str:
    return str(getattr(function, "__module__", None) or "builtins").partition(".")[0]
