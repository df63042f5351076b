"""Who is not let in."""

from __future__ import annotations

import time
from collections.abc import Iterator

import jwt

from flask_refunds.testing import make_token
from tests.canaries import WEBHOOK_SECRET
from tests.hostile.targets import ADMIN, ANN, AUDIENCE, COMPLETED, GONE, ISSUER, ODD_ROLES, Case, odd_id
from tests.mount.keys import b64url, bad_tokens, claims, forge, key_pair
from tests.shop import JWT_SECRET, STRIPE_KEY

REFUND = f"/admin/refund/{COMPLETED}"
DOORS = (
    ("POST", REFUND),
    ("GET", REFUND),
    ("GET", "/admin/all"),
    ("GET", "/admin/refunds"),
    ("GET", "/admin/refunds/pi_1:1"),
    ("GET", "/admin/refunds/metrics"),
)


def good(identity: str = ADMIN) -> str:
    return make_token(identity, secret=JWT_SECRET)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


def cases() -> Iterator[tuple[str, Case]]:
    """All of them, by name."""
    for name, token in bad_tokens(ADMIN).items():
        if "\n" in token:
            continue  # no header holds a line break; it would be another header
        yield f"token: {name}", _refused(bearer(token))
    yield from _confused_keys()
    yield from _wrong_claims()
    yield from _headers()
    for method, path in (*DOORS, ("GET", "/status/pi_1")):
        yield f"nobody: {method} {path}", Case(method, path, 401, "not_authenticated")
    for method, path in DOORS:
        yield f"no admin: {method} {path}", Case(method, path, 403, "admin_required", bearer(good(ANN)))
    for number, role in enumerate(ODD_ROLES):
        headers = bearer(good(odd_id(number)))
        yield f"role: {role}", Case("POST", REFUND, 403, "admin_required", headers)


def _refused(headers: tuple[tuple[str, str], ...], app: str = "shop", path: str = REFUND) -> Case:
    return Case("POST", path, 401, "not_authenticated", headers, app=app)


def _confused_keys() -> Iterator[tuple[str, Case]]:
    """The public key, which everybody has, used as if it were a secret."""
    pair = key_pair("RS256")
    secrets = {
        "the PEM": pair.public_pem.encode(),
        "the PEM, stripped": pair.public_pem.strip().encode(),
        "the DER": pair.public_der,
        "its base64": "".join(pair.public_pem.splitlines()[1:-1]).encode(),
        "nothing": b"",
    }
    for name, secret in secrets.items():
        yield (
            f"RS/HS: signed with {name}",
            _refused(bearer(forge(claims(ADMIN), secret=secret)), "public key"),
        )
    payload = forge(claims(ADMIN)).split(".")[1]
    unsigned = b64url(b'{"alg":"none"}') + f".{payload}."
    rogue = jwt.encode(claims(ADMIN), key_pair("RS256", "rogue").key, algorithm="RS256")
    pinned = {"jwk": key_pair("RS256", "rogue").jwk("RS256", "1")}
    bringing = jwt.encode(claims(ADMIN), key_pair("RS256", "rogue").key, algorithm="RS256", headers=pinned)
    other = jwt.encode(claims(ADMIN), pair.key, algorithm="PS256")
    for name, token in {
        "no algorithm": unsigned,
        "somebody else's key": rogue,
        "a key of its own": bringing,
        "another algorithm of the same key": other,
        "a good token of a shared secret": good(),
    }.items():
        yield f"RS: {name}", _refused(bearer(token), "public key")
    signed = jwt.encode(claims(ADMIN), pair.key, algorithm="RS256")
    yield "HS: a token of a key pair", _refused(bearer(signed))
    for name, secret in {"Stripe's key": STRIPE_KEY, "the webhook's secret": WEBHOOK_SECRET}.items():
        yield f"HS: signed with {name}", _refused(bearer(forge(claims(ADMIN), secret=secret)))


def _wrong_claims() -> Iterator[tuple[str, Case]]:
    right = {"aud": AUDIENCE, "iss": ISSUER}
    for name, changes in {
        "no aud": {"iss": ISSUER},
        "no iss": {"aud": AUDIENCE},
        "another aud": {**right, "aud": "blog"},
        "aud a letter of it": {**right, "aud": "s"},
        "aud an operator": {**right, "aud": {"$ne": ""}},
        "aud an empty list": {**right, "aud": []},
        "aud null": {**right, "aud": None},
        "another iss": {**right, "iss": "https://login.evil.example"},
        "iss with a slash more": {**right, "iss": ISSUER + "/"},
        "iss a list": {**right, "iss": [ISSUER]},
        "iss in capitals": {**right, "iss": ISSUER.upper()},
        "expired, aud and iss right": {**right, "exp": int(time.time()) - 1},
    }.items():
        yield f"claims: {name}", _refused(bearer(forge(claims(ADMIN, **changes))), "strict")
    yield "claims: a user who is gone", _refused(bearer(good(GONE)))
    yield "claims: a purchase's id", _refused(bearer(good(COMPLETED)))
    yield "claims: the user's address", _refused(bearer(good("ann@people.example")))


def _headers() -> Iterator[tuple[str, Case]]:
    token = good()
    for name, value in {
        "empty": "",
        "the scheme alone": "Bearer",
        "the scheme and a space": "Bearer ",
        "the token alone": token,
        "another scheme": f"Token {token}",
        "Basic": "Basic YWRtaW46YWRtaW4=",
        "Digest": 'Digest username="admin"',
        "two spaces": f"Bearer  {token}",
        "a tab": f"Bearer\t{token}",
        "a space after": f"Bearer {token} ",
        "two tokens": f"Bearer {token} {token}",
        "two tokens, with a comma": f"Bearer {token},{token}",
        "two headers in one": f"Bearer x, Bearer {token}",
        "a colon": f"Bearer: {token}",
        "in quotes": f'Bearer "{token}"',
        "a hard space": f"Bearer\xa0{token}",
        "an operator": 'Bearer {"$ne":null}',
        "null": "Bearer null",
        "undefined": "Bearer undefined",
    }.items():
        yield f"header: {name}", _refused((("Authorization", value),))
    for name in ("X-Authorization", "Proxy-Authorization", "X-Access-Token", "X-Forwarded-User"):
        yield f"header: {name}", _refused(((name, f"Bearer {token}"),))
    yield "header: a cookie", _refused((("Cookie", f"access_token={token}; access_token_cookie={token}"),))
    for name in ("access_token", "jwt", "token"):
        yield f"query: {name}", _refused((), path=f"{REFUND}?{name}={token}")
    body = b"access_token=" + token.encode()
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    yield "body: access_token", Case("POST", REFUND, 401, "not_authenticated", form, body)
