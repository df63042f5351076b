"""``flask refunds token``: good for the endpoints, and given only to developers."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from flask_refunds.testing import StripeSandbox
from tests.mount.keys import key_pair
from tests.shop import Shop, make_app

AUDIENCE = {"JWT_DECODE_AUDIENCE": ["shop", "api"], "JWT_DECODE_ISSUER": "me", "JWT_IDENTITY_CLAIM": "uid"}


@pytest.mark.parametrize("config", [{}, AUDIENCE, {"JWT_ALGORITHM": "HS512", "JWT_SECRET_KEY": "k" * 64}])
def test_a_token_lets_in(database: Any, sandbox: StripeSandbox, config: dict[str, Any]) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **config), database)
    result = shop.flask("token", "--user", str(shop.admin_id), "--expires", "60")
    assert (result.exit_code, result.stderr) == (0, "An admin's token.\n")
    token = result.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    response = shop.client.get("/api/payments/admin/all", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200, response.text


def test_who_it_is_for(shop: Shop) -> None:
    ann = str(shop.add_user())
    result = shop.flask("token", "--user", ann, "--json")
    assert (json.loads(result.stdout)["user"], "no admin" in result.stderr) == (ann, True)
    assert "Nobody has this id" in shop.flask("token", "--user", "0" * 24).stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"STRIPE_SECRET_KEY": "sk_live_flaskRefundsTests00000"}, "The Stripe key is live"),
        (
            {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": key_pair("RS256").public_pem},
            "takes tokens signed with RS256",
        ),
        (
            {"JWT_ALGORITHM": "RS256", "JWT_JWKS_URL": "https://id.example/keys"},
            "takes tokens signed with RS256",
        ),
    ],
)
def test_where_none_is_given(database: Any, config: dict[str, Any], words: str) -> None:
    result = Shop(make_app(REFUNDS_MONGO=database, **config), database).flask("token", "--user", "ann")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
