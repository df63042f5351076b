"""``flask refunds token``: a token that the endpoints accept, for development only."""

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
def test_token_is_accepted_by_the_endpoints(
    database: Any, sandbox: StripeSandbox, config: dict[str, Any]
) -> None:
    shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, **config), database)
    result = shop.flask("token", "--user", str(shop.admin_id), "--expires", "60")
    assert (result.exit_code, result.stderr) == (0, "This user is an admin.\n")
    token = result.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    response = shop.client.get("/api/payments/admin/all", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200, response.text


def test_token_command_prints_what_the_user_may_do(shop: Shop) -> None:
    ann = str(shop.add_user())
    result = shop.flask("token", "--user", ann, "--json")
    assert (json.loads(result.stdout)["user"], "isn't an admin" in result.stderr) == (ann, True)
    assert "No user has this ID" in shop.flask("token", "--user", "0" * 24).stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"STRIPE_SECRET_KEY": "sk_live_flaskRefundsTests00000"}, "The Stripe key is live"),
        ({"JWT_SECRET_KEY": None, "REFUNDS_CURRENT_USER": dict}, "No key for tokens is set"),
        (
            {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": key_pair("RS256").public_pem},
            "signed with RS256 by another service",
        ),
        (
            {"JWT_ALGORITHM": "RS256", "JWT_JWKS_URL": "https://id.example/keys"},
            "signed with RS256 by another service",
        ),
    ],
)
def test_token_is_refused_with_a_live_key_or_foreign_signature(
    database: Any, config: dict[str, Any], message: str
) -> None:
    result = Shop(make_app(REFUNDS_MONGO=database, **config), database).flask("token", "--user", "ann")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
