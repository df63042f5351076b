"""Access tokens from make_token()."""

from __future__ import annotations

import time

import jwt
import pytest

from flask_refunds.testing import make_token

SECRET = "a secret of at least 32 characters"


def test_token_has_subject_and_expiry() -> None:
    claims = jwt.decode(make_token("ada", secret=SECRET, expires_in=60), SECRET, algorithms=["HS256"])

    assert claims["sub"] == "ada"
    assert 0 < claims["exp"] - time.time() <= 60
    assert claims["iat"] <= time.time()


def test_negative_lifetime_makes_expired_token() -> None:
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(make_token("ada", secret=SECRET, expires_in=-60), SECRET, algorithms=["HS256"])


def test_claim_algorithm_and_extra_claims_are_applied() -> None:
    token = make_token("ada", secret=SECRET * 2, algorithm="HS512", claim="user_id", aud="shop", iat=5)

    claims = jwt.decode(token, SECRET * 2, algorithms=["HS512"], audience="shop")
    assert (claims["user_id"], claims["iat"]) == ("ada", 5)
    assert "sub" not in claims
