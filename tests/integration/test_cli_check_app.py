"""``flask refunds check``: what surrounds the endpoints in the app."""

from __future__ import annotations

import io
import json
import logging
from functools import wraps
from typing import Any

import flask_jwt_extended as fje
import pytest
from flask import Flask, redirect, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flask_refunds import refunds_bp
from tests.shop import Shop, make_config

SECRET = "whsec_of_the_tests_0123456789"
PATH = "/api/payments/webhook/refunds"


def check(app: Flask) -> dict[str, tuple[str, str]]:
    """Return each check's status and message by name."""
    result = app.test_cli_runner().invoke(args=["refunds", "check", "--json"])
    checks = json.loads(result.stdout)["checks"]
    assert len({each["name"] for each in checks}) == len(checks)
    return {each["name"]: (each["status"], each["message"]) for each in checks}


@pytest.fixture
def app(mock_shop: Shop) -> Flask:
    """An app whose webhook works."""
    mock_shop.app.config["STRIPE_WEBHOOK_SECRET"] = ["whsec_the_current_one", SECRET]
    return mock_shop.app


# The app's own webhook


def test_webhook_that_reaches_the_library_is_ok(
    app: Flask, mock_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert check(app)["own webhook"] == ("ok", f"POST {PATH} reaches the library.")
    assert mock_shop.records() == []
    assert caplog.records == []


def test_unset_secret_is_checked_without_a_signature(app: Flask) -> None:
    app.config["STRIPE_WEBHOOK_SECRET"] = None
    assert check(app)["own webhook"][0] == "ok"


@pytest.mark.parametrize(
    "config",
    [
        {"SERVER_NAME": "shop.example:8000"},
        {"TRUSTED_HOSTS": ["shop.example"], "SERVER_NAME": "shop.example"},
        {"APPLICATION_ROOT": "/shop"},
        {"TESTING": False, "PROPAGATE_EXCEPTIONS": True},
    ],
    ids=",".join,
)
def test_webhook_is_found_whatever_the_app_is_called(app: Flask, config: dict[str, Any]) -> None:
    app.config.update(config)
    assert check(app)["own webhook"][0] == "ok"


def test_every_registered_webhook_without_parameters_is_called(mock_shop: Shop) -> None:
    app = Flask("nested")
    app.config.update({**mock_shop.app.config, **make_config()})
    app.register_blueprint(refunds_bp, url_prefix="/<language>/pay", name="localized")
    app.register_blueprint(refunds_bp, url_prefix="/money")
    assert check(app)["own webhook"] == ("ok", "POST /money/webhook/refunds reaches the library.")


def test_webhook_that_the_app_has_wrapped_is_called(app: Flask) -> None:
    view = app.view_functions["refunds.receive_event"]
    app.view_functions["refunds.receive_event"] = wraps(view)(lambda: ("", 403))
    assert check(app)["own webhook"][1].startswith(f"POST {PATH} returned 403 text/html")


def test_one_of_two_webhooks_that_is_blocked_fails(app: Flask) -> None:
    app.register_blueprint(refunds_bp, url_prefix="/open", name="second")
    app.before_request(lambda: ("", 403) if request.path == "/open/webhook/refunds" else None)
    assert check(app)["own webhook"][1].startswith("POST /open/webhook/refunds returned 403")


def require_csrf_token() -> Any:
    return None if "X-Token" in request.headers else ("<h1>Bad Request</h1>", 400)


def test_hook_that_answers_before_the_library_fails_by_name(app: Flask) -> None:
    app.before_request(lambda: None)
    app.before_request(require_csrf_token)
    status, message = check(app)["own webhook"]
    assert status == "fail"
    assert message.startswith(f"POST {PATH} returned 400 text/html instead of this library's answer. Exempt")
    assert message.endswith(".require_csrf_token.")


def test_redirect_of_the_webhook_fails(app: Flask) -> None:
    app.before_request(lambda: redirect("/sign-in"))
    assert "returned 302 text/html" in check(app)["own webhook"][1]


def test_json_of_another_kind_fails(app: Flask) -> None:
    app.before_request(lambda: ({"msg": "Missing token"}, 401))
    assert check(app)["own webhook"][0] == "fail"
    app.config["STRIPE_WEBHOOK_SECRET"] = None
    assert check(app)["own webhook"][0] == "fail"


def test_middleware_that_changes_the_body_fails(app: Flask) -> None:
    inner = app.wsgi_app

    def change(environ: Any, start_response: Any) -> Any:
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read().upper())
        return inner(environ, start_response)

    app.wsgi_app = change  # type: ignore[method-assign]
    assert "returned 400 application/json" in check(app)["own webhook"][1]


def test_wsgi_middleware_that_answers_is_suspected_last(app: Flask) -> None:
    def block(environ: Any, start_response: Any) -> list[bytes]:
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"no"]

    app.wsgi_app = block  # type: ignore[method-assign]
    assert check(app)["own webhook"][1].endswith(
        "Exempt this path from what runs before it: a WSGI middleware."
    )


@pytest.mark.parametrize("testing", [True, False])
def test_exception_of_a_hook_fails(app: Flask, testing: bool) -> None:
    def fail() -> None:
        raise LookupError("canary")

    app.config["TESTING"] = testing
    app.before_request(fail)
    status, message = check(app)["own webhook"]
    assert (status, "canary" in message) == ("fail", False)
    assert ("LookupError" if testing else "returned 500") in message


def test_exhausted_limit_of_flask_limiter_fails_and_is_named(app: Flask) -> None:
    Limiter(get_remote_address, app=app, storage_uri="memory://", default_limits=["1/day"])
    first, second = check(app), check(app)
    assert first["own webhook"][0] == "ok"
    assert "returned 429" in second["own webhook"][1]
    assert "flask_limiter" in second["own webhook"][1]
    assert first["extensions"][1].startswith(
        "Found Flask-Limiter: its default limits include Stripe's webhook"
    )


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("flask_wtf.csrf", "CSRFProtect"),
        ("flask_seasurf", "SeaSurf"),
        ("flask_talisman", "Talisman"),
        ("flask_cors.extension", "Flask-CORS"),
    ],
)
def test_extension_is_found_by_the_module_of_its_hook(app: Flask, package: str, name: str) -> None:
    def hook(response: Any) -> Any:
        return response

    app.after_request(hook)
    assert "extensions" not in check(app)
    hook.__module__ = package
    status, message = check(app)["extensions"]
    assert (status, name in message) == ("note", True)


# Keys of other libraries


@pytest.mark.parametrize(
    ("config", "fails"),
    [
        ({"SESSION_COOKIE_SAMESITE": "None"}, True),
        ({"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True}, False),
        ({"SESSION_COOKIE_SAMESITE": "Lax"}, False),
        ({}, False),
    ],
)
def test_session_cookie_for_other_sites_must_be_secure(
    app: Flask, config: dict[str, Any], fails: bool
) -> None:
    app.config.update(config)
    found = check(app).get("SESSION_COOKIE_SAMESITE")
    assert (found is not None and found[0] == "fail") is fails


@pytest.mark.parametrize(
    ("locations", "noted"),
    [
        (["cookies"], True),
        ("cookies", True),
        (("json", "query_string"), True),
        (["headers", "cookies"], False),
        ("headers", False),
    ],
)
def test_tokens_that_only_come_in_cookies_are_a_note(app: Flask, locations: Any, noted: bool) -> None:
    app.config["JWT_TOKEN_LOCATION"] = locations
    assert ("JWT_TOKEN_LOCATION" in check(app)) is noted


def test_tokens_that_never_expire_are_a_note(app: Flask) -> None:
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = False
    assert check(app)["JWT_ACCESS_TOKEN_EXPIRES"][0] == "note"


def test_callbacks_of_flask_jwt_extended_that_are_not_called_are_a_note(app: Flask) -> None:
    manager = fje.JWTManager(app)
    assert "callbacks" not in check(app)
    manager.token_in_blocklist_loader(lambda header, claims: True)
    status, message = check(app)["callbacks"]
    assert (status, message.startswith("Flask-JWT-Extended's token_in_blocklist_loader is set")) == (
        "note",
        True,
    )
    app.config["REFUNDS_USER_LOADER"] = dict
    app.extensions.pop("refunds")
    assert "callbacks" not in check(app)


def test_own_current_user_as_the_session_fails(app: Flask) -> None:
    app.config["REFUNDS_CURRENT_USER"] = "flask_refunds:current_user"
    status, message = check(app)["REFUNDS_CURRENT_USER"]
    assert (status, "flask_login.current_user" in message) == ("fail", True)
    app.config["REFUNDS_CURRENT_USER"] = "flask_login:current_user"
    app.extensions.pop("refunds")
    assert "REFUNDS_CURRENT_USER" not in check(app)


def test_unknown_key_with_the_prefix_is_a_note(app: Flask) -> None:
    app.config["REFUNDS_DASHBOARD"] = True
    assert check(app)["unknown"] == (
        "note",
        "REFUNDS_DASHBOARD: not settings of this library, so they are ignored.",
    )


def test_invalid_key_for_tokens_fails_and_the_rest_is_checked(app: Flask) -> None:
    app.config["JWT_SECRET_KEY"] = None
    checks = check(app)
    assert checks["JWT_SECRET_KEY"][0] == "fail"
    assert "config" not in checks
    assert checks["key"][0] == checks["own webhook"][0] == "ok"
