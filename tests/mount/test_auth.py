"""Authentication and admin access, for our routes and for guarded views of an app."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import flask_jwt_extended as fje
import jwt
import mongomock
import pytest
from bson import ObjectId
from flask import Blueprint, Flask, abort, request
from flask.views import MethodView, View
from werkzeug.test import TestResponse

from flask_refunds import authenticate, current_user, require_admin
from flask_refunds.identity.jwks import KeySet
from flask_refunds.testing import StripeSandbox
from tests.log_records import LogRecords
from tests.mount.conftest import (
    MakeShop,
    WatchedShop,
    assert_admin_required,
    assert_error,
    assert_not_authenticated,
)
from tests.mount.jwks import KeyEndpoint, key_endpoint
from tests.mount.keys import bad_tokens, claims, forge, key_pair
from tests.shop import JWT_SECRET, Shop

REFUND_PATH = "/api/payments/admin/refund/" + "0" * 24
ANN = "64b5f2c8e13e4a5b6c7d8e9f"


# Views of an app: one of every kind behind each guard


def _show_user() -> dict[str, str]:
    return {"user": str(current_user["_id"])}


async def _show_user_async() -> dict[str, str]:
    return {"user": str(current_user["_id"])}


def _add_guarded_views(app: Flask, passed: list[str]) -> None:
    """Add every kind of view, with ``authenticate`` under /user and ``require_admin`` under /admin."""

    @app.after_request
    def record(response: Any) -> Any:
        if response.status_code == 200 and request.endpoint:
            passed.append(request.endpoint)
        return response

    for name, guard in {"user": authenticate, "admin": require_admin}.items():
        app.add_url_rule(f"/{name}/sync", f"{name}-sync", guard(_show_user))
        app.add_url_rule(f"/{name}/async", f"{name}-async", guard(_show_user_async))

        class Method(MethodView):
            decorators = [guard]  # noqa: RUF012

            def get(self) -> dict[str, str]:
                return _show_user()

        class AsyncMethod(MethodView):
            decorators = [guard]  # noqa: RUF012

            async def get(self) -> dict[str, str]:
                return _show_user()

        class OneMethod(MethodView):
            @guard
            def get(self) -> dict[str, str]:
                return _show_user()

        class OneAsyncMethod(MethodView):
            init_every_request = False

            @guard
            async def get(self) -> dict[str, str]:
                return _show_user()

        class Plain(View):
            decorators = [guard]  # noqa: RUF012

            def dispatch_request(self) -> dict[str, str]:
                return _show_user()

        for kind in (Method, AsyncMethod, OneMethod, OneAsyncMethod, Plain):
            app.add_url_rule(f"/{name}/{kind.__name__}", view_func=kind.as_view(f"{name}-{kind.__name__}"))

        inner, outer = Blueprint("inner", __name__), Blueprint(f"{name}-outer", __name__)
        inner.add_url_rule("/nested", view_func=guard(_show_user), endpoint="nested")
        outer.register_blueprint(inner, url_prefix="/inner")
        app.register_blueprint(outer, url_prefix=f"/{name}")

    app.add_url_rule("/admin/stacked", "stacked", authenticate(require_admin(_show_user)))
    app.add_url_rule("/admin/stacked-again", "stacked-again", require_admin(authenticate(_show_user)))
    app.add_url_rule("/admin/stacked-async", "stacked-async", authenticate(require_admin(_show_user_async)))
    app.add_url_rule("/user/doubled", "doubled", authenticate(authenticate(_show_user)))


class GuardedShop(WatchedShop):
    """A shop with such views; ``passed`` lists the endpoints that answered with 200."""

    passed: list[str]

    def call_views(self, headers: Any = None, *, under: str = "/") -> Iterator[tuple[str, TestResponse]]:
        """Call every guarded view under a path, and yield each path and response."""
        for rule in self.app.url_map.iter_rules():
            if rule.rule.startswith(("/user/", "/admin/")) and rule.rule.startswith(under):
                yield rule.rule, self.client.get(rule.rule, headers=headers)


@pytest.fixture
def guarded(make_shop: MakeShop) -> GuardedShop:
    shop = make_shop()
    shop.__class__ = GuardedShop
    assert isinstance(shop, GuardedShop)
    shop.passed = []
    _add_guarded_views(shop.app, shop.passed)
    return shop


def test_fixture_has_every_kind_of_guarded_view(guarded: GuardedShop) -> None:
    paths = [path for path, _ in guarded.call_views()]
    assert len(paths) == len(set(paths)) >= 20


def test_request_without_token_is_not_authenticated(guarded: GuardedShop) -> None:
    for _, response in guarded.call_views():
        assert_not_authenticated(response)
    assert_not_authenticated(guarded.client.post(REFUND_PATH))
    assert guarded.passed == []


def test_user_may_call_authenticated_views_only(guarded: GuardedShop) -> None:
    ann = guarded.add_user()
    for path, response in guarded.call_views(guarded.headers(ann)):
        if path.startswith("/admin/"):
            assert_admin_required(response)
        else:
            assert (response.status_code, response.json) == (200, {"user": str(ann)}), path
    assert_admin_required(guarded.client.post(REFUND_PATH, headers=guarded.headers(ann)))


def test_admin_may_call_every_view(guarded: GuardedShop) -> None:
    for path, response in guarded.call_views(guarded.headers()):
        assert (response.status_code, response.json) == (200, {"user": str(guarded.admin_id)}), path
    assert_error(guarded.client.post(REFUND_PATH, headers=guarded.headers()), 404, "purchase_not_found")


@pytest.mark.parametrize(
    "what",
    [
        "not a token",
        "signed by another issuer",
        "alg none",
        "expired",
        "sub an operator",
        "a refresh token",
        "very long",
        "not ASCII",
        "not Latin-1",
    ],
)
def test_bad_token_is_rejected_before_database_and_stripe(
    shop: WatchedShop, sandbox: StripeSandbox, what: str
) -> None:
    """``tests/unit/test_tokens.py`` has the other bad tokens."""
    shop.add_user(_id=ObjectId(ANN), role="admin")
    shop.app.add_url_rule("/user", "user", authenticate(_show_user))
    shop.app.add_url_rule("/admin", "admin", require_admin(_show_user_async))
    # In the environ, as a server passes it, because no client would send some of these.
    environ = {"HTTP_AUTHORIZATION": "Bearer " + bad_tokens(ANN)[what].encode().decode("latin-1")}
    for path in ("/user", "/admin"):
        assert_not_authenticated(shop.client.get(path, environ_overrides=environ))
    assert_not_authenticated(shop.client.post(REFUND_PATH, environ_overrides=environ))
    assert shop.spy.calls == []
    assert sandbox.requests == []


def test_valid_token_passes_every_view(guarded: GuardedShop) -> None:
    guarded.add_user(_id=ObjectId(ANN), role="admin")
    headers = {"Authorization": f"Bearer {forge(claims(ANN))}"}
    assert all(response.status_code == 200 for _, response in guarded.call_views(headers))


def test_deleted_user_is_not_authenticated(guarded: GuardedShop, sandbox: StripeSandbox) -> None:
    headers = guarded.headers()
    guarded.db.users.delete_one({"_id": guarded.admin_id})
    for _, response in guarded.call_views(headers):
        assert_not_authenticated(response)
    assert_not_authenticated(guarded.client.post(REFUND_PATH, headers=headers))
    assert {collection for collection, _ in guarded.spy.touched} == {"users"}
    assert sandbox.requests == []


def test_guarded_view_keeps_its_name_and_methods(guarded: GuardedShop) -> None:
    assert authenticate(_show_user).__name__ == "_show_user"
    assert require_admin(_show_user_async).__wrapped__ is _show_user_async  # type: ignore[attr-defined]
    response = guarded.client.open("/user/sync", method="OPTIONS")
    assert (response.status_code, response.get_data()) == (200, b"")
    assert guarded.client.head("/user/sync").status_code == 401


def test_guarded_view_gets_its_arguments_and_returns_its_response(shop: WatchedShop) -> None:
    @shop.app.get("/echo/<int:number>")
    @authenticate
    def echo(number: int) -> tuple[list[int], int, dict[str, str]]:
        return [number], 203, {"X-Own": "1"}

    response = shop.client.get("/echo/7", headers=shop.headers())
    assert (response.status_code, response.json, response.headers["X-Own"]) == (203, [7], "1")


def test_exception_of_a_guarded_view_reaches_the_app(shop: WatchedShop) -> None:
    class Own(Exception): ...

    @shop.app.errorhandler(Own)
    def handle(error: Own) -> tuple[dict[str, bool], int]:
        return {"app": True}, 418

    @shop.app.get("/raise")
    @require_admin
    def fail() -> None:
        raise Own

    assert shop.client.get("/raise", headers=shop.headers()).status_code == 418


def test_guards_work_without_the_blueprint() -> None:
    database = mongomock.MongoClient().shop
    app = Flask("bare")
    app.config.update(JWT_SECRET_KEY=JWT_SECRET, STRIPE_SECRET_KEY="sk_test_1", REFUNDS_MONGO=database)
    app.add_url_rule("/me", view_func=authenticate(_show_user))
    shop = Shop(app, database)
    assert shop.client.get("/me", headers=shop.headers()).json == {"user": str(shop.admin_id)}
    assert_not_authenticated(shop.client.get("/me"))


# The header


def test_bearer_scheme_is_case_insensitive(shop: WatchedShop) -> None:
    token = shop.headers()["Authorization"].partition(" ")[2]
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        response = shop.client.post(REFUND_PATH, headers={"Authorization": f"{scheme} {token}"})
        assert response.status_code == 404, scheme


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "{token}",
        "Basic {token}",
        "Token {token}",
        "JWT {token}",
        "Bearer: {token}",
        "Bearer={token}",
        "Bearer\t{token}",
        "Bearer  {token}",
        "Bearer \t{token}",
        "Bearer\xa0{token}",
        " Bearer {token}",
        "Bearer {token} ",
        "Bearer {token}\t",
        "Bearer {token} {token}",
        "Bearer {token},{token}",
        "Bearer {token}, Bearer {token}",
        "Bearer Bearer {token}",
        'Bearer "{token}"',
        "Bearer <{token}>",
        "Bearer null",
        "Bearer undefined",
        "Bearer é",
        "Bearer {token}\x85",
        "Béarer {token}",
        "BEARER\x00{token}",
    ],
)
def test_malformed_authorization_header_is_rejected_before_the_database(
    shop: WatchedShop, header: str
) -> None:
    token = shop.headers()["Authorization"].partition(" ")[2]
    environ = {"HTTP_AUTHORIZATION": header.format(token=token)}
    assert_not_authenticated(shop.client.post(REFUND_PATH, environ_overrides=environ))
    assert shop.spy.calls == []


def test_two_authorization_headers_are_rejected(shop: WatchedShop) -> None:
    value = shop.headers()["Authorization"]
    response = shop.client.post(REFUND_PATH, headers=[("Authorization", value), ("Authorization", value)])
    assert_not_authenticated(response)


def test_token_outside_the_authorization_header_is_ignored(shop: WatchedShop) -> None:
    token = shop.headers()["Authorization"].partition(" ")[2]
    names = ["access_token", "access_token_cookie", "token", "jwt", "Authorization", "Bearer"]
    for name in names:
        shop.client.set_cookie(name, token)
    fields = dict.fromkeys(names, token)
    headers = {
        "X-Access-Token": token,
        "X-Authorization": f"Bearer {token}",
        "Proxy-Authorization": f"Bearer {token}",
    }
    for body in ({"json": fields}, {"data": fields}):
        assert_not_authenticated(shop.client.post(REFUND_PATH, query_string=fields, headers=headers, **body))
    assert shop.spy.calls == []


# Roles


@pytest.mark.parametrize("role", ["user", "ADMIN", True, ["admin"]])
def test_other_role_is_not_an_admin(shop: WatchedShop, role: Any) -> None:
    user = shop.add_user(role=role)
    assert_admin_required(shop.client.post(REFUND_PATH, headers=shop.headers(user)))


def test_user_without_role_is_not_an_admin(shop: WatchedShop) -> None:
    user = shop.db.users.insert_one({"isAdmin": True, "roles": ["admin"]}).inserted_id
    assert_admin_required(shop.client.post(REFUND_PATH, headers=shop.headers(user)))


def test_role_in_the_token_is_ignored(shop: WatchedShop) -> None:
    headers = shop.headers(shop.add_user(), role="admin", admin=True, roles=["admin"], user={"role": "admin"})
    assert_admin_required(shop.client.post(REFUND_PATH, headers=headers))


def test_changed_role_counts_at_the_next_request(guarded: GuardedShop) -> None:
    headers = guarded.headers()
    guarded.db.users.update_one({"_id": guarded.admin_id}, {"$set": {"role": "user"}})
    assert_admin_required(guarded.client.post(REFUND_PATH, headers=headers))
    for _, response in guarded.call_views(headers, under="/admin/"):
        assert_admin_required(response)
    guarded.db.users.update_one({"_id": guarded.admin_id}, {"$set": {"role": "admin"}})
    assert guarded.client.post(REFUND_PATH, headers=headers).status_code == 404


@pytest.mark.parametrize("result", [1, "True", None])
def test_is_admin_result_other_than_true_denies(make_shop: MakeShop, result: Any) -> None:
    shop = make_shop(REFUNDS_IS_ADMIN=lambda user: result)
    assert_admin_required(shop.client.post(REFUND_PATH, headers=shop.headers()))


def _is_unsuspended(user: Any) -> bool:
    return user["role"] == "admin" and not user.get("suspended")


def test_is_admin_setting_decides_who_is_an_admin(make_shop: MakeShop) -> None:
    shop = make_shop(REFUNDS_IS_ADMIN=lambda user: "refunds" in user.get("rights", []))
    clerk = shop.add_user(rights=["refunds"])
    assert shop.client.post(REFUND_PATH, headers=shop.headers(clerk)).status_code == 404
    assert_admin_required(shop.client.post(REFUND_PATH, headers=shop.headers()))


@pytest.mark.parametrize(
    ("config", "may_refund"), [({}, True), ({"REFUNDS_IS_ADMIN": _is_unsuspended}, False)]
)
def test_suspended_admin_is_rejected_by_the_setting_only(
    make_shop: MakeShop, config: dict[str, Any], may_refund: bool
) -> None:
    shop = make_shop(**config)
    suspended = shop.add_user(role="admin", suspended=True)
    response = shop.client.post(REFUND_PATH, headers=shop.headers(suspended))
    assert response.status_code == (404 if may_refund else 403)
    assert shop.client.post(REFUND_PATH, headers=shop.headers()).status_code == 404


@pytest.mark.parametrize("debug", [True, False])
def test_failing_is_admin_function_is_an_internal_error(
    make_shop: MakeShop, sandbox: StripeSandbox, debug: bool
) -> None:
    def is_admin(user: Any) -> bool:
        raise RuntimeError("a secret of the app")

    shop = make_shop(REFUNDS_IS_ADMIN=is_admin, TESTING=debug, DEBUG=debug, PROPAGATE_EXCEPTIONS=debug)
    shop.app.add_url_rule("/admin", view_func=require_admin(_show_user))
    for response in (
        shop.client.post(REFUND_PATH, headers=shop.headers()),
        shop.client.get("/admin", headers=shop.headers()),
    ):
        assert_error(response, 500, "internal_error")
        assert "secret" not in response.text
    assert sandbox.requests == []


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_async_is_admin_function_denies_everyone(make_shop: MakeShop) -> None:
    async def is_admin(user: Any) -> bool:
        return True

    shop = make_shop(REFUNDS_IS_ADMIN=is_admin)
    assert shop.client.post(REFUND_PATH, headers=shop.headers()).status_code >= 400
    assert shop.spy.touched in ([("users", "find")], [])


@pytest.mark.parametrize("status", [403, 503])
def test_abort_in_is_admin_function_reaches_the_app(make_shop: MakeShop, status: int) -> None:
    shop = make_shop(REFUNDS_IS_ADMIN=lambda user: abort(status))
    shop.app.add_url_rule("/admin", view_func=require_admin(_show_user))
    shop.client.allow_html = True  # type: ignore[attr-defined]
    assert shop.client.get("/admin", headers=shop.headers()).status_code == status


# Users


@pytest.mark.parametrize("user_id", [ObjectId(ANN), "ann@shop.example"])
def test_user_with_object_id_or_text_id_is_authenticated(shop: WatchedShop, user_id: Any) -> None:
    shop.add_user(_id=user_id, role="admin")
    assert shop.client.post(REFUND_PATH, headers=shop.headers(user_id)).status_code == 404


def test_configured_user_id_field_is_used(make_shop: MakeShop) -> None:
    shop = make_shop(REFUNDS_USER_FIELDS={"id": "email"})
    shop.add_user(role="admin", email="ann@shop.example")
    assert shop.client.post(REFUND_PATH, headers=shop.headers("ann@shop.example")).status_code == 404
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=shop.headers()))


@pytest.mark.parametrize("identity", [{"$ne": None}, [ANN]])
def test_identity_that_is_a_query_is_rejected_before_the_database(make_shop: MakeShop, identity: Any) -> None:
    shop = make_shop(JWT_IDENTITY_CLAIM="uid")
    shop.add_user(_id=ObjectId(ANN), role="admin")
    for payload in (claims("another user", uid=identity), claims(identity, uid=identity)):
        assert_not_authenticated(
            shop.client.post(REFUND_PATH, headers={"Authorization": f"Bearer {forge(payload)}"})
        )
    assert shop.spy.calls == []


def test_admin_with_integer_identity_can_refund(make_shop: MakeShop, sandbox: StripeSandbox) -> None:
    shop = make_shop(JWT_IDENTITY_CLAIM="uid", REFUNDS_USER_FIELDS={"id": "number"})
    shop.add_user(number=42, role="admin")
    headers = {"Authorization": f"Bearer {forge(claims('another user', uid=42))}"}
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)), headers=headers)
    assert (response.status_code, response.json["refund"]["requestedBy"]) == (200, "42")


@pytest.mark.parametrize("identity", ["$ne", '{"$ne": null}'])
def test_identity_is_compared_as_a_value(shop: WatchedShop, identity: str) -> None:
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=shop.headers(identity)))
    [(_, _, [query])] = shop.spy.calls
    assert query == {"_id": {"$in": [identity]}}


def test_user_loader_replaces_the_database(make_shop: MakeShop) -> None:
    seen: list[Any] = []

    def load(token_claims: Any) -> Any:
        seen.append(token_claims)
        return {"_id": 7, "role": "admin"} if token_claims["sub"] == "ann" else None

    shop = make_shop(REFUNDS_USER_LOADER=load)
    shop.app.add_url_rule("/me", view_func=authenticate(_show_user))
    assert shop.client.get("/me", headers=shop.headers("ann", scope="x")).json == {"user": "7"}
    assert seen[0]["scope"] == "x"
    assert_not_authenticated(shop.client.get("/me", headers=shop.headers("bob")))
    assert_not_authenticated(
        shop.client.get("/me", headers={"Authorization": f"Bearer {forge(claims('ann', exp=0))}"})
    )
    assert len(seen) == 2
    assert shop.spy.calls == []


def test_user_loader_can_return_any_object(make_shop: MakeShop) -> None:
    class Member:
        name = "Ann"

    shop = make_shop(
        REFUNDS_USER_LOADER=lambda token_claims: Member(), REFUNDS_IS_ADMIN=lambda user: user.name == "Ann"
    )

    @shop.app.get("/me")
    @require_admin
    def me() -> str:
        name: str = current_user.name
        return name

    shop.client.allow_html = True  # type: ignore[attr-defined]
    assert shop.client.get("/me", headers=shop.headers()).text == "Ann"


def test_failing_user_loader_is_an_internal_error(make_shop: MakeShop) -> None:
    def load(token_claims: Any) -> Any:
        raise ConnectionError("the directory is unavailable")

    shop = make_shop(REFUNDS_USER_LOADER=load)
    response = shop.client.post(REFUND_PATH, headers=shop.headers())
    assert_error(response, 500, "internal_error")
    assert "directory" not in response.text


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_async_user_loader_denies_everyone(make_shop: MakeShop) -> None:
    async def load(token_claims: Any) -> Any:
        return None

    shop = make_shop(REFUNDS_USER_LOADER=load)
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


class Awaitable:
    """A result of an async driver."""

    def __await__(self) -> Iterator[None]:
        yield


class AsyncDatabase:
    """A database of an async driver whose methods aren't coroutine functions, such as Motor's."""

    def get_collection(self, name: str, **options: Any) -> Any:
        return SimpleNamespace(name=name, find_one=lambda *args: Awaitable())


def test_async_database_denies_everyone(make_shop: MakeShop) -> None:
    shop = make_shop(REFUNDS_MONGO=AsyncDatabase())
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


def test_falsy_value_of_user_loader_is_not_authenticated(make_shop: MakeShop) -> None:
    shop = make_shop(REFUNDS_USER_LOADER=lambda token_claims: False)
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


# What is read before the caller is known


@pytest.mark.parametrize(
    "body", [{}, {"json": {"reason": "duplicate"}}, {"data": b"x" * 100_000}, {"json": {"amount": 1}}]
)
def test_only_the_user_is_read_before_the_caller_is_an_admin(
    shop: WatchedShop, sandbox: StripeSandbox, body: dict[str, Any]
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    path = f"/api/payments/admin/refund/{purchase}"
    user, deleted = shop.add_user(), ObjectId()

    assert_not_authenticated(shop.client.post(path, **body))
    assert shop.spy.calls == []
    assert_not_authenticated(shop.client.post(path, headers=shop.headers(deleted), **body))
    assert_admin_required(shop.client.post(path, headers=shop.headers(user), **body))

    queries = [({"_id": {"$in": [str(each), each]}},) for each in (deleted, user)]
    assert shop.spy.calls == [("users", "find", query) for query in queries]
    assert sandbox.requests == []
    assert shop.status_of(purchase) == "completed"
    assert shop.records() == []


def test_invalid_request_of_an_admin_reads_only_the_user(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    assert shop.refund(purchase, json={"amount": 5}).status_code == 400
    assert shop.refund(purchase, json={"reason": "other"}).status_code == 400
    assert shop.spy.touched == [("users", "find")] * 2
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "path", ["/admin/stacked", "/admin/stacked-again", "/admin/stacked-async", "/user/doubled", "/user/sync"]
)
def test_user_is_read_once_per_request(guarded: GuardedShop, path: str) -> None:
    for count in (1, 2):
        assert guarded.client.get(path, headers=guarded.headers()).status_code == 200
        assert guarded.spy.touched == [("users", "find")] * count


# Log records of rejected requests


@pytest.mark.parametrize("reason", ["missing", "malformed", "user_not_found"])
def test_failed_authentication_is_logged_with_its_reason(
    shop: WatchedShop, reason: str, log_records: LogRecords
) -> None:
    headers = {
        "missing": {},
        "malformed": {"Authorization": "Basic Y2FuYXJ5"},
        "user_not_found": shop.headers("64b5f2c8e13e4a5b6c7d8e9f"),
    }[reason]
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=headers))
    [record] = log_records()
    assert record == {
        "event": "authentication_failed",
        "reason": reason,
        "endpoint": "refunds.refund_purchase",
    }


def test_denied_user_is_logged(shop: WatchedShop, log_records: LogRecords) -> None:
    ann = shop.add_user()
    assert_admin_required(shop.client.post(REFUND_PATH, headers=shop.headers(ann)))
    [record] = log_records()
    assert record == {
        "event": "admin_required",
        "identity": str(ann),
        "endpoint": "refunds.refund_purchase",
    }


# current_user


def test_current_user_outside_a_guarded_request_raises(shop: WatchedShop) -> None:
    with pytest.raises(RuntimeError):
        _show_user()
    with shop.app.app_context(), pytest.raises(RuntimeError):
        _show_user()
    with (
        shop.app.test_request_context("/", headers=shop.headers()),
        pytest.raises(RuntimeError, match="authenticate"),
    ):
        _show_user()


def test_current_user_in_an_unguarded_view_raises(shop: WatchedShop) -> None:
    @shop.app.get("/open")
    def open_view() -> dict[str, str]:
        with pytest.raises(
            RuntimeError,
            match="Decorate the view with authenticate or require_admin",
        ):
            _show_user()
        return {}

    assert shop.client.get("/open", headers=shop.headers()).status_code == 200


def test_caller_does_not_outlive_the_request(guarded: GuardedShop) -> None:
    """``flask.g`` outlives a request in a pushed app context. The caller must not."""
    ann = guarded.add_user()
    with guarded.app.app_context():
        for user in (ann, guarded.admin_id, ann):
            assert guarded.client.get("/user/sync", headers=guarded.headers(user)).json == {"user": str(user)}
            assert guarded.client.get("/user/async", headers=guarded.headers(user)).json == {
                "user": str(user)
            }
        assert guarded.client.get("/admin/sync", headers=guarded.headers()).status_code == 200
        assert_admin_required(guarded.client.get("/admin/sync", headers=guarded.headers(ann)))
        assert_admin_required(guarded.client.post(REFUND_PATH, headers=guarded.headers(ann)))
        assert_not_authenticated(guarded.client.get("/user/sync"))
        assert_not_authenticated(guarded.client.post(REFUND_PATH))
        with pytest.raises(RuntimeError):
            _show_user()


def test_nested_request_has_its_own_caller(guarded: GuardedShop) -> None:
    ann = guarded.add_user()

    @guarded.app.get("/outer")
    @authenticate
    def outer() -> list[Any]:
        client = guarded.app.test_client()
        inner = client.get("/user/sync", headers=guarded.headers())
        return [
            _show_user()["user"],
            inner.json["user"],
            client.get("/user/sync").status_code,
            _show_user()["user"],
        ]

    seen = guarded.client.get("/outer", headers=guarded.headers(ann)).json
    assert seen == [str(ann), str(guarded.admin_id), 401, str(ann)]


def test_concurrent_requests_have_their_own_callers(shop: WatchedShop) -> None:
    users = [shop.add_user() for _ in range(6)]
    together = threading.Barrier(len(users), timeout=10)
    seen: dict[Any, Any] = {}

    @shop.app.get("/me")
    @authenticate
    def me() -> dict[str, str]:
        together.wait()
        return _show_user()

    def call(user: ObjectId) -> None:
        seen[user] = shop.app.test_client().get("/me", headers=shop.headers(user)).json

    threads = [threading.Thread(target=call, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {user: {"user": str(user)} for user in users}


# Tokens of other libraries


@pytest.fixture
def fje_shop(make_shop: MakeShop) -> WatchedShop:
    """Return a shop that creates its tokens with Flask-JWT-Extended, from the same config."""
    shop = make_shop()
    fje.JWTManager(shop.app)
    return shop


def _create(shop: Shop, make: Any, identity: Any, **options: Any) -> dict[str, str]:
    with shop.app.app_context():
        return {"Authorization": f"Bearer {make(str(identity), **options)}"}


def test_access_token_of_flask_jwt_extended_is_valid(fje_shop: WatchedShop) -> None:
    for options in ({}, {"fresh": True}, {"additional_claims": {"a": 1}, "additional_headers": {"kid": "1"}}):
        headers = _create(fje_shop, fje.create_access_token, fje_shop.admin_id, **options)
        assert fje_shop.client.post(REFUND_PATH, headers=headers).status_code == 404


def test_refresh_token_is_rejected(fje_shop: WatchedShop) -> None:
    headers = _create(fje_shop, fje.create_refresh_token, fje_shop.admin_id)
    assert_not_authenticated(fje_shop.client.post(REFUND_PATH, headers=headers))


def test_user_loader_can_reject_revoked_tokens(make_shop: MakeShop) -> None:
    """The blocklist of Flask-JWT-Extended isn't used."""
    revoked: set[str] = set()
    users: Any = mongomock.MongoClient().shop.users

    def load(token_claims: Any) -> Any:
        return None if token_claims["jti"] in revoked else users.find_one({"_id": token_claims["sub"]})

    shop = make_shop(REFUNDS_USER_LOADER=load)
    fje.JWTManager(shop.app).token_in_blocklist_loader(lambda header, payload: payload["jti"] in revoked)
    users.insert_one({"_id": "ann", "role": "admin"})
    headers = _create(shop, fje.create_access_token, "ann")
    assert shop.client.post(REFUND_PATH, headers=headers).status_code == 404
    revoked.add(jwt.decode(headers["Authorization"][7:], options={"verify_signature": False})["jti"])
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=headers))


def test_token_without_expiry_is_rejected(fje_shop: WatchedShop) -> None:
    headers = _create(fje_shop, fje.create_access_token, fje_shop.admin_id, expires_delta=False)
    assert_not_authenticated(fje_shop.client.post(REFUND_PATH, headers=headers))


@pytest.mark.parametrize("algorithm", ["HS512", "RS256", "ES256", "EdDSA"])
def test_token_of_flask_jwt_extended_with_other_algorithm_is_valid(
    make_shop: MakeShop, algorithm: str
) -> None:
    config: dict[str, Any] = {"JWT_ALGORITHM": algorithm}
    if algorithm == "HS512":
        config |= {"JWT_SECRET_KEY": JWT_SECRET * 2}
    else:
        pair = key_pair(algorithm)
        config |= {
            "JWT_SECRET_KEY": None,
            "JWT_PUBLIC_KEY": pair.public_pem,
            "JWT_PRIVATE_KEY": pair.private_pem,
        }
    shop = make_shop(**config)
    fje.JWTManager(shop.app)
    headers = _create(shop, fje.create_access_token, shop.admin_id)
    assert shop.client.post(REFUND_PATH, headers=headers).status_code == 404


def test_audience_and_issuer_of_flask_jwt_extended_are_checked(make_shop: MakeShop) -> None:
    shop = make_shop(
        JWT_ENCODE_AUDIENCE="shop",
        JWT_DECODE_AUDIENCE="shop",
        JWT_ENCODE_ISSUER="login",
        JWT_DECODE_ISSUER="login",
        JWT_IDENTITY_CLAIM="uid",
    )
    fje.JWTManager(shop.app)
    assert (
        shop.client.post(
            REFUND_PATH, headers=_create(shop, fje.create_access_token, shop.admin_id)
        ).status_code
        == 404
    )
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=shop.headers(claim="uid")))


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_public_key_verifies_tokens_and_is_not_an_hmac_secret(make_shop: MakeShop, algorithm: str) -> None:
    pair = key_pair(algorithm)
    shop = make_shop(JWT_SECRET_KEY=None, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=pair.public_pem)
    valid = jwt.encode(claims(str(shop.admin_id)), pair.key, algorithm=algorithm)
    confused = forge(claims(str(shop.admin_id)), secret=pair.public_pem)
    assert shop.client.post(REFUND_PATH, headers={"Authorization": f"Bearer {valid}"}).status_code == 404
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers={"Authorization": f"Bearer {confused}"}))
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=shop.headers()))


@pytest.fixture
def idp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyEndpoint]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with key_endpoint(key_pair("ES256").jwk("ES256", "1")) as endpoint:
        yield endpoint


def test_tokens_are_verified_with_an_identity_providers_keys(
    make_shop: MakeShop, idp: KeyEndpoint, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_refunds.identity.jwks.RETRY_SECONDS", 0)
    shop = make_shop(JWT_SECRET_KEY=None, JWT_ALGORITHM="ES256", JWT_JWKS_URL=idp.url)
    shop.app.add_url_rule("/me", view_func=authenticate(_show_user))

    def headers(kid: str) -> dict[str, str]:
        key = key_pair("ES256").key
        token = jwt.encode(claims(str(shop.admin_id)), key, algorithm="ES256", headers={"kid": kid})
        return {"Authorization": f"Bearer {token}"}

    idp.status = 503
    for response in (
        shop.client.post(REFUND_PATH, headers=headers("1")),
        shop.client.get("/me", headers=headers("1")),
    ):
        assert_error(response, 500, "identity_provider_unavailable")
        assert "Nothing was refunded" in response.json["error"]
        assert str(idp.url) not in response.text
    assert shop.spy.calls == sandbox.requests == []

    idp.status = 200
    assert shop.client.get("/me", headers=headers("1")).status_code == 200
    assert_not_authenticated(shop.client.get("/me", headers=headers("2")))
    assert_not_authenticated(shop.client.get("/me"))
    idp.stop()
    assert shop.client.get("/me", headers=headers("1")).status_code == 200


def test_unknown_key_is_rejected_at_once_while_a_fetch_runs(
    idp: KeyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeySet(idp.url)
    assert keys.find("1") is not None
    monkeypatch.setattr("flask_refunds.identity.jwks.UNKNOWN_KEY_SECONDS", 0)
    fetching, may_end = threading.Event(), threading.Event()
    answer = idp.answer

    def answer_slowly(handler: Any) -> None:
        fetching.set()
        may_end.wait(10)
        answer(handler)

    monkeypatch.setattr(idp, "answer", answer_slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(keys.find, "random")
        assert fetching.wait(10)
        try:
            assert pool.submit(keys.find, "another").result(timeout=1) is None
            assert pool.submit(keys.find, "1").result(timeout=1) is not None
        finally:
            may_end.set()
        assert first.result() is None
