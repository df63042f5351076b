"""Apps that use Flask-JWT-Extended: a token that is valid for their own views is valid for ours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import flask_jwt_extended as fje
import jwt
import mongomock
import pytest
from flask import Flask

from flask_refunds import ConfigurationError, check_config, refunds_bp
from flask_refunds.testing import StripeSandbox
from tests.mount.conftest import MakeShop
from tests.mount.keys import key_pair
from tests.shop import JWT_SECRET, STRIPE_KEY

PATH = "/api/payments/admin/all"
SECRET = "the-secret-of-another-flask-app-0123456789"


class JwtApp:
    """An app with Flask-JWT-Extended, an admin of its own, and a view behind ``jwt_required``.

    :param config: its ``JWT_…`` keys, and ``SECRET_KEY``.
    """

    def __init__(self, admin_id: Any = "17", **config: Any) -> None:
        database = mongomock.MongoClient(tz_aware=True).shop
        database.users.insert_one({"_id": admin_id, "role": "admin"})
        self.admin_id = admin_id
        self.app = Flask("host")
        self.app.config.update(REFUNDS_MONGO=database, STRIPE_SECRET_KEY=STRIPE_KEY, **config)
        fje.JWTManager(self.app)
        self.app.register_blueprint(refunds_bp)
        self.app.add_url_rule("/me", "me", fje.jwt_required()(dict))

    def token(self, identity: Any = None, **options: Any) -> str:
        with self.app.app_context():
            token: str = fje.create_access_token(self.admin_id if identity is None else identity, **options)
            return token

    def statuses(self, token: str, header: str = "Authorization", kind: str = "Bearer ") -> tuple[int, int]:
        """Return the statuses of the app's own view and of ours for this token."""
        client, headers = self.app.test_client(), {header: f"{kind}{token}"}
        return client.get("/me", headers=headers).status_code, client.get(PATH, headers=headers).status_code


@pytest.mark.parametrize(
    "config",
    [
        {"JWT_SECRET_KEY": SECRET},
        {"SECRET_KEY": SECRET},
        {"SECRET_KEY": SECRET.encode()},
        {"JWT_SECRET_KEY": "", "SECRET_KEY": SECRET},
        {"JWT_SECRET_KEY": SECRET.encode()},
        {"JWT_SECRET_KEY": SECRET + "\n"},
        {"JWT_SECRET_KEY": SECRET, "JWT_DECODE_LEEWAY": timedelta(seconds=45)},
        {"JWT_SECRET_KEY": SECRET, "JWT_ENCODE_AUDIENCE": "shop"},
        {"JWT_SECRET_KEY": SECRET, "JWT_ENCODE_AUDIENCE": ["shop", "blog"], "JWT_DECODE_AUDIENCE": ["blog"]},
        {"JWT_SECRET_KEY": SECRET, "JWT_ENCODE_ISSUER": "two", "JWT_DECODE_ISSUER": ["one", "two"]},
        {"JWT_SECRET_KEY": SECRET, "JWT_IDENTITY_CLAIM": "uid"},
        {"JWT_SECRET_KEY": SECRET, "JWT_ENCODE_NBF": False},
        {"JWT_SECRET_KEY": SECRET, "JWT_ACCESS_TOKEN_EXPIRES": False},
        {"JWT_SECRET_KEY": SECRET, "JWT_DECODE_ALGORITHMS": ["HS256"]},
        {"JWT_SECRET_KEY": SECRET * 2, "JWT_ALGORITHM": "HS384", "JWT_DECODE_ALGORITHMS": ["HS512"]},
        {
            "JWT_ALGORITHM": "ES256",
            "JWT_PUBLIC_KEY": key_pair("ES256").public_pem.encode(),
            "JWT_PRIVATE_KEY": key_pair("ES256").private_pem,
        },
    ],
    ids=",".join,
)
def test_token_that_the_app_accepts_is_valid(config: dict[str, Any]) -> None:
    app = JwtApp(**config)
    check_config(app.app)
    assert app.statuses(app.token()) == (200, 200)


def test_identity_may_be_a_number_without_verification_of_sub() -> None:
    app = JwtApp(17, JWT_SECRET_KEY=SECRET, JWT_VERIFY_SUB=False)
    assert app.statuses(app.token()) == (200, 200)
    strict = JwtApp(17, JWT_SECRET_KEY=SECRET)
    assert strict.statuses(app.token()) == (422, 401)


@pytest.mark.parametrize(
    ("config", "header", "kind"),
    [
        ({"JWT_HEADER_TYPE": "JWT"}, "Authorization", "JWT "),
        ({"JWT_HEADER_TYPE": ""}, "Authorization", ""),
        ({"JWT_HEADER_NAME": "X-Access-Token"}, "X-Access-Token", "Bearer "),
        ({"JWT_HEADER_NAME": "X-Access-Token", "JWT_HEADER_TYPE": ""}, "X-Access-Token", ""),
    ],
)
def test_header_of_the_app_is_read_and_no_other(config: dict[str, Any], header: str, kind: str) -> None:
    app = JwtApp(JWT_SECRET_KEY=SECRET, **config)
    token = app.token()
    assert app.statuses(token, header, kind) == (200, 200)
    assert app.statuses(token)[1] == 401
    assert app.statuses(f"{token} {token}", header, kind)[1] == 401


def test_audience_is_checked_without_flask_jwt_extended_or_with_an_identity_provider(
    make_shop: MakeShop, sandbox: StripeSandbox
) -> None:
    shop = make_shop()
    assert shop.client.get(PATH, headers=shop.headers(aud="elsewhere")).status_code == 401
    app = JwtApp(JWT_SECRET_KEY=SECRET)
    assert app.statuses(app.token(additional_claims={"aud": "elsewhere"})) == (200, 200)
    app = JwtApp(JWT_SECRET_KEY=SECRET, JWT_DECODE_AUDIENCE="here")
    assert app.statuses(app.token(additional_claims={"aud": "elsewhere"})) == (422, 401)


def test_secret_key_counts_only_where_flask_jwt_extended_is_in_the_app() -> None:
    app = Flask("host")
    database = mongomock.MongoClient().shop
    app.config.update(REFUNDS_MONGO=database, STRIPE_SECRET_KEY=STRIPE_KEY, SECRET_KEY=SECRET)
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY: isn't set"):
        check_config(app)


def test_short_secret_key_is_rejected_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match="  SECRET_KEY: is too short"):
        check_config(JwtApp(SECRET_KEY="dev").app)


def test_secret_with_a_line_break_verifies_tokens_of_who_stripped_it(make_shop: MakeShop) -> None:
    shop = make_shop(JWT_SECRET_KEY=f"{JWT_SECRET}\n", JWT_SECRET_KEY_FALLBACKS=[f" {SECRET}\n"])
    assert shop.client.get(PATH, headers=shop.headers()).status_code == 200
    claims = jwt.decode(shop.headers()["Authorization"][7:], options={"verify_signature": False})
    for secret, status in ((f"{JWT_SECRET}\n", 200), (SECRET, 200), (f"{SECRET} ", 401)):
        token = jwt.encode(claims, secret, algorithm="HS256")
        assert shop.client.get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == status


@pytest.mark.parametrize("expires", [900, timedelta(minutes=15)])
def test_token_without_expiry_is_rejected_unless_the_app_says_that_none_expires(expires: Any) -> None:
    app = JwtApp(JWT_SECRET_KEY=SECRET, JWT_ACCESS_TOKEN_EXPIRES=expires)
    assert app.statuses(app.token(expires_delta=False)) == (200, 401)


# Rotation of keys


def test_previous_secrets_are_valid_during_a_rotation(make_shop: MakeShop) -> None:
    previous = ["the-secret-before-the-rotation-0123456789", "an-even-older-secret-than-that-0123456789"]
    shop = make_shop(JWT_SECRET_KEY_FALLBACKS=previous)
    listed = make_shop(JWT_SECRET_KEY=[JWT_SECRET, *previous])
    for each in (shop, listed):
        claims = jwt.decode(each.headers()["Authorization"][7:], options={"verify_signature": False})
        for secret, status in {**dict.fromkeys([JWT_SECRET, *previous], 200), "x" * 40: 401}.items():
            token = jwt.encode(claims, secret, algorithm="HS256")
            response = each.client.get(PATH, headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == status
        expired = jwt.encode(claims | {"exp": 1}, previous[-1], algorithm="HS256")
        assert each.client.get(PATH, headers={"Authorization": f"Bearer {expired}"}).status_code == 401


def test_fallbacks_leave_the_apps_own_key_usable() -> None:
    old = JwtApp(JWT_SECRET_KEY=SECRET)
    app = JwtApp(JWT_SECRET_KEY="n" * 40, JWT_SECRET_KEY_FALLBACKS=[SECRET])
    assert app.statuses(app.token()) == (200, 200)
    assert app.statuses(old.token()) == (422, 200)


def test_public_keys_can_be_listed_during_a_rotation(make_shop: MakeShop) -> None:
    pairs = [key_pair("RS256"), key_pair("RS256", "next")]
    shop = make_shop(JWT_ALGORITHM="RS256", JWT_PUBLIC_KEY=[pair.public_pem for pair in pairs])
    claims = jwt.decode(shop.headers()["Authorization"][7:], options={"verify_signature": False})
    for pair, status in ((pairs[0], 200), (pairs[1], 200), (key_pair("RS256", "rogue"), 401)):
        token = jwt.encode(claims, pair.key, algorithm="RS256")
        assert shop.client.get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == status
