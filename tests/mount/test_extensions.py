"""Apps with other extensions, and apps that add to the blueprint: nothing of the app's is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mongomock
import pytest
from flask import Blueprint, Flask, abort
from flask_wtf import CSRFProtect
from werkzeug.test import TestResponse

from flask_refunds import make_blueprint, refunds_bp
from flask_refunds.testing import StripeSandbox, make_event, signed_event
from tests.mount.conftest import WEBHOOK_SECRET, WatchedClient
from tests.shop import Shop, make_config

SAME_ORIGIN = {"Origin": "http://localhost"}


@pytest.fixture(autouse=True)
def _app_answers(watched: type[WatchedClient]) -> None:
    """Let extensions and hooks answer on our paths."""
    watched.app_answers = watched.allow_html = True


def make_bare_app(sandbox: StripeSandbox, **config: Any) -> Flask:
    """Return an app without the blueprint. An admin is signed in."""
    app = Flask("shop")
    defaults = {
        "JWT_SECRET_KEY": None,
        "REFUNDS_CURRENT_USER": lambda: {"_id": "ada", "role": "admin"},
        "REFUNDS_MONGO": mongomock.MongoClient(tz_aware=True).shop,
        "SECRET_KEY": "of-the-app",
        "STRIPE_API_BASE": sandbox.url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    app.config.update(make_config(**(defaults | config)))
    return app


def refund(app: Flask, sandbox: StripeSandbox, prefix: str = "/api/payments") -> TestResponse:
    shop = Shop(app, app.config["REFUNDS_MONGO"])
    purchase = shop.add_purchase(sandbox.create_payment(700))
    return shop.client.post(f"{prefix}/admin/refund/{purchase}", headers=SAME_ORIGIN)


def send_event(app: Flask, sandbox: StripeSandbox, prefix: str = "/api/payments") -> TestResponse:
    event = make_event("refund.created", sandbox.dashboard_refund(sandbox.create_payment(700)))
    body, headers = signed_event(event, WEBHOOK_SECRET)
    return app.test_client().post(f"{prefix}/webhook/refunds", data=body, headers=headers)


# Flask-WTF


def mount_first(app: Flask, blueprint: Blueprint) -> None:
    app.register_blueprint(blueprint)
    CSRFProtect(app)


def protect_first(app: Flask, blueprint: Blueprint) -> None:
    CSRFProtect().init_app(app)
    app.register_blueprint(blueprint)


def nest(app: Flask, blueprint: Blueprint) -> None:
    CSRFProtect(app)
    parent = Blueprint("parent", "shop")
    parent.register_blueprint(blueprint, name="money")
    app.register_blueprint(parent)


def subclass(app: Flask, blueprint: Blueprint) -> None:
    class OwnProtect(CSRFProtect):  # type: ignore[misc]
        """An app's own subclass."""

    app.register_blueprint(blueprint)
    OwnProtect(app)


@pytest.mark.parametrize("mount", [mount_first, protect_first, nest, subclass])
def test_csrf_protect_does_not_reject_our_post_views(
    sandbox: StripeSandbox, mount: Callable[[Flask, Blueprint], None]
) -> None:
    app = make_bare_app(sandbox)
    mount(app, refunds_bp)
    assert refund(app, sandbox).status_code == 200
    assert send_event(app, sandbox).status_code == 200
    body = {"decision": "dismiss", "comment": "It is correct."}
    for action, sent in (("resolve", body), ("cancel", {"comment": "The customer has moved."})):
        path = f"/api/payments/admin/refunds/pi_none:1/{action}"
        answer = app.test_client().post(path, json=sent, headers=SAME_ORIGIN)
        assert (answer.status_code, answer.json["code"]) == (404, "refund_not_found")


@pytest.mark.parametrize("mount", [mount_first, protect_first, nest])
def test_csrf_protect_covers_other_views(
    sandbox: StripeSandbox, mount: Callable[[Flask, Blueprint], None]
) -> None:
    app, blueprint = make_bare_app(sandbox), make_blueprint()
    passed = []
    for name, adder in (("own", app), ("added", blueprint)):
        adder.add_url_rule(f"/{name}", name, lambda: passed.append(1) or {}, methods=["POST"])
    mount(app, blueprint)
    assert refund(app, sandbox).status_code == 200
    client = app.test_client()
    for path in ("/own", "/api/payments/added"):
        response = client.post(path, headers=SAME_ORIGIN)
        assert (response.status_code, "CSRF token is missing" in response.text) == (400, True)
    assert passed == []


def test_other_extension_named_csrf_is_left_alone(sandbox: StripeSandbox) -> None:
    class Other:
        def exempt(self, view: Any) -> None:
            raise AssertionError(view)

    app = make_bare_app(sandbox)
    app.extensions["csrf"] = Other()
    app.register_blueprint(refunds_bp)
    assert refund(app, sandbox).status_code == 200


def test_flask_wtf_is_not_imported() -> None:
    script = """if True:
        import sys, flask, flask_refunds
        app = flask.Flask("shop")
        app.register_blueprint(flask_refunds.refunds_bp)
        assert app.test_client().post("/api/payments/webhook/refunds").status_code == 500
        assert "flask_wtf" not in sys.modules
    """
    assert subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL).returncode == 0


# Blueprints of one app


def test_hook_of_one_app_does_not_run_in_another(sandbox: StripeSandbox) -> None:
    apps = []
    for name in ("open", "closed"):
        app, blueprint = make_bare_app(sandbox), make_blueprint()
        if name == "closed":
            blueprint.before_request(lambda: abort(418))
        blueprint.add_url_rule(f"/{name}", view_func=dict, endpoint=name)
        app.register_blueprint(blueprint)
        apps.append(app)
        assert refund(app, sandbox).status_code == (200 if name == "open" else 418)
    for app, name in zip(apps, ("closed", "open"), strict=True):
        assert app.test_client().get(f"/api/payments/{name}").status_code == 404


def test_made_blueprint_is_like_the_shared_one(sandbox: StripeSandbox) -> None:
    apps = []
    for blueprint in (refunds_bp, make_blueprint()):
        app = make_bare_app(sandbox)
        app.register_blueprint(blueprint)
        apps.append(app)
    shared, made = ({(rule.rule, rule.endpoint) for rule in app.url_map.iter_rules()} for app in apps)
    assert made == shared
    commands = [app.test_cli_runner().invoke(args=["refunds", "--help"]).output for app in apps]
    assert commands[0] == commands[1]
    assert "reconcile" in commands[0]
    assert make_blueprint() is not make_blueprint()


def test_made_blueprint_can_be_changed_after_another_app_was_served(sandbox: StripeSandbox) -> None:
    app = make_bare_app(sandbox)
    app.register_blueprint(refunds_bp)
    assert refund(app, sandbox).status_code == 200
    with pytest.raises(AssertionError, match="can no longer be called"):
        refunds_bp.before_request(lambda: None)
    make_blueprint().before_request(lambda: None)
