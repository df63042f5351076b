"""The Python of the documentation is run, page by page; and the hosts that it makes are served and asked."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import stripe
from bson import ObjectId
from celery import current_app as celery_current_app
from flask import Flask
from flask_security import RoleMixin, Security, UserDatastore, UserMixin, hash_password
from prometheus_client import REGISTRY, generate_latest

from flask_refunds import ConfigurationError, prometheus
from flask_refunds.storage import connection as database_module
from flask_refunds.testing import StripeSandbox, make_event, make_token, signed_event
from tests.docs.hosts import Host, refunds_one, served
from tests.docs.pages import BLOCKS, ROOT, Block, blocks_of
from tests.mount.jwks import key_endpoint
from tests.mount.keys import claims, key_pair
from tests.shop import JWT_SECRET, make_config

OWN_TESTS = {"docs/quickstart.md": "test_quickstart.py", "docs/testing.md": "test_testing_page below"}
"""Pages whose blocks are files of one project."""

SECRET = "whsec_of_the_documentation"


@pytest.fixture
def host(
    database: Any,
    mongo_uri: str,
    sandbox: StripeSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Host]:
    opened = []

    def connect(uri: str | None) -> Any:
        opened.append(connect_to(uri))
        return opened[-1]

    connect_to = database_module._connect_to
    monkeypatch.setattr(database_module, "_connect_to", connect)
    monkeypatch.setattr("flask_refunds.config.STRIPE_API_BASE", sandbox.url)
    monkeypatch.chdir(tmp_path)
    yield Host(database, mongo_uri, sandbox)
    for each in opened:
        each.client.close()


def python_of(page: str, heading: str | None = None) -> list[Block]:
    """The Python blocks of a page, or of what stands under one heading."""
    found = [each for each in blocks_of(page) if each.kind == "python"]
    return [each for each in found if heading in (None, each.heading)]


def run(host: Host, page: str, heading: str | None = None) -> None:
    blocks = python_of(page, heading)
    assert blocks, f"nothing under {heading!r} on {page}"
    for block in blocks:
        host.run(block)


# What is taken for granted by each part, and what is asked of it: by page and heading. None is a whole page.

Ask = Callable[[Host], None]


def readme(host: Host) -> None:
    run(host, "README.md")
    refunds_one(host)


def index(host: Host) -> None:
    host.give_app(mounted=False)
    run(host, "docs/index.md")
    refunds_one(host)


def mounting(host: Host) -> None:
    run(host, "docs/mounting.md", "Mounting")
    refunds_one(host)


def elsewhere(host: Host) -> None:
    run(host, "docs/mounting.md", "Where")
    for name, prefix in (("app", "/pay"), ("shop", "/v2/payments")):
        host.names[name].config.update(make_config(MONGO_URI=host.uri))
        refunds_one(host, host.names[name], prefix)
    assert any(each.startswith("api.money.") for each in host.names["shop"].view_functions)


def factory(host: Host) -> None:
    run(host, "docs/mounting.md", "In an app factory")
    config = make_config(MONGO_URI=host.uri)
    refunds_one(host, host.names["create_app"](config))
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        host.names["create_app"](config | {"JWT_SECRET_KEY": "short"})


def own_views(host: Host) -> None:
    host.give_app()
    run(host, "docs/mounting.md", "Your own views behind the same door")
    with served(host.names["app"]) as ask:
        assert ask("GET", "/admin/hello").status == ask("GET", "/me").status == 401
        assert ask("GET", "/admin/hello", host.bearer()).json == {"hello": "Ada"}
        host.db.users.update_one({"_id": host.user}, {"$set": {"role": "user"}})
        assert ask("GET", "/admin/hello", host.bearer()).status == 403
        assert ask("GET", "/me", host.bearer()).json == {"name": "Ada"}


def flask_jwt_extended(host: Host) -> None:
    from flask_jwt_extended import create_access_token

    host.give_app()
    run(host, "docs/authentication.md", "Beside Flask-JWT-Extended")
    with host.names["app"].app_context():
        token, revoked = (create_access_token(str(host.user)) for _ in range(2))
    refunds_one(host, token=token)
    jti = jwt.decode(revoked, options={"verify_signature": False})["jti"]
    host.db.revoked_tokens.insert_one({"_id": jti})
    with served(host.names["app"]) as ask:
        assert ask("GET", "/api/payments/admin/refunds", host.bearer(token)).status == 200
        assert ask("GET", "/api/payments/admin/refunds", host.bearer(revoked)).status == 401


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
    """A datastore of Flask-Security's, as small as it gets."""

    def __init__(self, *members: Member) -> None:
        super().__init__(Member, Role)
        self.members = list(members)

    def find_user(self, case_insensitive: bool = False, **wanted: Any) -> Any:
        [(name, value)] = wanted.items()
        return next((each for each in self.members if getattr(each, name, None) == value), None)

    def put(self, model: Any) -> Any:
        return model

    def commit(self) -> None: ...


def flask_security(host: Host) -> None:
    host.give_app()
    app: Flask = host.names["app"]
    app.config.update(
        SECRET_KEY="of-the-host",
        SECURITY_PASSWORD_SALT="salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        WTF_CSRF_ENABLED=False,
        SECURITY_CACHE_CONTROL=None,
    )
    ada, ben = Member("ada@shop.example", "admin"), Member("ben@shop.example", "customer")
    host.names["datastore"] = Members(ada, ben)
    Security(app, host.names["datastore"])
    run(host, "docs/authentication.md", "Beside Flask-Security")
    with app.app_context():
        ada.password = ben.password = hash_password("fig-tree")

    def sign_in(client: Any, who: Member) -> Any:
        client.post("/login", json={"email": who.email, "password": "fig-tree"})
        return client.post("/refunds-token", headers={"Accept": "application/json"})

    assert sign_in(app.test_client(), ben).status_code == 403
    assert app.test_client().post("/refunds-token", headers={"Accept": "application/json"}).status_code == 401
    token = sign_in(app.test_client(), ada).get_json()["token"]
    refunds_one(host, token=token)
    bens = make_token(ben.fs_uniquifier, secret=JWT_SECRET)
    with served(app) as ask:
        assert ask("GET", "/api/payments/admin/refunds", host.bearer(bens)).status == 403
        ada.active = False
        assert ask("GET", "/api/payments/admin/refunds", host.bearer(token)).status == 401


def identity_provider(host: Host) -> None:
    host.give_app()
    run(host, "docs/authentication.md", "An identity provider")
    app: Flask = host.names["app"]
    pair = key_pair("RS256")

    def token(**changes: Any) -> str:
        about = claims("ada@login", **{"aud": "shop", "iss": "https://login.example/", **changes})
        return str(jwt.encode(about, pair.key, algorithm="RS256", headers={"kid": "1"}))

    assert app.config["JWT_JWKS_URL"].startswith("https://")
    with key_endpoint(pair.jwk("RS256", "1")) as provider:
        app.config["JWT_JWKS_URL"] = provider.url
        refunds_one(host, token=token(roles=["refund-admin"]))
        with served(app) as ask:
            path = "/api/payments/admin/refunds"
            assert ask("GET", path, host.bearer(token(roles=["reader"]))).status == 403
            assert ask("GET", path, host.bearer(token(aud="another"))).status == 401
        # The first of the two blocks alone: users in the database, found by the provider's subject.
        host.give_app()
        host.run(python_of("docs/authentication.md", "An identity provider")[0])
        host.names["app"].config["JWT_JWKS_URL"] = provider.url
        host.db.users.update_one({"role": "admin"}, {"$set": {"subject": "ada@login"}})
        refunds_one(host, token=token())


def webhooks(host: Host) -> None:
    os.environ.update(STRIPE_WEBHOOK_SECRET=SECRET, OLD_SECRET=f"{SECRET}_old", NEW_SECRET=f"{SECRET}_new")
    host.give_app()
    run(host, "docs/webhooks.md")
    with served(host.names["app"]) as ask:
        for path, secret in (
            ("/api/payments/webhook/refunds", f"{SECRET}_old"),
            ("/api/payments/webhook/refunds", f"{SECRET}_new"),
            ("/stripe", SECRET),
        ):
            purchase, payment = host.sell()
            event = make_event("refund.created", host.stripe.refund_in_dashboard(payment))
            for wrong in (f"{SECRET}_wrong", secret):
                body, headers = signed_event(event, wrong)
                assert ask("POST", path, headers, body).status == (200 if wrong == secret else 400)
                assert (host.purchase(purchase)["status"] == "refunded") is (wrong == secret)


def own_webhook(host: Host) -> None:
    purchase, payment = host.sell()
    event = make_event("refund.created", host.stripe.refund_in_dashboard(payment))
    body, headers = signed_event(event, SECRET)
    host.give_app()
    host.names.update(stripe=stripe, payload=body, signature=headers["Stripe-Signature"], secret=SECRET)
    with host.names["app"].test_request_context():
        run(host, "docs/http.md")
    assert host.purchase(purchase)["status"] == "refunded"


def signals(host: Host) -> None:
    host.give_app()
    run(host, "docs/signals.md")
    app: Flask = host.names["app"]
    with host.names["mail"].record_messages() as outbox:
        refunds_one(host)
    assert [(mail.subject, mail.recipients) for mail in outbox] == [
        ("You are refunded", ["ada@shop.example"])
    ]
    purchase = host.db.purchases.find_one()
    assert purchase["accessGranted"] is False
    row = host.db.refunds.find_one()
    assert row["_id"] in outbox[0].body
    assert host.db.mails.find_one()["_id"] == f"{row['_id']} succeeded"
    # Told again, as after a crash: no second mail.
    refund = SimpleNamespace(
        purchase_ids=[purchase["_id"]], status=SimpleNamespace(value="succeeded"), id=row["_id"]
    )
    with app.app_context(), host.names["mail"].record_messages() as again:
        host.names["mail_customer"](app, refund, row["_id"])
    assert again == []


class _Chat(BaseHTTPRequestHandler):
    heard: list[Any]

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


def recipes(host: Host) -> None:
    chat = HTTPServer(("127.0.0.1", 0), _Chat)
    _Chat.heard = []
    thread = Thread(target=chat.serve_forever, args=(0.01,))
    thread.start()
    os.environ["CHAT_URL"] = f"http://127.0.0.1:{chat.server_port}/"
    try:
        host.give_app(mounted=False)
        host.names["app"].config["STRIPE_WEBHOOK_SECRET"] = SECRET
        run(host, "docs/recipes.md")
        _ask_recipes(host)
    finally:
        chat.shutdown()
        thread.join()
        chat.server_close()


def _ask_recipes(host: Host) -> None:
    refunds_one(host)
    assert host.db.purchases.find_one()["accessGranted"] is False
    purchase, payment = host.sell(card="4000000000005126")
    hook = "/api/payments/webhook/refunds"
    with served(host.names["app"]) as ask:
        assert ask("POST", f"/api/payments/admin/refund/{purchase}", host.bearer()).status == 200
        assert host.purchase(purchase)["accessGranted"] is False
        [refund] = host.stripe.refunds(payment)
        failed = host.stripe.settle(refund["id"], "failed", "expired_or_canceled_card")
        body, headers = signed_event(make_event("refund.failed", failed), SECRET)
        assert ask("POST", hook, headers, body).status == 200
        assert host.purchase(purchase)["accessGranted"] is True
        [told] = _Chat.heard
        assert "failed_after_success" in told["text"]
        answers = [ask("GET", "/api/payments/admin/refunds", host.bearer()) for _ in range(61)]
        assert answers[0].status == 200
        assert (answers[-1].status, answers[-1].json["code"]) == (429, "too_many_requests")
        assert {ask("POST", hook, headers, body).status for _ in range(61)} == {200}
    northern = Host(host.db.client["north"], "", host.stripe)
    try:
        refunds_one(northern, host.names["application"], "/north/api/payments")
        with served(host.names["application"]) as ask:
            assert ask("GET", "/south/api/payments/admin/refunds", northern.bearer()).status == 401
    finally:
        host.db.client.drop_database("north")


def metrics(host: Host) -> None:
    host.give_app()
    before = set(REGISTRY._collector_to_names)
    first, second = python_of("docs/metrics.md", "Prometheus")
    try:
        host.run(first)
        with served(host.names["app"]) as ask:
            page = ask("GET", "/metrics")
        assert page.headers["Content-Type"] == host.names["CONTENT_TYPE_LATEST"]
        assert b"flask_refunds_ledger_readable 1.0" in page.body
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.getcwd()
        host.run(second)
        assert b"flask_refunds_ledger_readable 1.0" in generate_latest(host.names["registry"])
    finally:
        # They stand in the process's own registry, which must not remember this host.
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)
        prometheus._meters_in.cache_clear()
        prometheus._gauges_in.cache_clear()


def logging_page(host: Host) -> None:
    run(host, "docs/logging.md")
    record = logging.LogRecord("flask_refunds", logging.WARNING, "", 1, "words", (), None)
    record.refunds = {"event": "refund_refused", "refund_id": "pi_1:1"}
    told = host.names["JSONFormatter"]().format(record)
    assert json.loads(told) == {
        "level": "WARNING",
        "message": "words",
        "event": "refund_refused",
        "refund_id": "pi_1:1",
    }


def celery_beat(host: Host) -> None:
    Path("shop.py").write_text(
        "from flask import Flask\nfrom flask_refunds import refunds_bp\n"
        "app = Flask('shop')\napp.config.from_prefixed_env('SHOP')\napp.register_blueprint(refunds_bp)\n"
    )
    os.environ.update(
        SHOP_MONGO_URI=host.uri,
        SHOP_STRIPE_SECRET_KEY="sk_test_1",
        SHOP_STRIPE_API_BASE=host.stripe.url,
        SHOP_JWT_SECRET_KEY=JWT_SECRET,
        PYTHONPATH=str(ROOT),
    )
    run(host, "docs/operations.md", "Reconcile")
    [entry] = host.names["celery"].conf.beat_schedule.values()
    assert entry["task"] in host.names["celery"].tasks
    host.names["reconcile_refunds"]()
    os.environ["SHOP_JWT_SECRET_KEY"] = "short"
    with pytest.raises(RuntimeError, match="JWT_SECRET_KEY"):
        host.names["reconcile_refunds"]()


def bulk_runs(host: Host) -> None:
    host.give_app()
    sold = [host.sell(event="canceled-2024")[0] for _ in range(2)]
    run(host, "docs/bulk.md", "From your own code")
    assert (host.names["plan"].refundable, host.names["summary"].undone) == (2, 0)
    assert {host.purchase(each)["status"] for each in sold} == {"refunded"}


def celery_tasks(host: Host) -> None:
    """The tasks are run where they are sent from, in place of a worker."""
    host.give_app()
    sold = [
        host.sell(_id=ObjectId("6b0635cf3cab3f672ac1a80a"))[0],
        host.sell(content="65f424a8c1d2e3f405162738")[0],
        host.sell(_id=ObjectId.from_datetime(datetime(2024, 3, 15, 12, tzinfo=timezone.utc)))[0],
    ]
    set_up, send = python_of("docs/bulk.md", "Past one machine")
    before = celery_current_app._get_current_object()
    try:
        host.run(set_up)
        host.names["celery"].conf.update(task_always_eager=True, task_eager_propagates=True)
        host.run(send)
        [entry] = host.names["celery"].conf.beat_schedule.values()
        assert entry["task"] in host.names["celery"].tasks
    finally:
        before.set_current()
        before.set_default()
    assert {host.purchase(each)["status"] for each in sold} == {"refunded"}


PARTS: dict[tuple[str, str | None], Ask] = {
    ("README.md", None): readme,
    ("docs/authentication.md", "An identity provider"): identity_provider,
    ("docs/authentication.md", "Beside Flask-JWT-Extended"): flask_jwt_extended,
    ("docs/authentication.md", "Beside Flask-Security"): flask_security,
    ("docs/bulk.md", "From your own code"): bulk_runs,
    ("docs/bulk.md", "Past one machine"): celery_tasks,
    ("docs/http.md", None): own_webhook,
    ("docs/index.md", None): index,
    ("docs/logging.md", None): logging_page,
    ("docs/metrics.md", None): metrics,
    ("docs/mounting.md", "In an app factory"): factory,
    ("docs/mounting.md", "Mounting"): mounting,
    ("docs/mounting.md", "Where"): elsewhere,
    ("docs/mounting.md", "Your own views behind the same door"): own_views,
    ("docs/operations.md", None): celery_beat,
    ("docs/recipes.md", None): recipes,
    ("docs/signals.md", None): signals,
    ("docs/webhooks.md", None): webhooks,
}


def test_every_python_block_belongs_to_a_part() -> None:
    for block in BLOCKS:
        if block.kind == "python" and block.page not in OWN_TESTS:
            assert {(block.page, None), (block.page, block.heading)} & PARTS.keys(), str(block)


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("part", PARTS, ids=lambda part: " ".join(filter(None, part)))
def test_the_python_of(host: Host, part: tuple[str, str | None]) -> None:
    PARTS[part](host)


def test_testing_page(tmp_path: Path, sandbox: StripeSandbox) -> None:
    """Its files are a project of their own, whose tests pass; its other blocks are run."""
    (factory,) = python_of("docs/mounting.md", "In an app factory")
    (tmp_path / "shop.py").write_text(factory.text)
    files = {"conftest.py", "test_refunds.py", "test_webhooks.py"}
    assert {each.file for each in python_of("docs/testing.md")} == {*files, None}
    for block in python_of("docs/testing.md"):
        if block.file:
            with (tmp_path / block.file).open("a") as file:
                file.write(block.text)
        else:
            exec(block.text, {"stripe": sandbox})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
