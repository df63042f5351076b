"""Requests whose caller must not be authenticated, or isn't an admin."""

from __future__ import annotations

import time
from collections.abc import Iterator

import jwt

from flask_refunds.testing import make_token
from tests.canaries import WEBHOOK_SECRET
from tests.hostile.targets import (
    ADMIN,
    ANN,
    AUDIENCE,
    COMPLETED,
    DELETED,
    ISSUER,
    OTHER_ROLES,
    Case,
    role_user,
)
from tests.mount.keys import b64url, bad_tokens, claims, forge, key_pair
from tests.shop import JWT_SECRET, STRIPE_KEY

REFUND = f"/admin/refund/{COMPLETED}"
ADMIN_ROUTES = (
    ("POST", REFUND),
    ("GET", REFUND),
    ("GET", "/admin/all"),
    ("GET", "/admin/me"),
    ("GET", "/admin/refunds"),
    ("GET", "/admin/refunds/pi_1:1"),
    ("GET", "/admin/refunds/metrics"),
)


def valid_token(identity: str = ADMIN) -> str:
    return make_token(identity, secret=JWT_SECRET)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


def cases() -> Iterator[tuple[str, Case]]:
    """Yield each name and case. Unit tests have the tables of claims, roles and HMAC confusion."""
    for name, token in bad_tokens(ADMIN).items():
        if "\n" not in token:  # it would start another header
            yield f"token: {name}", _rejected(bearer(token))
    yield from _confused_keys()
    yield from _wrong_claims()
    yield from _headers()
    for method, path in (*ADMIN_ROUTES, ("GET", "/status/pi_1")):
        yield f"no token: {method} {path}", Case(method, path, 401, "not_authenticated")
    for method, path in ADMIN_ROUTES:
        yield (
            f"not an admin: {method} {path}",
            Case(method, path, 403, "admin_required", bearer(valid_token(ANN))),
        )
    for number, role in enumerate(OTHER_ROLES):
        headers = bearer(valid_token(role_user(number)))
        yield f"role: {role}", Case("POST", REFUND, 403, "admin_required", headers)


def _rejected(headers: tuple[tuple[str, str], ...], app: str = "shop", path: str = REFUND) -> Case:
    return Case("POST", path, 401, "not_authenticated", headers, app=app)


def _confused_keys() -> Iterator[tuple[str, Case]]:
    pair, other_key = key_pair("RS256"), key_pair("RS256", "rogue").key
    payload = forge(claims(ADMIN)).split(".")[1]
    own_key = {"jwk": key_pair("RS256", "rogue").jwk("RS256", "1")}
    for name, token in {
        "signed with the public key": forge(claims(ADMIN), secret=pair.public_pem),
        "no algorithm": b64url(b'{"alg":"none"}') + f".{payload}.",
        "another issuer's key": jwt.encode(claims(ADMIN), other_key, algorithm="RS256"),
        "a key of its own": jwt.encode(claims(ADMIN), other_key, algorithm="RS256", headers=own_key),
        "another algorithm of the same key": jwt.encode(claims(ADMIN), pair.key, algorithm="PS256"),
        "a valid token with the shared secret": valid_token(),
    }.items():
        yield f"RS256: {name}", _rejected(bearer(token), "public key")
    for name, token in {
        "a token of a key pair": jwt.encode(claims(ADMIN), pair.key, algorithm="RS256"),
        "signed with Stripe's key": forge(claims(ADMIN), secret=STRIPE_KEY),
        "signed with the webhook's secret": forge(claims(ADMIN), secret=WEBHOOK_SECRET),
    }.items():
        yield f"HS256: {name}", _rejected(bearer(token))


def _wrong_claims() -> Iterator[tuple[str, Case]]:
    configured = {"aud": AUDIENCE, "iss": ISSUER}
    for name, changes in {
        "no aud": {"iss": ISSUER},
        "no iss": {"aud": AUDIENCE},
        "another aud": {**configured, "aud": "blog"},
        "another iss": {**configured, "iss": "https://login.evil.example"},
        "expired, valid aud and iss": {**configured, "exp": int(time.time()) - 1},
    }.items():
        yield f"claims: {name}", _rejected(bearer(forge(claims(ADMIN, **changes))), "strict")
    yield "claims: a deleted user", _rejected(bearer(valid_token(DELETED)))
    yield "claims: a purchase's ID", _rejected(bearer(valid_token(COMPLETED)))
    yield "claims: the user's address", _rejected(bearer(valid_token("ann@people.example")))


def _headers() -> Iterator[tuple[str, Case]]:
    """``tests/mount/test_auth.py`` has the other values of the Authorization header."""
    token = valid_token()
    for name, value in {
        "empty": "",
        "another scheme": f"Token {token}",
        "Basic": "Basic YWRtaW46YWRtaW4=",
        "Digest": 'Digest username="admin"',
        "two headers in one": f"Bearer x, Bearer {token}",
        "an operator": 'Bearer {"$ne":null}',
    }.items():
        yield f"header: {name}", _rejected((("Authorization", value),))
    for name in ("X-Authorization", "Proxy-Authorization", "X-Access-Token", "X-Forwarded-User"):
        yield f"header: {name}", _rejected(((name, f"Bearer {token}"),))
    yield "header: a cookie", _rejected((("Cookie", f"access_token={token}; access_token_cookie={token}"),))
    for name in ("access_token", "jwt", "token"):
        yield f"query: {name}", _rejected((), path=f"{REFUND}?{name}={token}")
    body = b"access_token=" + token.encode()
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    yield "body: access_token", Case("POST", REFUND, 401, "not_authenticated", form, body)
