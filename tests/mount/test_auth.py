"""Nobody unauthorised gets in: at our own route, and at the host's views behind the same doors."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
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
from flask_refunds.testing import StripeSandbox
from tests.mount.conftest import (
    OpenShop,
    WatchedShop,
    assert_admin_required,
    assert_answer,
    assert_not_authenticated,
)
from tests.mount.jwks import KeyEndpoint, key_endpoint
from tests.mount.keys import PUBLIC_KEY_ALGORITHMS, bad_tokens, claims, forge, key_pair
from tests.shop import JWT_SECRET, Shop
from tests.told import Told

NOWHERE = "/api/payments/admin/refund/" + "0" * 24
ANN = "64b5f2c8e13e4a5b6c7d8e9f"


# The host's own views: one of every kind behind each door


def _who() -> dict[str, str]:
    return {"user": str(current_user["_id"])}


async def _who_async() -> dict[str, str]:
    return {"user": str(current_user["_id"])}


def _add_doors(app: Flask, entered: list[str]) -> None:
    """Every kind of view there is, with ``authenticate`` below /user and ``require_admin`` below /admin."""

    @app.after_request
    def note(response: Any) -> Any:
        if response.status_code == 200 and request.endpoint:
            entered.append(request.endpoint)
        return response

    for name, guard in {"user": authenticate, "admin": require_admin}.items():
        app.add_url_rule(f"/{name}/sync", f"{name}-sync", guard(_who))
        app.add_url_rule(f"/{name}/async", f"{name}-async", guard(_who_async))

        class Method(MethodView):
            decorators = [guard]  # noqa: RUF012

            def get(self) -> dict[str, str]:
                return _who()

        class AsyncMethod(MethodView):
            decorators = [guard]  # noqa: RUF012

            async def get(self) -> dict[str, str]:
                return _who()

        class OneMethod(MethodView):
            @guard
            def get(self) -> dict[str, str]:
                return _who()

        class OneAsyncMethod(MethodView):
            init_every_request = False

            @guard
            async def get(self) -> dict[str, str]:
                return _who()

        class Plain(View):
            decorators = [guard]  # noqa: RUF012

            def dispatch_request(self) -> dict[str, str]:
                return _who()

        for kind in (Method, AsyncMethod, OneMethod, OneAsyncMethod, Plain):
            app.add_url_rule(f"/{name}/{kind.__name__}", view_func=kind.as_view(f"{name}-{kind.__name__}"))

        inner, outer = Blueprint("inner", __name__), Blueprint(f"{name}-outer", __name__)
        inner.add_url_rule("/nested", view_func=guard(_who), endpoint="nested")
        outer.register_blueprint(inner, url_prefix="/inner")
        app.register_blueprint(outer, url_prefix=f"/{name}")

    app.add_url_rule("/admin/stacked", "stacked", authenticate(require_admin(_who)))
    app.add_url_rule("/admin/stacked-again", "stacked-again", require_admin(authenticate(_who)))
    app.add_url_rule("/admin/stacked-async", "stacked-async", authenticate(require_admin(_who_async)))
    app.add_url_rule("/user/doubled", "doubled", authenticate(authenticate(_who)))


class Doors(WatchedShop):
    """A shop with such views; ``entered`` names the ones that somebody got into."""

    entered: list[str]

    def knock(self, headers: Any = None, *, below: str = "/") -> Iterator[tuple[str, TestResponse]]:
        """Call every view below a path, and tell what each answered."""
        for rule in self.app.url_map.iter_rules():
            if rule.rule.startswith(("/user/", "/admin/")) and rule.rule.startswith(below):
                yield rule.rule, self.client.get(rule.rule, headers=headers)


@pytest.fixture
def doors(open_shop: OpenShop) -> Doors:
    shop = open_shop()
    shop.__class__ = Doors
    assert isinstance(shop, Doors)
    shop.entered = []
    _add_doors(shop.app, shop.entered)
    return shop


def test_there_are_doors(doors: Doors) -> None:
    paths = [path for path, _ in doors.knock()]
    assert len(paths) == len(set(paths)) >= 20


def test_without_a_token(doors: Doors) -> None:
    for _, response in doors.knock():
        assert_not_authenticated(response)
    assert_not_authenticated(doors.client.post(NOWHERE))
    assert doors.entered == []


def test_a_user(doors: Doors) -> None:
    ann = doors.add_user()
    for path, response in doors.knock(doors.headers(ann)):
        if path.startswith("/admin/"):
            assert_admin_required(response)
        else:
            assert (response.status_code, response.json) == (200, {"user": str(ann)}), path
    assert_admin_required(doors.client.post(NOWHERE, headers=doors.headers(ann)))


def test_an_admin(doors: Doors) -> None:
    for path, response in doors.knock(doors.headers()):
        assert (response.status_code, response.json) == (200, {"user": str(doors.admin_id)}), path
    assert_answer(doors.client.post(NOWHERE, headers=doors.headers()), 404, "purchase_not_found")


@pytest.mark.parametrize("what", bad_tokens(ANN))
def test_bad_tokens(shop: WatchedShop, sandbox: StripeSandbox, what: str) -> None:
    """Nobody gets in anywhere, and nothing is asked of the database or of Stripe."""
    shop.add_user(_id=ObjectId(ANN), role="admin")
    shop.app.add_url_rule("/user", "user", authenticate(_who))
    shop.app.add_url_rule("/admin", "admin", require_admin(_who_async))
    # As a server hands it on, for no client would send some of them.
    environ = {"HTTP_AUTHORIZATION": "Bearer " + bad_tokens(ANN)[what].encode().decode("latin-1")}
    for path in ("/user", "/admin"):
        assert_not_authenticated(shop.client.get(path, environ_overrides=environ))
    assert_not_authenticated(shop.client.post(NOWHERE, environ_overrides=environ))
    assert shop.spy.calls == []
    assert sandbox.requests == []


def test_the_same_with_a_good_token(doors: Doors) -> None:
    """The control of the test above."""
    doors.add_user(_id=ObjectId(ANN), role="admin")
    headers = {"Authorization": f"Bearer {forge(claims(ANN))}"}
    assert all(response.status_code == 200 for _, response in doors.knock(headers))


def test_a_user_who_is_gone(doors: Doors, sandbox: StripeSandbox) -> None:
    headers = doors.headers()
    doors.db.users.delete_one({"_id": doors.admin_id})
    for _, response in doors.knock(headers):
        assert_not_authenticated(response)
    assert_not_authenticated(doors.client.post(NOWHERE, headers=headers))
    assert {collection for collection, _ in doors.spy.touched} == {"users"}
    assert sandbox.requests == []


def test_a_guard_changes_nothing_else_of_a_view(doors: Doors) -> None:
    assert authenticate(_who).__name__ == "_who"
    assert require_admin(_who_async).__wrapped__ is _who_async  # type: ignore[attr-defined]
    response = doors.client.open("/user/sync", method="OPTIONS")
    assert (response.status_code, response.get_data()) == (200, b"")
    assert doors.client.head("/user/sync").status_code == 401


def test_arguments_and_answers_pass_a_guard(shop: WatchedShop) -> None:
    @shop.app.get("/echo/<int:number>")
    @authenticate
    def echo(number: int) -> tuple[list[int], int, dict[str, str]]:
        return [number], 203, {"X-Own": "1"}

    response = shop.client.get("/echo/7", headers=shop.headers())
    assert (response.status_code, response.json, response.headers["X-Own"]) == (203, [7], "1")


def test_what_a_view_raises_is_the_host_s(shop: WatchedShop) -> None:
    class Own(Exception): ...

    @shop.app.errorhandler(Own)
    def handle(error: Own) -> tuple[dict[str, bool], int]:
        return {"host": True}, 418

    @shop.app.get("/raise")
    @require_admin
    def fail() -> None:
        raise Own

    assert shop.client.get("/raise", headers=shop.headers()).status_code == 418


def test_guards_need_no_mount() -> None:
    database = mongomock.MongoClient().shop
    app = Flask("bare")
    app.config.update(JWT_SECRET_KEY=JWT_SECRET, STRIPE_SECRET_KEY="sk_test_1", REFUNDS_MONGO=database)
    app.add_url_rule("/me", view_func=authenticate(_who))
    shop = Shop(app, database)
    assert shop.client.get("/me", headers=shop.headers()).json == {"user": str(shop.admin_id)}
    assert_not_authenticated(shop.client.get("/me"))


# The header


def test_where_a_token_counts(shop: WatchedShop) -> None:
    token = shop.headers()["Authorization"].partition(" ")[2]
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        response = shop.client.post(NOWHERE, headers={"Authorization": f"{scheme} {token}"})
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
def test_no_such_header(shop: WatchedShop, header: str) -> None:
    token = shop.headers()["Authorization"].partition(" ")[2]
    environ = {"HTTP_AUTHORIZATION": header.format(token=token)}
    assert_not_authenticated(shop.client.post(NOWHERE, environ_overrides=environ))
    assert shop.spy.calls == []


def test_two_headers_are_none(shop: WatchedShop) -> None:
    value = shop.headers()["Authorization"]
    response = shop.client.post(NOWHERE, headers=[("Authorization", value), ("Authorization", value)])
    assert_not_authenticated(response)


def test_a_token_anywhere_else_is_ignored(shop: WatchedShop) -> None:
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
        assert_not_authenticated(shop.client.post(NOWHERE, query_string=fields, headers=headers, **body))
    assert shop.spy.calls == []


# The roles


@pytest.mark.parametrize(
    "role",
    [
        None,
        "",
        "user",
        "ADMIN",
        "Admin",
        " admin",
        "admin ",
        "superadmin",
        "аdmin",  # noqa: RUF001
        True,
        1,
        ["admin"],
        {"admin": True},
        {"role": "admin"},
    ],
)
def test_roles_that_are_no_admin(shop: WatchedShop, role: Any) -> None:
    somebody = shop.add_user(role=role)
    assert_admin_required(shop.client.post(NOWHERE, headers=shop.headers(somebody)))


def test_a_user_without_a_role(shop: WatchedShop) -> None:
    nobody = shop.db.users.insert_one({"isAdmin": True, "roles": ["admin"]}).inserted_id
    assert_admin_required(shop.client.post(NOWHERE, headers=shop.headers(nobody)))


def test_a_role_in_the_token_means_nothing(shop: WatchedShop) -> None:
    headers = shop.headers(shop.add_user(), role="admin", admin=True, roles=["admin"], user={"role": "admin"})
    assert_admin_required(shop.client.post(NOWHERE, headers=headers))


def test_a_role_that_is_taken_or_given_counts_at_once(doors: Doors) -> None:
    headers = doors.headers()
    doors.db.users.update_one({"_id": doors.admin_id}, {"$set": {"role": "user"}})
    assert_admin_required(doors.client.post(NOWHERE, headers=headers))
    for _, response in doors.knock(headers, below="/admin/"):
        assert_admin_required(response)
    doors.db.users.update_one({"_id": doors.admin_id}, {"$set": {"role": "admin"}})
    assert doors.client.post(NOWHERE, headers=headers).status_code == 404


class Truthy:
    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("verdict", [1, "yes", "True", ["admin"], {"admin": True}, Truthy(), None, False, 0])
def test_only_true_itself_makes_an_admin(open_shop: OpenShop, verdict: Any) -> None:
    shop = open_shop(REFUNDS_IS_ADMIN=lambda user: verdict)
    assert_admin_required(shop.client.post(NOWHERE, headers=shop.headers()))


def test_the_host_says_who_is_an_admin(open_shop: OpenShop) -> None:
    shop = open_shop(REFUNDS_IS_ADMIN=lambda user: "refunds" in user.get("rights", []))
    clerk = shop.add_user(rights=["refunds"])
    assert shop.client.post(NOWHERE, headers=shop.headers(clerk)).status_code == 404
    assert_admin_required(shop.client.post(NOWHERE, headers=shop.headers()))


@pytest.mark.parametrize("debug", [True, False])
def test_a_host_that_fails_to_say_who_is_an_admin(
    open_shop: OpenShop, sandbox: StripeSandbox, debug: bool
) -> None:
    def judge(user: Any) -> bool:
        raise RuntimeError("something that is the host's own business")

    shop = open_shop(REFUNDS_IS_ADMIN=judge, TESTING=debug, DEBUG=debug, PROPAGATE_EXCEPTIONS=debug)
    shop.app.add_url_rule("/admin", view_func=require_admin(_who))
    for response in (
        shop.client.post(NOWHERE, headers=shop.headers()),
        shop.client.get("/admin", headers=shop.headers()),
    ):
        assert_answer(response, 500, "internal_error")
        assert "business" not in response.text
    assert sandbox.requests == []


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_judge_that_must_be_awaited_lets_nobody_in(open_shop: OpenShop) -> None:
    async def judge(user: Any) -> bool:
        return True

    shop = open_shop(REFUNDS_IS_ADMIN=judge)
    assert shop.client.post(NOWHERE, headers=shop.headers()).status_code >= 400
    assert shop.spy.touched in ([("users", "find_one")], [])


@pytest.mark.parametrize("status", [403, 503])
def test_what_a_host_s_judge_aborts_with_is_no_bad_request(open_shop: OpenShop, status: int) -> None:
    shop = open_shop(REFUNDS_IS_ADMIN=lambda user: abort(status))
    shop.app.add_url_rule("/admin", view_func=require_admin(_who))
    shop.client.html_is_fine = True  # type: ignore[attr-defined]
    assert shop.client.get("/admin", headers=shop.headers()).status_code == status


# The users


@pytest.mark.parametrize("user_id", [ObjectId(ANN), ANN, "ann", "ann@shop.example", "0"])
def test_ids_of_users(shop: WatchedShop, user_id: Any) -> None:
    shop.add_user(_id=user_id, role="admin")
    assert shop.client.post(NOWHERE, headers=shop.headers(user_id)).status_code == 404


def test_another_key_of_users(open_shop: OpenShop) -> None:
    shop = open_shop(REFUNDS_USER_FIELDS={"id": "email"})
    shop.add_user(role="admin", email="ann@shop.example")
    assert shop.client.post(NOWHERE, headers=shop.headers("ann@shop.example")).status_code == 404
    assert_not_authenticated(shop.client.post(NOWHERE, headers=shop.headers()))


@pytest.mark.parametrize(
    "identity", [{"$ne": None}, {"$gt": ""}, {"$oid": ANN}, [ANN], [], {}, True, 1.5, None, ""]
)
def test_an_identity_is_no_query(open_shop: OpenShop, identity: Any) -> None:
    shop = open_shop(JWT_IDENTITY_CLAIM="uid")
    shop.add_user(_id=ObjectId(ANN), role="admin")
    for payload in (claims("somebody", uid=identity), claims(identity, uid=identity)):
        assert_not_authenticated(
            shop.client.post(NOWHERE, headers={"Authorization": f"Bearer {forge(payload)}"})
        )
    assert shop.spy.calls == []


def test_an_admin_whose_id_is_a_whole_number(open_shop: OpenShop, sandbox: StripeSandbox) -> None:
    shop = open_shop(JWT_IDENTITY_CLAIM="uid", REFUNDS_USER_FIELDS={"id": "number"})
    shop.add_user(number=42, role="admin")
    headers = {"Authorization": f"Bearer {forge(claims('somebody', uid=42))}"}
    response = shop.refund(shop.add_purchase(sandbox.create_payment(1999)), headers=headers)
    assert (response.status_code, response.json["refund"]["requestedBy"]) == (200, "42")


@pytest.mark.parametrize(
    "identity", ["$ne", "users", "{'$ne': None}", '{"$ne": null}', "' || 1 == 1", ".*", "a\0b"]
)
def test_an_identity_is_compared_and_nothing_else(shop: WatchedShop, identity: str) -> None:
    assert_not_authenticated(shop.client.post(NOWHERE, headers=shop.headers(identity)))
    [(_, _, [needed])] = shop.spy.calls
    assert needed == {"_id": {"$in": [identity]}}


def test_the_host_finds_its_users(open_shop: OpenShop) -> None:
    seen: list[Any] = []

    def load(token_claims: Any) -> Any:
        seen.append(token_claims)
        return {"_id": 7, "role": "admin"} if token_claims["sub"] == "ann" else None

    shop = open_shop(REFUNDS_USER_LOADER=load)
    shop.app.add_url_rule("/me", view_func=authenticate(_who))
    assert shop.client.get("/me", headers=shop.headers("ann", scope="x")).json == {"user": "7"}
    assert seen[0]["scope"] == "x"
    assert_not_authenticated(shop.client.get("/me", headers=shop.headers("bob")))
    assert_not_authenticated(
        shop.client.get("/me", headers={"Authorization": f"Bearer {forge(claims('ann', exp=0))}"})
    )
    assert len(seen) == 2
    assert shop.spy.calls == []


def test_a_loader_may_return_any_object(open_shop: OpenShop) -> None:
    class Member:
        name = "Ann"

    shop = open_shop(
        REFUNDS_USER_LOADER=lambda token_claims: Member(), REFUNDS_IS_ADMIN=lambda user: user.name == "Ann"
    )

    @shop.app.get("/me")
    @require_admin
    def me() -> str:
        name: str = current_user.name
        return name

    shop.client.html_is_fine = True  # type: ignore[attr-defined]
    assert shop.client.get("/me", headers=shop.headers()).text == "Ann"


def test_a_loader_that_fails(open_shop: OpenShop) -> None:
    def load(token_claims: Any) -> Any:
        raise ConnectionError("the directory is away")

    shop = open_shop(REFUNDS_USER_LOADER=load)
    response = shop.client.post(NOWHERE, headers=shop.headers())
    assert_answer(response, 500, "internal_error")
    assert "directory" not in response.text


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_loader_that_must_be_awaited_lets_nobody_in(open_shop: OpenShop) -> None:
    async def load(token_claims: Any) -> Any:
        return None

    shop = open_shop(REFUNDS_USER_LOADER=load)
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


class Later:
    """What an async driver gives in place of a document."""

    def __await__(self) -> Iterator[None]:
        yield


class LaterDatabase:
    """A database of an async driver whose methods are no coroutine functions, as Motor's are not."""

    def get_collection(self, name: str, **options: Any) -> Any:
        return SimpleNamespace(name=name, find_one=lambda *args: Later())


def test_a_database_that_must_be_awaited_lets_nobody_in(open_shop: OpenShop) -> None:
    shop = open_shop(REFUNDS_MONGO=LaterDatabase())
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


@pytest.mark.parametrize("nobody", [False, 0, "", ()])
def test_a_loader_s_no_is_nobody(open_shop: OpenShop, nobody: Any) -> None:
    shop = open_shop(REFUNDS_USER_LOADER=lambda token_claims: nobody)
    shop.app.add_url_rule("/me", view_func=authenticate(lambda: {"in": True}), endpoint="me")
    assert shop.client.get("/me", headers=shop.headers()).status_code in (401, 500)


# What is touched before the caller is known


@pytest.mark.parametrize(
    "body", [{}, {"json": {"reason": "duplicate"}}, {"data": b"x" * 100_000}, {"json": {"amount": 1}}]
)
def test_before_an_admin_is_known_only_he_is_read(
    shop: WatchedShop, sandbox: StripeSandbox, body: dict[str, Any]
) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    path = f"/api/payments/admin/refund/{purchase}"
    user, gone = shop.add_user(), ObjectId()

    assert_not_authenticated(shop.client.post(path, **body))
    assert shop.spy.calls == []
    assert_not_authenticated(shop.client.post(path, headers=shop.headers(gone), **body))
    assert_admin_required(shop.client.post(path, headers=shop.headers(user), **body))

    queries = [({"_id": {"$in": [str(each), each]}},) for each in (gone, user)]
    assert shop.spy.calls == [("users", "find_one", query) for query in queries]
    assert sandbox.requests == []
    assert shop.status_of(purchase) == "completed"
    assert shop.records() == []


def test_an_admin_s_bad_request_reads_nothing_more(shop: WatchedShop, sandbox: StripeSandbox) -> None:
    purchase = shop.add_purchase(sandbox.create_payment(1999))
    assert shop.refund(purchase, json={"amount": 5}).status_code == 400
    assert shop.refund("not an id").status_code == 404
    assert shop.spy.touched == [("users", "find_one")] * 2
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "door", ["/admin/stacked", "/admin/stacked-again", "/admin/stacked-async", "/user/doubled", "/user/sync"]
)
def test_the_user_is_read_once_a_request(doors: Doors, door: str) -> None:
    for count in (1, 2):
        assert doors.client.get(door, headers=doors.headers()).status_code == 200
        assert doors.spy.touched == [("users", "find_one")] * count


# What is told of who is not let in


@pytest.mark.parametrize("why", ["missing", "malformed", "user_not_found"])
def test_what_is_told_of_a_stranger(shop: WatchedShop, why: str, told: Told) -> None:
    headers = {
        "missing": {},
        "malformed": {"Authorization": "Basic Y2FuYXJ5"},
        "user_not_found": shop.headers("64b5f2c8e13e4a5b6c7d8e9f"),
    }[why]
    assert_not_authenticated(shop.client.post(NOWHERE, headers=headers))
    assert told() == [{"event": "not_authenticated", "why": why, "endpoint": "refunds.refund_purchase"}]


def test_what_is_told_of_a_user_who_is_no_admin(shop: WatchedShop, told: Told) -> None:
    ann = shop.add_user()
    assert_admin_required(shop.client.post(NOWHERE, headers=shop.headers(ann)))
    assert told() == [{"event": "forbidden", "identity": str(ann), "endpoint": "refunds.refund_purchase"}]


# current_user


def test_current_user_elsewhere(shop: WatchedShop) -> None:
    with pytest.raises(RuntimeError):
        _who()
    with shop.app.app_context(), pytest.raises(RuntimeError):
        _who()
    with (
        shop.app.test_request_context("/", headers=shop.headers()),
        pytest.raises(RuntimeError, match="authenticate"),
    ):
        _who()


def test_current_user_in_a_view_without_a_guard(shop: WatchedShop) -> None:
    words = "There is no current user here: decorate the view with authenticate or require_admin."

    @shop.app.get("/open")
    def open_view() -> dict[str, str]:
        with pytest.raises(RuntimeError, match=f"^{re.escape(words)}$"):
            _who()
        return {}

    assert shop.client.get("/open", headers=shop.headers()).status_code == 200


def test_nobody_stays_signed_in(doors: Doors) -> None:
    """flask.g outlives a request under a pushed app context; the caller must not."""
    ann = doors.add_user()
    with doors.app.app_context():
        for user in (ann, doors.admin_id, ann):
            assert doors.client.get("/user/sync", headers=doors.headers(user)).json == {"user": str(user)}
            assert doors.client.get("/user/async", headers=doors.headers(user)).json == {"user": str(user)}
        assert doors.client.get("/admin/sync", headers=doors.headers()).status_code == 200
        assert_admin_required(doors.client.get("/admin/sync", headers=doors.headers(ann)))
        assert_admin_required(doors.client.post(NOWHERE, headers=doors.headers(ann)))
        assert_not_authenticated(doors.client.get("/user/sync"))
        assert_not_authenticated(doors.client.post(NOWHERE))
        with pytest.raises(RuntimeError):
            _who()


def test_a_request_within_a_request_has_its_own_caller(doors: Doors) -> None:
    ann = doors.add_user()

    @doors.app.get("/outer")
    @authenticate
    def outer() -> list[Any]:
        client = doors.app.test_client()
        inner = client.get("/user/sync", headers=doors.headers())
        return [_who()["user"], inner.json["user"], client.get("/user/sync").status_code, _who()["user"]]

    seen = doors.client.get("/outer", headers=doors.headers(ann)).json
    assert seen == [str(ann), str(doors.admin_id), 401, str(ann)]


def test_callers_at_the_same_time(shop: WatchedShop) -> None:
    users = [shop.add_user() for _ in range(6)]
    together = threading.Barrier(len(users), timeout=10)
    seen: dict[Any, Any] = {}

    @shop.app.get("/me")
    @authenticate
    def me() -> dict[str, str]:
        together.wait()
        return _who()

    def call(user: ObjectId) -> None:
        seen[user] = shop.app.test_client().get("/me", headers=shop.headers(user)).json

    threads = [threading.Thread(target=call, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {user: {"user": str(user)} for user in users}


# Tokens of other makers


@pytest.fixture
def fje_shop(open_shop: OpenShop) -> WatchedShop:
    """A host that hands out its tokens with Flask-JWT-Extended, from the same config."""
    shop = open_shop()
    fje.JWTManager(shop.app)
    return shop


def _made(shop: Shop, make: Any, identity: Any, **options: Any) -> dict[str, str]:
    with shop.app.app_context():
        return {"Authorization": f"Bearer {make(str(identity), **options)}"}


def test_tokens_of_flask_jwt_extended(fje_shop: WatchedShop) -> None:
    for options in ({}, {"fresh": True}, {"additional_claims": {"a": 1}, "additional_headers": {"kid": "1"}}):
        headers = _made(fje_shop, fje.create_access_token, fje_shop.admin_id, **options)
        assert fje_shop.client.post(NOWHERE, headers=headers).status_code == 404


def test_refresh_tokens_are_for_refreshing(fje_shop: WatchedShop) -> None:
    headers = _made(fje_shop, fje.create_refresh_token, fje_shop.admin_id)
    assert_not_authenticated(fje_shop.client.post(NOWHERE, headers=headers))


def test_a_host_that_revokes_its_tokens_says_so_in_its_loader(open_shop: OpenShop) -> None:
    """Flask-JWT-Extended's own blocklist is not asked."""
    revoked: set[str] = set()
    users: Any = mongomock.MongoClient().shop.users

    def load(token_claims: Any) -> Any:
        return None if token_claims["jti"] in revoked else users.find_one({"_id": token_claims["sub"]})

    shop = open_shop(REFUNDS_USER_LOADER=load)
    fje.JWTManager(shop.app).token_in_blocklist_loader(lambda header, payload: payload["jti"] in revoked)
    users.insert_one({"_id": "ann", "role": "admin"})
    headers = _made(shop, fje.create_access_token, "ann")
    assert shop.client.post(NOWHERE, headers=headers).status_code == 404
    revoked.add(jwt.decode(headers["Authorization"][7:], options={"verify_signature": False})["jti"])
    assert_not_authenticated(shop.client.post(NOWHERE, headers=headers))


def test_tokens_of_flask_jwt_extended_that_never_expire(fje_shop: WatchedShop) -> None:
    headers = _made(fje_shop, fje.create_access_token, fje_shop.admin_id, expires_delta=False)
    assert_not_authenticated(fje_shop.client.post(NOWHERE, headers=headers))


@pytest.mark.parametrize("algorithm", ["HS512", "RS256", "ES256", "EdDSA"])
def test_other_algorithms_of_flask_jwt_extended(open_shop: OpenShop, algorithm: str) -> None:
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
    shop = open_shop(**config)
    fje.JWTManager(shop.app)
    headers = _made(shop, fje.create_access_token, shop.admin_id)
    assert shop.client.post(NOWHERE, headers=headers).status_code == 404


def test_audience_and_issuer_of_flask_jwt_extended(open_shop: OpenShop) -> None:
    shop = open_shop(
        JWT_ENCODE_AUDIENCE="shop",
        JWT_DECODE_AUDIENCE="shop",
        JWT_ENCODE_ISSUER="login",
        JWT_DECODE_ISSUER="login",
        JWT_IDENTITY_CLAIM="uid",
    )
    fje.JWTManager(shop.app)
    assert (
        shop.client.post(NOWHERE, headers=_made(shop, fje.create_access_token, shop.admin_id)).status_code
        == 404
    )
    assert_not_authenticated(shop.client.post(NOWHERE, headers=shop.headers(claim="uid")))


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_a_public_key(open_shop: OpenShop, algorithm: str) -> None:
    pair = key_pair(algorithm)
    shop = open_shop(JWT_SECRET_KEY=None, JWT_ALGORITHM=algorithm, JWT_PUBLIC_KEY=pair.public_pem)
    good = jwt.encode(claims(str(shop.admin_id)), pair.key, algorithm=algorithm)
    confused = forge(claims(str(shop.admin_id)), secret=pair.public_pem)
    assert shop.client.post(NOWHERE, headers={"Authorization": f"Bearer {good}"}).status_code == 404
    assert_not_authenticated(shop.client.post(NOWHERE, headers={"Authorization": f"Bearer {confused}"}))
    assert_not_authenticated(shop.client.post(NOWHERE, headers=shop.headers()))


@pytest.fixture
def idp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyEndpoint]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with key_endpoint(key_pair("ES256").jwk("ES256", "1")) as endpoint:
        yield endpoint


def test_keys_of_an_identity_provider(
    open_shop: OpenShop, idp: KeyEndpoint, sandbox: StripeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_refunds.identity.jwks.OUTAGE_SECONDS", 0)
    shop = open_shop(JWT_SECRET_KEY=None, JWT_ALGORITHM="ES256", JWT_JWKS_URL=idp.url)
    shop.app.add_url_rule("/me", view_func=authenticate(_who))

    def headers(kid: str) -> dict[str, str]:
        key = key_pair("ES256").key
        token = jwt.encode(claims(str(shop.admin_id)), key, algorithm="ES256", headers={"kid": kid})
        return {"Authorization": f"Bearer {token}"}

    idp.status = 503
    for response in (
        shop.client.post(NOWHERE, headers=headers("1")),
        shop.client.get("/me", headers=headers("1")),
    ):
        assert_answer(response, 500, "identity_provider_unavailable")
        assert "Nothing was refunded" in response.json["error"]
        assert str(idp.url) not in response.text
    assert shop.spy.calls == sandbox.requests == []

    idp.status = 200
    assert shop.client.get("/me", headers=headers("1")).status_code == 200
    assert_not_authenticated(shop.client.get("/me", headers=headers("2")))
    assert_not_authenticated(shop.client.get("/me"))
    idp.stop()
    assert shop.client.get("/me", headers=headers("1")).status_code == 200
