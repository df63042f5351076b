"""Callers who are signed in by session: who they are, and which requests may use the session."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from flask import g, request, session
from flask_login import AnonymousUserMixin, UserMixin
from werkzeug.local import LocalProxy
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from flask_refunds import authenticate, current_user, require_admin
from flask_refunds.testing import StripeSandbox
from flask_refunds.web.auth import get_caller
from tests.log_records import LogRecords
from tests.mount.conftest import (
    MakeShop,
    WatchedShop,
    assert_admin_required,
    assert_error,
    assert_not_authenticated,
)
from tests.shop import JWT_SECRET

REFUND_PATH = "/api/payments/admin/refund/" + "0" * 24
LIST_PATH = "/api/payments/admin/refunds"
SAME = {"Sec-Fetch-Site": "same-origin"}
HINT = "REFUNDS_TRUSTED_ORIGINS"


class SessionShop(WatchedShop):
    """A shop whose users are signed in by session. The client is the admin's browser."""

    def sign_in(self, user_id: Any) -> None:
        with self.client.session_transaction() as stored:
            stored["user"] = str(user_id)

    def ask(self, path: str = LIST_PATH, method: str = "GET", **headers: str) -> TestResponse:
        """Send a request with the session's cookie. A ``_`` in a header's name is a ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(path, method=method, headers=named)


@pytest.fixture
def make_session_shop(make_shop: MakeShop) -> MakeShop:
    def make(**config: Any) -> WatchedShop:
        def find_user() -> Any:
            return shop.db.users.find_one({"_id": ObjectId(session["user"])}) if "user" in session else None

        defaults = {"JWT_SECRET_KEY": None, "SECRET_KEY": "of-the-app", "REFUNDS_CURRENT_USER": find_user}
        shop = make_shop(**(defaults | config))
        shop.__class__ = SessionShop
        assert isinstance(shop, SessionShop)
        shop.sign_in(shop.admin_id)
        return shop

    return make


@pytest.fixture
def shop(make_session_shop: MakeShop) -> WatchedShop:
    return make_session_shop()


def assert_cross_site(response: TestResponse) -> None:
    assert response.status_code == 403, response.text
    assert response.json is not None
    assert response.json.keys() == {"error", "code", "hint"}
    assert response.json["code"] == "cross_site_request"
    assert HINT in response.json["hint"]


# Who the caller is


def test_admin_with_a_session_refunds_without_jwt_keys(shop: SessionShop, sandbox: StripeSandbox) -> None:
    payment = sandbox.create_payment(700)
    purchase = shop.add_purchase(payment)
    response = shop.ask(f"/api/payments/admin/refund/{purchase}", "POST", **SAME)
    assert (response.status_code, response.json and response.json["message"]) == (200, "Refund successful")
    [record] = shop.records()
    assert record["requestedBy"] == str(shop.admin_id)
    assert record["history"][0]["actor"] == f"api:{shop.admin_id}"
    assert sandbox.money_refunded(payment) == 700


def test_session_without_a_user_is_not_authenticated(shop: SessionShop, log_records: LogRecords) -> None:
    shop.client.delete_cookie("session")
    assert_not_authenticated(shop.ask(REFUND_PATH, "POST"))
    assert log_records()[-1]["reason"] == "missing"


def test_session_of_a_customer_sees_only_their_purchase(shop: SessionShop) -> None:
    ann = shop.add_user()
    shop.sign_in(ann)
    shop.add_purchase("pi_ofAnn00000000", user=ann)
    shop.add_purchase("pi_ofBen00000000")
    assert_admin_required(shop.ask(REFUND_PATH, "POST", **SAME))
    assert shop.ask("/api/payments/status/pi_ofAnn00000000").status_code == 200
    assert shop.ask("/api/payments/status/pi_ofBen00000000").status_code == 404


def test_session_is_ignored_unless_the_setting_is_set(make_session_shop: MakeShop) -> None:
    shop = make_session_shop(REFUNDS_CURRENT_USER=None, JWT_SECRET_KEY=JWT_SECRET)
    assert_not_authenticated(shop.client.post(REFUND_PATH, headers=SAME))


class User:
    """A user as other libraries have them: an object with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class LoginUser(UserMixin):  # type: ignore[misc]
    role = "admin"

    def __init__(self, user_id: Any, active: bool = True) -> None:
        self.id, self._active = user_id, active

    @property
    def is_active(self) -> bool:
        return self._active


class DocumentUser(dict, UserMixin):  # type: ignore[misc, type-arg]
    """A document with the methods that Flask-Login asks for; ``get_id()`` raises."""


BEN = User(id=5, role="admin")
ADMINS: dict[str, tuple[Any, str]] = {
    "document": ({"_id": ObjectId("65f0c1a2b3d4e5f607182930"), "role": "admin"}, "65f0c1a2b3d4e5f607182930"),
    "document with id": ({"id": 7, "role": "admin", "is_active": True}, "7"),
    "document class": (DocumentUser(_id="ada", role="admin", active=True), "ada"),
    "object": (User(id=0, role="admin"), "0"),
    "object with _id": (User(_id="a", id="b", get_id=lambda: "c", role="admin"), "a"),
    "object with get_id": (User(get_id=lambda: "uniquifier", role="admin", id=None), "uniquifier"),
    "flask-login": (LoginUser("u-17"), "u-17"),
    "proxy": (LocalProxy(lambda: LoginUser("u-18")), "u-18"),
    "proxy of a proxy": (LocalProxy(lambda: LocalProxy(lambda: BEN)), "5"),
}

NOT_SIGNED_IN: dict[str, Any] = {
    "none": None,
    "false": False,
    "empty": {},
    "anonymous": AnonymousUserMixin(),
    "inactive in flask-login": LoginUser("u-17", active=False),
    "proxy of none": LocalProxy(lambda: None),
    "not active": {"_id": "a", "role": "admin", "active": False},
    "active is null": {"_id": "a", "role": "admin", "active": None},
    "active is truthy": {"_id": "a", "role": "admin", "active": "yes"},
    "active is 1": User(id=1, role="admin", active=1),
    "is_active is a method": User(id=1, role="admin", is_active=lambda: True),
    "is_authenticated is missing a call": User(id=1, role="admin", is_authenticated=lambda: True),
    "document class": DocumentUser(_id="ada", role="admin", is_authenticated=False),
}

UNUSABLE: dict[str, Any] = {
    "an ID": "64b5f2c8e13e4a5b6c7d8e9f",
    "a number": 7,
    "true": True,
    "no ID": {"role": "admin"},
    "an empty ID": {"_id": "", "role": "admin"},
    "an ID that MongoDB can't store": {"_id": "\ud800", "role": "admin"},
    "get_id returns nothing": User(role="admin", get_id=lambda: None),
}


def ask_as(make_shop: MakeShop, setting: Any) -> tuple[WatchedShop, TestResponse]:
    shop = make_shop(JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=setting)
    return shop, shop.client.post(REFUND_PATH, headers=SAME)


@pytest.mark.parametrize("kind", ADMINS)
def test_admins_of_other_libraries_are_recognized(make_shop: MakeShop, kind: str) -> None:
    user, identity = ADMINS[kind]
    shop = make_shop(JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=lambda: user)
    seen = []

    @shop.app.get("/me")
    @require_admin
    def me() -> dict[str, Any]:
        seen.append((get_caller().identity, current_user == user))
        return {}

    assert shop.client.get("/me").status_code == 200
    assert seen == [(identity, True)]
    assert_error(shop.client.post(REFUND_PATH, headers=SAME), 404, "purchase_not_found")


@pytest.mark.parametrize("kind", NOT_SIGNED_IN)
def test_users_without_access_are_not_authenticated(make_shop: MakeShop, kind: str) -> None:
    assert_not_authenticated(ask_as(make_shop, lambda: NOT_SIGNED_IN[kind])[1])


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_user_is_an_internal_error(make_shop: MakeShop, kind: str) -> None:
    shop, response = ask_as(make_shop, lambda: UNUSABLE[kind])
    assert_error(response, 500, "internal_error")
    assert shop.spy.touched == []


@pytest.mark.parametrize("role", ["Admin", "administrator", ["admin"], True, None])
def test_other_role_of_an_object_is_not_an_admin(make_shop: MakeShop, role: Any) -> None:
    assert_admin_required(ask_as(make_shop, lambda: User(id=1, role=role))[1])


def test_setting_can_be_a_proxy_itself(make_shop: MakeShop) -> None:
    proxy = LocalProxy(lambda: g.get("user"))
    shop = make_shop(JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=proxy)

    @shop.app.before_request
    def load() -> None:
        if "X-Ann" in request.headers:
            g.user = SimpleNamespace(id=3, role="admin")

    assert shop.client.get(LIST_PATH, headers={"X-Ann": "1"}).status_code == 200
    assert_not_authenticated(shop.client.get(LIST_PATH))


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_awaitable_user_is_an_internal_error(make_shop: MakeShop) -> None:
    async def load() -> Any:
        return {"_id": "a", "role": "admin"}

    assert_error(ask_as(make_shop, lambda: load())[1], 500, "internal_error")


def test_exception_of_the_function_denies_access(make_shop: MakeShop) -> None:
    def fail() -> Any:
        raise LookupError("the directory is unavailable")

    assert_error(ask_as(make_shop, fail)[1], 500, "internal_error")


# A bearer token beside the session


def test_valid_token_is_used_instead_of_the_session(make_session_shop: MakeShop) -> None:
    shop = make_session_shop(JWT_SECRET_KEY=JWT_SECRET)
    ann = shop.add_user()
    headers = shop.headers(ann) | SAME
    assert_admin_required(shop.client.get(LIST_PATH, headers=headers))
    headers = shop.headers() | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert_error(shop.client.post(REFUND_PATH, headers=headers), 404, "purchase_not_found")


@pytest.mark.parametrize(
    "header", ["Bearer x", "bearer  x", "Bearer", "Bearer\tx", "BEARER x, Basic y", "Bearer: x"]
)
@pytest.mark.parametrize("secret", [None, JWT_SECRET])
def test_invalid_token_does_not_fall_back_to_the_session(
    make_session_shop: MakeShop, header: str, secret: str | None
) -> None:
    shop = make_session_shop(JWT_SECRET_KEY=secret)
    assert shop.client.get(LIST_PATH).status_code == 200
    environ = {"HTTP_AUTHORIZATION": header}
    assert_not_authenticated(shop.client.get(LIST_PATH, environ_overrides=environ))


def test_valid_token_is_rejected_without_jwt_keys(shop: SessionShop, log_records: LogRecords) -> None:
    assert_not_authenticated(shop.client.get(LIST_PATH, headers=shop.headers()))
    assert log_records()[-1]["reason"] == "key"


@pytest.mark.parametrize("header", ["", "Basic YWRhOmZpZw==", "Token abc", "Digest x", "Negotiate Bearer"])
def test_other_authorization_schemes_count_as_none(shop: SessionShop, header: str) -> None:
    environ = {"HTTP_AUTHORIZATION": header}
    assert shop.client.get(LIST_PATH, environ_overrides=environ).status_code == 200
    # A browser sends Basic by itself, like a cookie.
    shop.client.delete_cookie("session")
    assert_not_authenticated(shop.client.get(LIST_PATH, environ_overrides=environ))


# Which requests may use the session

HOST = "shop.example"
WRITES: list[tuple[bool, str, dict[str, str]]] = [
    # Sec-Fetch-Site decides if it is there
    (True, HOST, {"Sec-Fetch-Site": "same-origin"}),
    (True, HOST, {"Sec-Fetch-Site": "same-origin", "Origin": "https://shop.example"}),
    (True, HOST, {"Sec-Fetch-Site": "same-origin", "Origin": "https://shop.example:8443"}),
    (False, HOST, {"Sec-Fetch-Site": "cross-site"}),
    (False, HOST, {"Sec-Fetch-Site": "cross-site", "Origin": "https://shop.example"}),
    (False, HOST, {"Sec-Fetch-Site": "same-site", "Origin": "https://shop.example"}),
    (False, HOST, {"Sec-Fetch-Site": "none", "Origin": "https://shop.example"}),
    (False, HOST, {"Sec-Fetch-Site": "none"}),
    (False, HOST, {"Sec-Fetch-Site": ""}),
    (False, HOST, {"Sec-Fetch-Site": "SAME-ORIGIN"}),
    (False, HOST, {"Sec-Fetch-Site": "same-origin, same-origin"}),
    (False, HOST, {"Sec-Fetch-Site": "same-origin,cross-site"}),
    # Origin, without it
    (True, HOST, {"Origin": "https://shop.example"}),
    (True, HOST, {"Origin": "http://shop.example"}),
    (True, HOST, {"Origin": "HTTPS://Shop.Example"}),
    (True, "SHOP.example", {"Origin": "https://shop.example"}),
    (True, HOST, {"Origin": "https://shop.example:443"}),
    (True, HOST, {"Origin": "http://shop.example:80"}),
    (True, "shop.example:443", {"Origin": "https://shop.example"}),
    (True, "shop.example:80", {"Origin": "http://shop.example"}),
    (True, "shop.example:8443", {"Origin": "https://shop.example:8443"}),
    (True, "[::1]:5000", {"Origin": "http://[::1]:5000"}),
    (True, "[2001:db8::1]", {"Origin": "https://[2001:DB8::1]"}),
    (True, "127.0.0.1:5000", {"Origin": "http://127.0.0.1:5000"}),
    (True, "xn--bcher-kva.example", {"Origin": "https://xn--bcher-kva.example"}),
    (False, HOST, {"Origin": "null"}),
    (False, HOST, {"Origin": ""}),
    (False, HOST, {"Origin": "shop.example"}),
    (False, HOST, {"Origin": "//shop.example"}),
    (False, HOST, {"Origin": "ftp://shop.example"}),
    (False, HOST, {"Origin": "chrome-extension://shop.example"}),
    (False, HOST, {"Origin": "https://evil.example"}),
    (False, HOST, {"Origin": "https://admin.shop.example"}),
    (False, HOST, {"Origin": "https://evilshop.example"}),
    (False, HOST, {"Origin": "https://shop.example.evil.example"}),
    (False, HOST, {"Origin": "https://shop.example.evil"}),
    (False, HOST, {"Origin": "https://shop.example."}),
    (False, HOST, {"Origin": "https://example"}),
    (False, HOST, {"Origin": "https://shop.example@evil.example"}),
    (False, HOST, {"Origin": "https://evil.example@shop.example"}),
    (False, HOST, {"Origin": "https://:@shop.example"}),
    (False, HOST, {"Origin": "https://evil.example#shop.example"}),
    (False, HOST, {"Origin": "https://evil.example/shop.example"}),
    (False, HOST, {"Origin": "https://shop.example/"}),
    (False, HOST, {"Origin": "https://shop.example/path"}),
    (False, HOST, {"Origin": "https://shop.example?"}),
    (False, HOST, {"Origin": "https://shop.example\\.evil.example"}),
    (False, HOST, {"Origin": "https://shop.example https://evil.example"}),
    (False, HOST, {"Origin": "https://evil.example https://shop.example"}),
    (False, HOST, {"Origin": "https://shop.example, https://evil.example"}),
    (False, HOST, {"Origin": "https://shop.example,https://shop.example"}),
    (False, HOST, {"Origin": " https://shop.example"}),
    (False, HOST, {"Origin": "https://shop.example:"}),
    (False, HOST, {"Origin": "https://shop.example:8443"}),
    (False, HOST, {"Origin": "https://shop.example:80"}),
    (False, HOST, {"Origin": "http://shop.example:443"}),
    (False, HOST, {"Origin": "https://shop.example:44\uff13"}),
    (False, "shop.example:8443", {"Origin": "https://shop.example"}),
    (False, "shop.example:80", {"Origin": "http://shop.example:8080"}),
    (False, "[::1]:5000", {"Origin": "http://[::1]"}),
    (False, "[::1]:5000", {"Origin": "http://::1:5000"}),
    (False, "localhost:5000", {"Origin": "http://127.0.0.1:5000"}),
    (False, "", {"Origin": "https://"}),
    (False, "", {"Origin": "null"}),
    (False, "evil.example/shop.example", {"Origin": "https://shop.example"}),
    # Neither: only without credentials that a browser sends by itself
    (False, HOST, {}),
    (False, HOST, {"Referer": "https://shop.example/api/payments/admin/"}),
    (False, HOST, {"X-Requested-With": "XMLHttpRequest"}),
    # An origin in REFUNDS_TRUSTED_ORIGINS
    (True, HOST, {"Origin": "https://admin.example"}),
    (True, HOST, {"Origin": "https://admin.example", "Sec-Fetch-Site": "cross-site"}),
    (True, HOST, {"Origin": "https://ADMIN.example:443", "Sec-Fetch-Site": "same-site"}),
    (True, HOST, {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}),
    (False, HOST, {"Origin": "http://admin.example", "Sec-Fetch-Site": "cross-site"}),
    (False, HOST, {"Origin": "http://admin.example"}),
    (False, HOST, {"Origin": "https://admin.example:8443"}),
    (False, HOST, {"Origin": "https://sub.admin.example"}),
    (False, HOST, {"Origin": "http://localhost"}),
    (False, HOST, {"Origin": "https://admin.example, https://admin.example"}),
    (False, HOST, {"Referer": "https://admin.example/"}),
]
TRUSTED = ["https://admin.example", "http://localhost:3000"]


def environ_of(host: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as a WSGI server passes them, also those that a test client would refuse."""
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    return {"HTTP_HOST": host, **{f"HTTP_{n.upper().replace('-', '_')}": v for n, v in encoded.items()}}


@pytest.fixture
def trusting_shop(make_session_shop: MakeShop) -> WatchedShop:
    shop = make_session_shop(REFUNDS_TRUSTED_ORIGINS=TRUSTED)

    @shop.app.route("/own", methods=["POST", "PUT", "PATCH", "DELETE", "TRACE", "GET"])
    @authenticate
    def own() -> dict[str, Any]:
        return {}

    return shop


def test_only_same_origin_and_trusted_requests_may_write(
    trusting_shop: SessionShop, sandbox: StripeSandbox
) -> None:
    cookie = trusting_shop.client.get_cookie("session")
    assert cookie is not None
    client = trusting_shop.app.test_client(use_cookies=False)
    for allowed, host, headers in WRITES:
        environ = environ_of(host, headers) | {"HTTP_COOKIE": f"session={cookie.value}"}
        responses = [client.post(path, environ_overrides=environ) for path in (REFUND_PATH, "/own")]
        wanted = [404, 200] if allowed else [403, 403]
        assert [each.status_code for each in responses] == wanted, (host, headers)
        if not allowed:
            assert_cross_site(responses[0])
    assert sandbox.requests == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_every_other_method_is_a_write(trusting_shop: SessionShop, method: str) -> None:
    assert_cross_site(trusting_shop.ask("/own", method, Sec_Fetch_Site="same-site"))
    assert trusting_shop.ask("/own", method, **SAME).status_code == 200


CROSS = {"Sec-Fetch-Site": "cross-site"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
READS: list[tuple[bool, bool, dict[str, str]]] = [
    (True, True, {}),
    (True, True, {"Sec-Fetch-Site": "same-origin"}),
    (True, True, {"Sec-Fetch-Site": "same-site"}),
    (True, True, {"Sec-Fetch-Site": "none"}),
    (True, True, CROSS | {"Origin": "https://admin.example"}),
    (False, False, CROSS),
    (False, False, CROSS | {"Origin": "https://evil.example"}),
    (False, False, CROSS | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}),
    (False, False, CROSS | {"Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "websocket"}),
    (False, False, CROSS | NAVIGATION | {"Sec-Fetch-Dest": "iframe"}),
    (False, False, {"Sec-Fetch-Site": "same-origin, cross-site"}),
    # A link to a page of the app
    (False, True, CROSS | NAVIGATION | {"Sec-Fetch-Dest": "document"}),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_cross_site_requests_may_not_read(trusting_shop: SessionShop, method: str) -> None:
    for ours, own, headers in READS:
        statuses = [
            trusting_shop.client.open(path, method=method, headers=headers).status_code
            for path in (LIST_PATH, "/own")
        ]
        assert statuses == [200 if ours else 403, 200 if own else 403], headers


def test_request_without_cookie_and_origin_may_write(make_shop: MakeShop) -> None:
    """A script with a token in a header of its own, as Flask-Security has it."""

    def find_user() -> Any:
        is_ada = request.headers.get("Authentication-Token") == "of-ada"
        return {"_id": "a", "role": "admin"} if is_ada else None

    shop = make_shop(JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=find_user)
    token = {"Authentication-Token": "of-ada"}
    client = shop.app.test_client(use_cookies=False)
    assert_error(client.post(REFUND_PATH, headers=token), 404, "purchase_not_found")
    for more in ({"Cookie": "a=b"}, {"Authorization": "Basic eDp5"}, {"Origin": "https://evil.example"}):
        assert_cross_site(client.post(REFUND_PATH, headers=token | more))


def test_rejected_request_is_logged_without_its_headers(shop: SessionShop, log_records: LogRecords) -> None:
    shop.ask(REFUND_PATH, "POST", Origin="https://evil.example")
    assert log_records() == [{"event": "cross_site_request", "endpoint": "refunds.refund_purchase"}]


def test_answers_may_not_be_embedded(shop: SessionShop) -> None:
    for response in (shop.ask(), shop.ask(REFUND_PATH, "POST"), shop.ask(REFUND_PATH, "POST", **SAME)):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


# Proxies

PROXIED: list[tuple[bool, bool, dict[str, str]]] = [
    # The proxy forwards the host: its TLS doesn't matter
    (True, True, {"Host": "shop.example", "X-Forwarded-Proto": "https"}),
    (True, True, {"Host": "shop.example:443", "X-Forwarded-Proto": "https"}),
    # It sends its own host, and the browser's in X-Forwarded-Host
    (False, True, {"Host": "app:8000", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}),
    (False, False, {"Host": "app:8000", "X-Forwarded-Proto": "https"}),
    # It sends another port than the browser used
    (False, False, {"Host": "shop.example:8000", "X-Forwarded-Proto": "https"}),
    (False, True, {"Host": "shop.example:8000", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}),
]


@pytest.mark.parametrize(("without_fix", "with_fix", "headers"), PROXIED)
def test_proxies_work_if_they_forward_the_host(
    make_session_shop: MakeShop, without_fix: bool, with_fix: bool, headers: dict[str, str]
) -> None:
    for fixed, allowed in ((False, without_fix), (True, with_fix)):
        shop = make_session_shop()
        cookie = shop.client.get_cookie("session")
        assert cookie is not None
        if fixed:
            shop.app.wsgi_app = ProxyFix(shop.app.wsgi_app, x_host=1, x_port=1)  # type: ignore[method-assign]
        sent = headers | {"Cookie": f"session={cookie.value}"}
        client = shop.app.test_client(use_cookies=False)
        for extra, expected in (({"Origin": "https://shop.example"}, allowed), (SAME, True)):
            response = client.post(REFUND_PATH, headers=sent | extra)
            assert response.status_code == (404 if expected else 403), (fixed, extra)
        evil = sent | {"Origin": "https://evil.example"}
        assert_cross_site(client.post(REFUND_PATH, headers=evil))


def test_proxy_that_hides_the_host_works_with_a_trusted_origin(make_session_shop: MakeShop) -> None:
    shop = make_session_shop(REFUNDS_TRUSTED_ORIGINS=["https://shop.example"])
    for origin, status in (("https://shop.example", 404), ("https://evil.example", 403)):
        assert shop.client.post(REFUND_PATH, headers={"Origin": origin}).status_code == status
