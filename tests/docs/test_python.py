"""Run the documentation's Python blocks, page by page, and check the apps that they create."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from bson import ObjectId
from celery import current_app as celery_current_app
from flask import Flask, request
from flask_login import LoginManager, login_user
from flask_login import UserMixin as LoginUserMixin
from flask_security import RoleMixin, Security, UserDatastore, UserMixin, hash_password
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client import REGISTRY, generate_latest
from werkzeug.security import generate_password_hash

from flask_refunds import ConfigurationError, console, prometheus, refund_succeeded, refunds_bp
from flask_refunds.storage import connection
from flask_refunds.testing import StripeSandbox, make_event, make_token, signed_event
from tests.docs.apps import PageRunner, assert_refunds_once, serve
from tests.docs.pages import BLOCKS, ROOT, Block, blocks_of
from tests.mount.jwks import key_endpoint
from tests.mount.keys import claims, key_pair
from tests.shop import JWT_SECRET, make_config

TESTED_ELSEWHERE = {"docs/quickstart.md", "docs/testing.md"}
"""Pages whose blocks are the files of one project: see test_quickstart.py, and the last test below."""

SECRET = "whsec_of_the_documentation"
WEBHOOK = "/api/payments/webhook/refunds"
LIST = "/api/payments/admin/refunds"


@pytest.fixture
def page(
    database: Any,
    mongo_uri: str,
    sandbox: StripeSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[PageRunner]:
    opened = []

    def connect(uri: str | None) -> Any:
        opened.append(connect_to(uri))
        return opened[-1]

    connect_to = connection._connect_to
    monkeypatch.setattr(connection, "_connect_to", connect)
    monkeypatch.setattr("flask_refunds.config.STRIPE_API_BASE", sandbox.url)
    monkeypatch.chdir(tmp_path)
    yield PageRunner(database, mongo_uri, sandbox)
    for each in opened:
        each.client.close()


def python_of(name: str, heading: str | None = None) -> list[Block]:
    """Return the Python blocks of a page, or those below one heading."""
    found = [each for each in blocks_of(name) if each.kind == "python"]
    return [each for each in found if heading in (None, each.heading)]


def run(page: PageRunner, name: str, heading: str | None = None) -> None:
    blocks = python_of(name, heading)
    assert blocks, f"no Python below {heading!r} on {name}"
    for block in blocks:
        page.run(block)


# One function for each page or heading: it provides what the blocks assume, runs them, and checks the result.

Check = Callable[[PageRunner], None]


def readme(page: PageRunner) -> None:
    run(page, "README.md")
    assert_refunds_once(page)


def index(page: PageRunner) -> None:
    page.add_app(registered=False)
    run(page, "docs/index.md")
    assert_refunds_once(page)


def requirements(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/requirements.md", "Overview")
    page.db.users.update_one({"_id": page.user}, {"$set": {"roles": ["refunds"]}})
    purchase, payment = page.add_purchase()
    stored = page.db.purchases.find_one_and_delete({"_id": purchase})
    del stored["stripePaymentIntentId"], stored["status"]
    page.db.orders.insert_one({**stored, "stripe": {"paymentIntent": payment}, "state": "paid"})
    token = make_token("ada@shop.example", secret=JWT_SECRET)
    with serve(app) as call:
        response = call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers(token))
        assert (response.status, response.json.get("message")) == (200, "Refund successful"), response
        page.db.users.update_one({"_id": page.user}, {"$set": {"roles": []}})
        assert call("GET", LIST, page.admin_headers(token)).status == 403
    assert page.db.orders.find_one()["state"] == "returned"


def flask_jwt_extended(page: PageRunner) -> None:
    from flask_jwt_extended import create_access_token

    app = page.add_app()
    run(page, "docs/authentication.md", "Use Flask-JWT-Extended")
    with app.app_context():
        token, revoked = (create_access_token(str(page.user)) for _ in range(2))
    assert_refunds_once(page, token=token)
    jti = jwt.decode(revoked, options={"verify_signature": False})["jti"]
    page.db.revoked_tokens.insert_one({"_id": jti})
    with serve(app) as call:
        assert call("GET", LIST, page.admin_headers(token)).status == 200
        assert call("GET", LIST, page.admin_headers(revoked)).status == 401


class Role(RoleMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.name = name


class Member(UserMixin):  # type: ignore[misc]
    active = True
    fs_uniquifier = ""

    def __init__(self, email: str, role: str) -> None:
        self.email = email
        self.fs_uniquifier = f"uniquifier-of-{email}"
        self.roles = [Role(role)]
        self.password = ""


class Members(UserDatastore):  # type: ignore[misc]
    """A minimal datastore for Flask-Security."""

    def __init__(self, *members: Member) -> None:
        super().__init__(Member, Role)
        self.members = list(members)

    def find_user(self, case_insensitive: bool = False, **wanted: Any) -> Any:
        [(name, value)] = wanted.items()
        return next((each for each in self.members if getattr(each, name, None) == value), None)

    def put(self, model: Any) -> Any:
        return model

    def commit(self) -> None: ...


SAME_ORIGIN = {"Origin": "http://localhost"}
CROSS_SITE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def assert_refunds_by_session(page: PageRunner, sign_in: Callable[[Any, str], None], admin_id: str) -> None:
    """Check that Ada, an admin, refunds once by session, and that no other user or website can."""
    app = page.names["app"]
    purchase, payment = page.add_purchase()
    path = f"/api/payments/admin/refund/{purchase}"
    stranger, ben, ada = (app.test_client() for _ in range(3))
    sign_in(ben, "ben")
    sign_in(ada, "ada")
    assert stranger.post(path, headers=SAME_ORIGIN).status_code == 401
    assert ben.post(path, headers=SAME_ORIGIN).status_code == 403
    for headers in (CROSS_SITE, {}):
        assert ada.post(path, headers=headers).json["code"] == "cross_site_request"
    assert page.stripe.money_refunded(payment) == 0
    assert ada.post(path, headers=SAME_ORIGIN).json["message"] == "Refund successful"
    assert page.stripe.money_refunded(payment) == 1999
    assert page.db.flask_refunds.find_one()["requestedBy"] == admin_id


def add_session_app(page: PageRunner, **config: Any) -> Flask:
    return page.add_app(JWT_SECRET_KEY=None, SECRET_KEY="of-the-app", **config)


def flask_login(page: PageRunner) -> None:
    class LoginUser(LoginUserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id, self.role = name, "admin" if name == "ada" else "customer"

    app = add_session_app(page)
    manager = LoginManager(app)
    manager.user_loader(LoginUser)

    @app.post("/login")
    def login() -> str:
        login_user(LoginUser(request.form["name"]))
        return ""

    run(page, "docs/sessions.md", "Use Flask-Login")
    assert_refunds_by_session(
        page, lambda client, name: client.post("/login", data={"name": name}), admin_id="ada"
    )


def flask_security(page: PageRunner) -> None:
    app = add_session_app(
        page,
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        WTF_CSRF_ENABLED=False,
        SECURITY_CACHE_CONTROL=None,
    )
    ada, ben = Member("ada@shop.example", "admin"), Member("ben@shop.example", "customer")
    Security(app, Members(ada, ben))
    run(page, "docs/sessions.md", "Use Flask-Security")
    with app.app_context():
        ada.password = ben.password = hash_password("fig-tree")

    def sign_in(client: Any, name: str) -> None:
        client.post("/login", json={"email": f"{name}@shop.example", "password": "fig-tree"})

    assert_refunds_by_session(page, sign_in, admin_id=ada.fs_uniquifier)
    with app.app_context():
        token, token_of_ben = ada.get_auth_token(), ben.get_auth_token()
    with serve(app) as call:
        assert call("GET", LIST, {"Authentication-Token": token_of_ben}).status == 403
        purchase, _ = page.add_purchase()
        path, headers = f"/api/payments/admin/refund/{purchase}", {"Authentication-Token": token}
        body = json.dumps({"reason": "duplicate"})
        assert call("POST", path, headers | {"Content-Type": "application/json"}, body).status == 200
        ada.active = False
        assert call("GET", LIST, headers).status == 401


def own_session(page: PageRunner) -> None:
    app = add_session_app(page)
    page.db.users.insert_one({"name": "Ben", "role": "user", "email": "ben@shop.example"})
    page.db.users.update_one({"_id": page.user}, {"$set": {"email": "ada@shop.example"}})
    page.db.users.update_many({}, {"$set": {"password": generate_password_hash("fig-tree")}})
    run(page, "docs/sessions.md", "Use a session of your own")

    def sign_in(client: Any, name: str) -> None:
        wrong = {"email": f"{name}@shop.example", "password": "fig"}
        assert client.post("/login", data=wrong).status_code == 401
        assert client.post("/login", data={**wrong, "password": "fig-tree"}).status_code == 200

    assert_refunds_by_session(page, sign_in, admin_id=str(page.user))
    client = app.test_client()
    sign_in(client, "ada")
    page.db.users.update_one({"_id": page.user}, {"$set": {"active": False}})
    assert client.get(LIST).status_code == 401


def send_external_refund(page: PageRunner) -> int:
    """Send an event of a refund made in the Dashboard, and return the response's status."""
    _, payment = page.add_purchase()
    body, headers = signed_event(make_event("refund.created", page.stripe.dashboard_refund(payment)), SECRET)
    with serve(page.names["app"]) as call:
        return int(call("POST", WEBHOOK, headers, body).status)


def add_extended_app(page: PageRunner, **config: Any) -> Flask:
    return page.add_app(SECRET_KEY="of-the-app", STRIPE_WEBHOOK_SECRET=SECRET, TESTING=False, **config)


def seasurf(page: PageRunner) -> None:
    app = add_extended_app(page)
    app.post("/own")(lambda: "")
    run(page, "docs/extensions.md", "Flask-SeaSurf")
    assert_refunds_once(page)
    assert send_external_refund(page) == 200
    assert app.test_client().post("/own").status_code == 403


def limiter(page: PageRunner) -> None:
    app = add_extended_app(page)
    run(page, "docs/extensions.md", "Flask-Limiter")
    assert [send_external_refund(page) for _ in range(2)] == [200, 200]
    client = app.test_client()
    assert {client.post(WEBHOOK).status_code for _ in range(101)} == {400}
    assert [client.get(LIST).status_code for _ in range(101)] == [401] * 100 + [429]


def talisman(page: PageRunner) -> None:
    app = add_extended_app(page)
    plain = app.test_client().get("/api/payments/admin/", base_url="https://localhost").headers
    app = add_extended_app(page)
    run(page, "docs/extensions.md", "Flask-Talisman")
    client = app.test_client()
    secured = client.get("/api/payments/admin/", base_url="https://localhost").headers
    for name in ("Content-Security-Policy", "X-Frame-Options", "X-Content-Type-Options"):
        assert secured[name] == plain[name]
    assert "Strict-Transport-Security" in secured
    assert not hasattr(console.show_page, "talisman_view_options"), "other apps would get these options"
    other = client.get("/nothing", base_url="https://localhost").headers
    assert other["Content-Security-Policy"].startswith("default-src 'self'")
    assert client.post(WEBHOOK).status_code == 302


def cors(page: PageRunner) -> None:
    by_token, by_session = python_of("docs/extensions.md", "Flask-CORS")
    origin = {"Origin": "https://admin.example", "Sec-Fetch-Site": "cross-site"}
    evil = origin | {"Origin": "https://evil.example"}
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for block in (by_token, by_session):
        app = add_extended_app(page, REFUNDS_CURRENT_USER=lambda: {"_id": "ada", "role": "admin"})
        page.run(block)
        client, (purchase, _) = app.test_client(), page.add_purchase()
        path = f"/api/payments/admin/refund/{purchase}"
        allowed = client.options(path, headers=origin | preflight).headers
        assert allowed["Access-Control-Allow-Origin"] == "https://admin.example"
        assert "Access-Control-Allow-Origin" not in client.options(path, headers=evil | preflight).headers
        assert client.post(path, headers=evil).status_code == 403
        by_cookie = client.post(path, headers=origin)
        assert by_cookie.status_code == (403 if block is by_token else 200)
        assert ("Access-Control-Allow-Credentials" in by_cookie.headers) == (block is by_session)
        assert client.get(LIST, headers=origin | page.admin_headers()).status_code == 200


def own_blueprint(page: PageRunner) -> None:
    app = page.add_app(registered=False, STRIPE_WEBHOOK_SECRET=SECRET)
    run(page, "docs/extensions.md", "Add hooks or views to the blueprint")
    assert_refunds_once(page)
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert app.test_client().get(LIST, headers=page.admin_headers(), **elsewhere).status_code == 403
    assert app.test_client().post(WEBHOOK, **elsewhere).status_code == 400


@contextmanager
def identity_provider(page: PageRunner) -> Iterator[Callable[..., str]]:
    """Serve the keys of the page's provider, and yield a function that signs tokens."""
    pair = key_pair("RS256")

    def sign(**changes: Any) -> str:
        about = claims("ada@login", **{"aud": "shop", "iss": "https://login.example/", **changes})
        return str(jwt.encode(about, pair.key, algorithm="RS256", headers={"kid": "1"}))

    app = page.add_app()
    run(page, "docs/authentication.md", "Use an identity provider")
    assert app.config["JWT_JWKS_URL"].startswith("https://")
    with key_endpoint(pair.jwk("RS256", "1")) as provider:
        app.config["JWT_JWKS_URL"] = provider.url
        yield sign


def users_of_identity_provider(page: PageRunner) -> None:
    with identity_provider(page) as sign:
        page.db.users.update_one({"_id": page.user}, {"$set": {"subject": "ada@login"}})
        assert_refunds_once(page, token=sign())
        with serve(page.names["app"]) as call:
            assert call("GET", LIST, page.admin_headers(sign(aud="another"))).status == 401


def users_outside_mongodb(page: PageRunner) -> None:
    with identity_provider(page) as sign:
        run(page, "docs/authentication.md", "Users outside MongoDB")
        assert_refunds_once(page, token=sign(roles=["refund-admin"]))
        with serve(page.names["app"]) as call:
            assert call("GET", LIST, page.admin_headers(sign(roles=["reader"]))).status == 403


def own_views(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/authentication.md", "Protect your own views")
    with serve(app) as call:
        assert call("GET", "/admin/hello").status == call("GET", "/me").status == 401
        assert call("GET", "/admin/hello", page.admin_headers()).json == {"hello": "Ada"}
        page.db.users.update_one({"_id": page.user}, {"$set": {"role": "user"}})
        assert call("GET", "/admin/hello", page.admin_headers()).status == 403
        assert call("GET", "/me", page.admin_headers()).json == {"name": "Ada"}


def webhooks(page: PageRunner) -> None:
    os.environ.update(STRIPE_WEBHOOK_SECRET=SECRET, OLD_SECRET=f"{SECRET}_old", NEW_SECRET=f"{SECRET}_new")
    app = page.add_app()
    run(page, "docs/webhooks.md")
    with serve(app) as call:
        for path, secret in ((WEBHOOK, f"{SECRET}_old"), (WEBHOOK, f"{SECRET}_new"), ("/stripe", SECRET)):
            purchase, payment = page.add_purchase()
            event = make_event("refund.created", page.stripe.dashboard_refund(payment))
            for used in (f"{SECRET}_wrong", secret):
                body, headers = signed_event(event, used)
                assert call("POST", path, headers, body).status == (200 if used == secret else 400)
                assert (page.find_purchase(purchase)["status"] == "refunded") is (used == secret)


class Chat(BaseHTTPRequestHandler):
    messages: list[str]

    def do_POST(self) -> None:
        self.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@contextmanager
def chat_server() -> Iterator[list[str]]:
    """Serve the chat at ``CHAT_URL``, and yield its messages."""
    server = HTTPServer(("127.0.0.1", 0), Chat)
    Chat.messages = []
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    os.environ["CHAT_URL"] = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield Chat.messages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signals(page: PageRunner) -> None:
    app = page.add_app(STRIPE_WEBHOOK_SECRET=SECRET)
    with chat_server() as messages:
        run(page, "docs/signals.md")
        with page.names["mail"].record_messages() as outbox:
            assert_refunds_once(page)
            check_redelivery_sends_no_mail(page)
            assert [(mail.subject, mail.recipients) for mail in outbox] == [
                ("Your refund", ["ada@shop.example"])
            ]
            check_partial_external_refund_keeps_access(page)
            assert (len(outbox), messages) == (1, [])
        check_failure_after_success_restores_access(page)
        [message] = messages
        assert "failed_after_success" in message
    created = page.names["create_app"](dict(app.config))
    gc.collect()
    assert len(list(refund_succeeded.receivers_for(created))) == 1


def check_redelivery_sends_no_mail(page: PageRunner) -> None:
    purchase = page.db.purchases.find_one()
    assert purchase["accessGranted"] is False
    refund_id = page.db.flask_refunds.find_one()["_id"]
    assert page.db.mails.find_one()["_id"] == f"{refund_id} succeeded"
    refund = SimpleNamespace(purchase_ids=[purchase["_id"]], status=SimpleNamespace(value="succeeded"))
    with page.names["app"].app_context():
        page.names["mail_customer"](page.names["app"], refund, refund_id)


def check_partial_external_refund_keeps_access(page: PageRunner) -> None:
    purchase, payment = page.add_purchase()
    send_event(page, "refund.created", page.stripe.dashboard_refund(payment, 500))
    assert page.db.flask_refunds.find_one({"paymentIntent": payment})["status"] == "succeeded"
    stored = page.find_purchase(purchase)
    assert (stored["status"], stored["accessGranted"]) == ("completed", True)


def check_failure_after_success_restores_access(page: PageRunner) -> None:
    purchase, payment = page.add_purchase(card="4000000000005126")
    with serve(page.names["app"]) as call:
        assert call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers()).status == 200
    assert page.find_purchase(purchase)["accessGranted"] is False
    [refund] = page.stripe.refunds(payment)
    send_event(page, "refund.failed", page.stripe.settle(refund["id"], "failed", "expired_or_canceled_card"))
    assert page.find_purchase(purchase)["accessGranted"] is True


def send_event(page: PageRunner, kind: str, refund: Any) -> None:
    body, headers = signed_event(make_event(kind, refund), SECRET)
    with serve(page.names["app"]) as call:
        assert call("POST", WEBHOOK, headers, body).status == 200


def checkout(page: PageRunner) -> None:
    app = page.add_app(registered=False)
    run(page, "docs/checkout.md")
    app.register_blueprint(refunds_bp)
    payment = page.stripe.create_payment(1999)
    session = page.stripe.create_checkout_session(payment)
    purchase, _ = page.add_purchase(checkout={"sessionId": session})
    with serve(app) as call:
        assert call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers()).status == 200
    assert page.find_purchase(purchase)["status"] == "refunded"
    assert page.stripe.money_refunded(payment) == 1999


def destination_charges(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/connect.md", "Destination charges")
    payment = page.stripe.create_payment(1999, transfer_to="acct_1Seller", application_fee_amount=200)
    purchase, _ = page.add_purchase(stripePaymentIntentId=payment)
    with serve(app) as call:
        assert call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers()).status == 200
    assert page.stripe.transfer(payment)["amount_reversed"] == 1999
    assert page.stripe.application_fee(payment)["amount_refunded"] == 200


def direct_charges(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/connect.md", "Direct charges")
    payment = page.stripe.create_payment(1999, account="acct_1Seller")
    fields = {"seller": {"stripeAccount": "acct_1Seller"}, "stripePaymentIntentId": payment}
    purchase, _ = page.add_purchase(**fields)
    with serve(app) as call:
        assert call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers()).status == 200
    assert page.stripe.money_refunded(payment) == 1999


def options_function(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/connect.md", "Options for each purchase")
    payments = [page.stripe.create_payment(1999, transfer_to="acct_1Seller") for _ in range(2)]
    for payment, kept in zip(payments, (True, False), strict=True):
        purchase, _ = page.add_purchase(stripePaymentIntentId=payment, sellerKeepsMoney=kept)
        with serve(app) as call:
            assert call("POST", f"/api/payments/admin/refund/{purchase}", page.admin_headers()).status == 200
    assert [page.stripe.transfer(each)["amount_reversed"] for each in payments] == [0, 1999]


def python(page: PageRunner) -> None:
    page.add_app()
    canceled = [page.add_purchase(event="canceled-2024")[0] for _ in range(2)]
    purchase, _ = page.add_purchase()
    page.names["purchase"] = page.find_purchase(purchase)
    page.names["other"] = page.find_purchase(page.add_purchase()[0])
    run(page, "docs/python.md")
    result = page.names["result"]
    assert (result.refund.status.value, result.refund.amount, result.refund.currency) == (
        "succeeded",
        1999,
        "usd",
    )
    assert (page.names["plan"].refundable, page.names["summary"].incomplete) == (2, 0)
    assert {page.find_purchase(each)["status"] for each in (purchase, *canceled)} == {"refunded"}


def celery(page: PageRunner) -> None:
    """Runs the tasks where they are sent, without a worker."""
    page.add_app()
    purchases = [
        page.add_purchase(_id=ObjectId("6b0635cf3cab3f672ac1a80a"))[0],
        page.add_purchase(content="65f424a8c1d2e3f405162738")[0],
        page.add_purchase(_id=ObjectId.from_datetime(datetime(2024, 3, 15, 12, tzinfo=timezone.utc)))[0],
    ]
    before = celery_current_app._get_current_object()
    try:
        run(page, "docs/celery.md", "Set up Celery")
        page.names["celery"].conf.update(task_always_eager=True, task_eager_propagates=True)
        run(page, "docs/celery.md", "Send tasks")
        [entry] = page.names["celery"].conf.beat_schedule.values()
        assert entry["task"] in page.names["celery"].tasks
    finally:
        before.set_current()
        before.set_default()
    assert {page.find_purchase(each)["status"] for each in purchases} == {"refunded"}


def app_factory(page: PageRunner) -> None:
    run(page, "docs/recipes.md", "Use an app factory")
    config = make_config(MONGO_URI=page.uri)
    assert_refunds_once(page, page.names["create_app"](config))
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        page.names["create_app"](config | {"JWT_SECRET_KEY": "short"})


def url_prefix(page: PageRunner) -> None:
    run(page, "docs/recipes.md", "Use another URL prefix")
    for name, prefix in (("app", "/pay"), ("shop", "/v2/payments")):
        page.names[name].config.update(make_config(MONGO_URI=page.uri))
        assert_refunds_once(page, page.names[name], prefix)
    assert any(each.startswith("api.money.") for each in page.names["shop"].view_functions)


def rate_limit(page: PageRunner) -> None:
    app = page.add_app(registered=False, STRIPE_WEBHOOK_SECRET=SECRET)
    run(page, "docs/recipes.md", "Limit the request rate")
    assert_refunds_once(page)
    body, headers = signed_event(make_event("refund.created", page.stripe.refunds()[0]), SECRET)
    with serve(app) as call:
        responses = [call("GET", LIST, page.admin_headers()) for _ in range(61)]
        assert responses[0].status == 200
        assert (responses[-1].status, responses[-1].json["code"]) == (429, "too_many_requests")
        assert {call("POST", WEBHOOK, headers, body).status for _ in range(61)} == {200}


def openapi(page: PageRunner) -> None:
    smorest = pytest.importorskip("flask_smorest", reason="flask-smorest is missing: install the extra test")
    app = page.add_app()
    run(page, "docs/recipes.md", "Add the endpoints to your own OpenAPI document")
    own = smorest.Blueprint("refunds-of-the-app", "shop")
    own.add_url_rule("/Refund", "show", lambda: "shown")
    page.names["api"].register_blueprint(own)
    served = app.test_client().get("/openapi.json").get_json()
    schemas = {"Refund": {"type": "object"}}
    merged = page.names["add_refund_endpoints"](
        {**served, "paths": {}, "components": {"schemas": dict(schemas)}, "security": []}
    )
    for spec in (served, merged):
        OpenAPIV31SpecValidator(spec).validate()
        security = spec["paths"]["/api/payments/admin/all"]["get"]["security"]
        assert security == [{"bearer": []}, {"session": []}]
    assert "/Refund" in served["paths"]
    assert merged["components"]["schemas"].items() > schemas.items()


def several_shops(page: PageRunner) -> None:
    page.add_app()
    run(page, "docs/recipes.md", "Run several shops in one process")
    application = page.names["application"]
    north = PageRunner(page.db.client["north"], "", page.stripe)
    try:
        assert_refunds_once(north, application, "/north/api/payments")
        with serve(application) as call:
            assert call("GET", f"/south{LIST}", north.admin_headers()).status == 401
    finally:
        page.db.client.drop_database("north")


def mongoengine_documents(page: PageRunner) -> None:
    app = page.add_app()
    run(page, "docs/recipes.md", "Use mongoengine documents")
    shop = SimpleNamespace(**page.names)
    try:
        admin = shop.Customer(login="Ada", email="ada@shop.example", role="admin").save()
        payment = page.stripe.create_payment(1999, "eur")
        paid = shop.Payment(intent=payment, amount="19.99", currency="eur")
        order = shop.Order(customer=admin, payment=paid, state="paid").save()
        headers = page.admin_headers(make_token(str(admin.id), secret=JWT_SECRET))
        with serve(app) as call:
            [listed] = call("GET", "/api/payments/admin/all?user=ada@shop.example", headers).json["purchases"]
            assert listed["_refunds"]["amountText"] == "19.99 EUR"
            assert listed["_refunds"]["user"]["name"] == "Ada"
            assert call("POST", f"/api/payments/admin/refund/{order.id}", headers).status == 200
        assert order.reload().state == "returned"
        order.save()
    finally:
        shop.me.disconnect()


def monitoring(page: PageRunner) -> None:
    app = page.add_app()
    before = set(REGISTRY._collector_to_names)
    try:
        run(page, "docs/monitoring.md", "Expose the metrics")
        with serve(app) as call:
            scrape = call("GET", "/metrics")
        assert scrape.headers["Content-Type"] == page.names["CONTENT_TYPE_LATEST"]
        assert b"flask_refunds_ledger_readable 1.0" in scrape.body
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.getcwd()
        run(page, "docs/monitoring.md", "Several workers")
        assert b"flask_refunds_ledger_readable 1.0" in generate_latest(page.names["registry"])
    finally:
        # The process's own registry would keep this app.
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)
        for cached in vars(prometheus).values():
            getattr(cached, "cache_clear", lambda: None)()


def json_logging(page: PageRunner) -> None:
    run(page, "docs/logging.md")
    record = logging.LogRecord("flask_refunds", logging.WARNING, "", 1, "message", (), None)
    record.refunds = {"event": "refund_rejected", "refund_id": "pi_1:1"}
    assert json.loads(page.names["JSONFormatter"]().format(record)) == {
        "level": "WARNING",
        "message": "message",
        "event": "refund_rejected",
        "refund_id": "pi_1:1",
    }


def celery_beat(page: PageRunner) -> None:
    Path("shop.py").write_text(
        "from flask import Flask\nfrom flask_refunds import refunds_bp\n"
        "app = Flask('shop')\napp.config.from_prefixed_env('SHOP')\napp.register_blueprint(refunds_bp)\n"
    )
    os.environ.update(
        SHOP_MONGO_URI=page.uri,
        SHOP_STRIPE_SECRET_KEY="sk_test_1",
        SHOP_STRIPE_API_BASE=page.stripe.url,
        SHOP_JWT_SECRET_KEY=JWT_SECRET,
        PYTHONPATH=str(ROOT),
    )
    run(page, "docs/reconcile.md")
    [entry] = page.names["celery"].conf.beat_schedule.values()
    assert entry["task"] in page.names["celery"].tasks
    page.names["reconcile_refunds"]()
    os.environ["SHOP_STRIPE_SECRET_KEY"] = "short"
    with pytest.raises(RuntimeError, match="STRIPE_SECRET_KEY"):
        page.names["reconcile_refunds"]()


def sandbox_controls(page: PageRunner) -> None:
    page.names["stripe"] = page.stripe
    run(page, "docs/test-kit.md")
    payment = page.names["payment"]
    assert page.stripe.charge(payment)["amount_captured"] == 2500
    assert page.stripe.money_refunded(payment) == 500


CHECKS: dict[tuple[str, str | None], Check] = {
    ("README.md", None): readme,
    ("docs/authentication.md", "Protect your own views"): own_views,
    ("docs/authentication.md", "Use Flask-JWT-Extended"): flask_jwt_extended,
    ("docs/authentication.md", "Use an identity provider"): users_of_identity_provider,
    ("docs/authentication.md", "Users outside MongoDB"): users_outside_mongodb,
    ("docs/celery.md", None): celery,
    ("docs/extensions.md", "Add hooks or views to the blueprint"): own_blueprint,
    ("docs/extensions.md", "Flask-CORS"): cors,
    ("docs/extensions.md", "Flask-Limiter"): limiter,
    ("docs/extensions.md", "Flask-SeaSurf"): seasurf,
    ("docs/extensions.md", "Flask-Talisman"): talisman,
    ("docs/checkout.md", None): checkout,
    ("docs/connect.md", "Destination charges"): destination_charges,
    ("docs/connect.md", "Direct charges"): direct_charges,
    ("docs/connect.md", "Options for each purchase"): options_function,
    ("docs/index.md", None): index,
    ("docs/logging.md", None): json_logging,
    ("docs/monitoring.md", None): monitoring,
    ("docs/python.md", None): python,
    ("docs/recipes.md", "Add the endpoints to your own OpenAPI document"): openapi,
    ("docs/recipes.md", "Limit the request rate"): rate_limit,
    ("docs/recipes.md", "Run several shops in one process"): several_shops,
    ("docs/recipes.md", "Use an app factory"): app_factory,
    ("docs/recipes.md", "Use mongoengine documents"): mongoengine_documents,
    ("docs/recipes.md", "Use another URL prefix"): url_prefix,
    ("docs/reconcile.md", None): celery_beat,
    ("docs/requirements.md", "Overview"): requirements,
    ("docs/sessions.md", "Use Flask-Login"): flask_login,
    ("docs/sessions.md", "Use Flask-Security"): flask_security,
    ("docs/sessions.md", "Use a session of your own"): own_session,
    ("docs/signals.md", None): signals,
    ("docs/test-kit.md", None): sandbox_controls,
    ("docs/webhooks.md", None): webhooks,
}
"""The check for each page, or for each heading of a page."""


def test_every_python_block_has_a_check() -> None:
    for block in BLOCKS:
        if block.kind == "python" and block.page not in TESTED_ELSEWHERE:
            assert {(block.page, None), (block.page, block.heading)} & CHECKS.keys(), str(block)


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("part", CHECKS, ids=lambda part: " ".join(filter(None, part)))
def test_python_blocks_work(page: PageRunner, part: tuple[str, str | None]) -> None:
    CHECKS[part](page)


def run_testing_page(folder: Path, files: Collection[str], *arguments: str) -> str:
    """Run files of the page as a project of their own, with the app of ``shop.py``, and return the output."""
    for block in python_of("docs/testing.md"):
        if block.file in files:
            (folder / block.file).write_text(block.text)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "pytest_flask_refunds", *arguments, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


TESTING_FILES = {
    "conftest.py",
    "test_refunds.py",
    "test_faults.py",
    "test_webhooks.py",
    "test_time.py",
    "test_case.py",
    "test_with_unittest.py",
}


@pytest.mark.parametrize("server", [False, True], ids=["mongomock", "MongoDB"])
def test_tests_of_the_testing_page_pass(tmp_path: Path, request: pytest.FixtureRequest, server: bool) -> None:
    (factory,) = python_of("docs/recipes.md", "Use an app factory")
    (tmp_path / "shop.py").write_text(factory.text)
    assert {each.file for each in python_of("docs/testing.md")} == {*TESTING_FILES, None}
    arguments = ["--refunds-mongo", request.getfixturevalue("mongo_uri")] if server else []
    assert "27 passed" in run_testing_page(tmp_path, TESTING_FILES, *arguments)


def test_app_without_a_factory_is_tested_like_one(tmp_path: Path) -> None:
    (factory,) = python_of("docs/recipes.md", "Use an app factory")
    create = factory.text.replace("    check_config(app)", "    # check_config(app)")
    (tmp_path / "shop.py").write_text(f"{create}\napp = create_app({{}})\n")
    (fixture,) = python_of("docs/testing.md", "Apps without a factory")
    (tmp_path / "conftest.py").write_text(f"import pytest\nimport shop\n\n{fixture.text}")
    assert "5 passed" in run_testing_page(tmp_path, {"test_refunds.py"})


def test_five_scenarios_take_at_most_35_lines() -> None:
    files = {"conftest.py", "test_refunds.py"}
    text = "".join(each.text for each in python_of("docs/testing.md") if each.file in files)
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    assert len(lines) <= 35
    assert sum(line.startswith("def test_") for line in lines) == 5
