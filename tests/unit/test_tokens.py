"""Tokens: key families, forged tokens, claims, and an identity provider's keys."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_refunds import IdentityProviderUnavailable, NotAuthenticated
from flask_refunds.config import read_token_settings
from flask_refunds.identity.tokens import TokenVerifier
from flask_refunds.testing import make_token
from tests.mount.jwks import KeyEndpoint, key_endpoint
from tests.mount.keys import (
    HEADER,
    PUBLIC_KEY_ALGORITHMS,
    KeyPair,
    b64url,
    bad_tokens,
    claims,
    forge,
    key_pair,
)
from tests.shop import JWT_SECRET

ANN = "64b5f2c8e13e4a5b6c7d8e9f"


def verifier(**config: Any) -> TokenVerifier:
    return TokenVerifier(read_token_settings({"JWT_SECRET_KEY": JWT_SECRET, **config}))


def identify(token: str, **config: Any) -> str:
    """Return the identity of a token."""
    token_verifier = verifier(**config)
    return token_verifier.identity(token_verifier.verify(token))


def is_rejected(token: str, **config: Any) -> bool:
    with pytest.raises(NotAuthenticated):
        identify(token, **config)
    return True


def signed(
    algorithm: str, *, owner: str = "issuer", headers: dict[str, Any] | None = None, **changes: Any
) -> str:
    """Return a token signed with a private key."""
    key = key_pair(algorithm, owner).key
    return jwt.encode(claims(ANN, **changes), key, algorithm=algorithm, headers=headers)


def public_key(algorithm: str) -> dict[str, Any]:
    return {"JWT_ALGORITHM": algorithm, "JWT_PUBLIC_KEY": key_pair(algorithm).public_pem}


# Good tokens


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_token_with_the_shared_secret_is_valid_for_its_algorithm_only(algorithm: str) -> None:
    secret = "s" * 64
    token = make_token(ANN, secret=secret, algorithm=algorithm)
    assert identify(token, JWT_SECRET_KEY=secret, JWT_ALGORITHM=algorithm) == ANN
    others = {"HS256", "HS384", "HS512"} - {algorithm}
    assert all(is_rejected(token, JWT_SECRET_KEY=secret, JWT_ALGORITHM=other) for other in others)


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_token_with_the_key_pair_is_valid(algorithm: str) -> None:
    assert identify(signed(algorithm), **public_key(algorithm)) == ANN
    assert is_rejected(signed(algorithm, owner="rogue"), **public_key(algorithm))
    signed_part, _, signature = signed(algorithm).rpartition(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    assert is_rejected(f"{signed_part}.{changed}", **public_key(algorithm))


def test_every_configured_algorithm_is_accepted() -> None:
    config = {**public_key("RS256"), "JWT_DECODE_ALGORITHMS": ["RS256", "PS256"]}
    assert identify(signed("RS256"), **config) == identify(signed("PS256"), **config) == ANN
    assert is_rejected(signed("RS384"), **config)


def test_verify_returns_the_claims_unchanged() -> None:
    token = forge(claims(ANN, scope=["a"], type="access", fresh=True))
    assert verifier().verify(token)["scope"] == ["a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": time.time() + 3600.5},
        {"exp": 10**20},
        {"exp": 1e300},
        {"nbf": 0},
        {"jti": "x", "type": "access"},
        {"aud": ""},
        {"iss": "anybody"},
    ],
)
def test_unusual_valid_claims_are_accepted(changes: dict[str, Any]) -> None:
    assert identify(forge(claims(ANN, **changes))) == ANN


@pytest.mark.parametrize("header", [{"kid": "anything"}, {"typ": "at+jwt"}, {"jku": "https://evil.example"}])
def test_unused_headers_are_ignored(header: dict[str, Any]) -> None:
    assert identify(forge(claims(ANN), HEADER | header)) == ANN
    assert is_rejected(forge(claims(ANN), HEADER | header, secret="x" * 40))


# Bad tokens


@pytest.mark.parametrize("what", bad_tokens(ANN))
def test_bad_token_is_not_authenticated(what: str) -> None:
    assert is_rejected(bad_tokens(ANN)[what]), what


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("only dots", "malformed"),
        ("signed by another issuer", "signature"),
        ("alg none", "key"),
        ("expired", "expired"),
        ("exp missing", "claims"),
        ("sub empty", "claims"),
        ("a refresh token", "refresh_token"),
    ],
)
def test_bad_token_has_a_reason_for_the_log(what: str, reason: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        identify(bad_tokens(ANN)[what])
    assert caught.value.reason == reason


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, RecursionError, UnicodeError])
def test_any_exception_of_pyjwt_is_not_authenticated(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Releases of PyJWT differ in what they raise for a malformed token."""

    def decode(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(jwt, "decode", decode)
    with pytest.raises(NotAuthenticated) as caught:
        identify(forge(claims(ANN)))
    assert caught.value.reason == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
HEADER_NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip", "jwk", "x5c", "cty"])
CLAIM_NAMES = st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "type"])
VERIFIER = verifier(JWT_DECODE_AUDIENCE="shop", JWT_DECODE_ISSUER="login")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_not_authenticated(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        VERIFIER.verify(token)


@settings(deadline=None)
@given(
    st.dictionaries(HEADER_NAMES, JSON, max_size=4),
    st.dictionaries(CLAIM_NAMES, JSON, max_size=6),
    st.booleans(),
)
def test_any_signed_claims_are_an_identity_or_not_authenticated(
    header: dict[str, Any], changes: dict[str, Any], with_algorithm: bool
) -> None:
    """Claims and headers of any type raise only ``NotAuthenticated``, or have a text identity."""
    header = HEADER | header | (HEADER if with_algorithm else {})
    token = forge(claims(ANN, aud="shop", iss="login") | changes, header)
    try:
        identity = VERIFIER.identity(VERIFIER.verify(token))
    except NotAuthenticated:
        return
    assert isinstance(identity, str)
    assert identity


def _secrets_of_a_public_key() -> dict[str, bytes]:
    pair = key_pair("RS256")
    pem = pair.public_pem
    numbers = pair.key.public_key().public_numbers()
    modulus = numbers.n.to_bytes(256, "big")
    return {
        "the PEM": pem.encode(),
        "the PEM without its last line break": pem.rstrip("\n").encode(),
        "the PEM with DOS line breaks": pem.replace("\n", "\r\n").encode(),
        "its base64, in lines": "\n".join(pem.splitlines()[1:-1]).encode(),
        "its base64, in one line": "".join(pem.splitlines()[1:-1]).encode(),
        "the DER": pair.public_der,
        "the modulus": modulus,
        "the modulus in base64url": b64url(modulus).encode(),
        "the JWK": json.dumps(pair.jwk("RS256", "1")).encode(),
        "nothing": b"",
    }


@pytest.mark.parametrize("what", _secrets_of_a_public_key())
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_hmac_token_signed_with_the_public_key_is_rejected(what: str, digest: str) -> None:
    """The public key isn't secret, so anyone could sign with it (RFC 8725, section 2.1)."""
    algorithm = "HS" + digest[3:]
    token = forge(claims(ANN), {"alg": algorithm}, secret=_secrets_of_a_public_key()[what], digest=digest)
    assert is_rejected(token, **public_key("RS256"))
    assert is_rejected(token, **public_key("RS256"), JWT_DECODE_ALGORITHMS=["RS256", "PS256"])


@pytest.mark.parametrize("what", ["alg none", "alg None", "alg none, signed", "alg an object", "no alg"])
def test_unsigned_token_is_rejected_with_a_public_key(what: str) -> None:
    assert is_rejected(bad_tokens(ANN)[what], **public_key("ES256"))


def test_key_in_the_token_header_is_ignored() -> None:
    rogue = key_pair("RS256", "rogue").jwk("RS256", "1")
    for header in (
        {"jwk": rogue},
        {"jku": "https://evil.example/jwks"},
        {"x5c": ["MAA="]},
        {"x5u": "https://evil.example"},
    ):
        assert is_rejected(signed("RS256", owner="rogue", headers=header), **public_key("RS256"))


@pytest.mark.parametrize("other", ["ES256", "PS256", "EdDSA", "RS384"])
def test_other_algorithm_than_the_configured_one_is_rejected(other: str) -> None:
    assert is_rejected(signed(other), **public_key("RS256"))


# Configured claims


@pytest.mark.parametrize(
    ("configured", "claim", "passes"),
    [
        ("shop", "shop", True),
        ("shop", ["blog", "shop"], True),
        (["shop", "admin"], "admin", True),
        (["shop", "admin"], ["admin", "blog"], True),
        ("shop", "Shop", False),
        ("shop", "shop ", False),
        ("shop", "workshop", False),
        ("shop", ["blog"], False),
        ("shop", [], False),
        ("shop", None, False),
        ("shop", {"shop": 1}, False),
        ("shop", ["shop", 1], False),
        (["shop", "admin"], "blog", False),
        ("shop", ["s", "h", "o", "p"], False),
        (["shop"], "s", False),
    ],
)
def test_audience_must_match_one_that_is_configured(configured: Any, claim: Any, passes: bool) -> None:
    token = forge(claims(ANN, aud=claim))
    if passes:
        assert identify(token, JWT_DECODE_AUDIENCE=configured) == ANN
    else:
        assert is_rejected(token, JWT_DECODE_AUDIENCE=configured)


def test_missing_or_unconfigured_audience_is_rejected() -> None:
    assert is_rejected(forge(claims(ANN)), JWT_DECODE_AUDIENCE="shop")
    assert is_rejected(forge(claims(ANN, aud="shop")))


@pytest.mark.parametrize(
    "claim",
    [
        "https://login.exampl",
        "https://login.example/",
        "HTTPS://LOGIN.EXAMPLE",
        "",
        None,
        ["https://login.example"],
    ],
)
def test_issuer_must_be_the_configured_one(claim: Any) -> None:
    config = {"JWT_DECODE_ISSUER": "https://login.example"}
    assert identify(forge(claims(ANN, iss="https://login.example")), **config) == ANN
    assert is_rejected(forge(claims(ANN, iss=claim)), **config)
    assert is_rejected(forge(claims(ANN)), **config)


def test_leeway_extends_exp_and_nbf() -> None:
    now = int(time.time())
    late, later = claims(ANN, exp=now - 100), claims(ANN, exp=now - 300)
    early, earlier = claims(ANN, nbf=now + 100), claims(ANN, nbf=now + 300)
    for token in (late, early):
        assert identify(forge(token), JWT_DECODE_LEEWAY=200) == ANN
        assert is_rejected(forge(token))
    for token in (later, earlier):
        assert is_rejected(forge(token), JWT_DECODE_LEEWAY=200)


@pytest.mark.parametrize("value", ["ann", " ", "0", 42, 0, -1])
def test_configured_identity_claim_is_used(value: Any) -> None:
    token = forge(claims("another user", uid=value))
    assert identify(token, JWT_IDENTITY_CLAIM="uid") == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        True,
        False,
        1.0,
        1.5,
        float("nan"),
        [],
        ["ann"],
        {},
        {"$ne": None},
        {"$gt": ""},
        {"$oid": ANN},
    ],
)
def test_identity_that_is_not_text_or_integer_is_rejected(value: Any) -> None:
    assert is_rejected(forge(claims(ANN, uid=value)), JWT_IDENTITY_CLAIM="uid")


def test_missing_identity_claim_is_rejected() -> None:
    assert is_rejected(forge(claims(ANN)), JWT_IDENTITY_CLAIM="uid")


def test_sub_is_optional_with_another_identity_claim() -> None:
    payload = claims(None, uid="ann")
    del payload["sub"]
    assert identify(forge(payload), JWT_IDENTITY_CLAIM="uid") == "ann"


def test_token_longer_than_8_kib_is_rejected() -> None:
    def token(length: int) -> str:
        payload = claims(ANN, padding="")
        missing = length - len(forge(payload))
        return forge(payload | {"padding": "x" * (missing * 3 // 4)})

    assert identify(token(8190)) == ANN
    assert is_rejected(token(8300))


# Keys from an identity provider


@pytest.fixture
def idp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyEndpoint]:
    """Serve the keys of an identity provider with one RSA key, ``kid`` 1."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with key_endpoint(key_pair("RS256").jwk("RS256", "1")) as endpoint:
        yield endpoint


def from_idp(idp: KeyEndpoint, algorithm: str = "RS256") -> TokenVerifier:
    return verifier(JWT_ALGORITHM=algorithm, JWT_JWKS_URL=idp.url, JWT_SECRET_KEY=None)


def issued(kid: Any = "1", algorithm: str = "RS256", owner: str = "issuer", **changes: Any) -> str:
    return signed(algorithm, owner=owner, headers={"kid": kid}, **changes)


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_token_with_a_published_key_is_valid(idp: KeyEndpoint, algorithm: str) -> None:
    idp.publish(key_pair("RS256", "older").jwk("RS256", "0"), key_pair(algorithm).jwk(algorithm, "1"))
    token_verifier = from_idp(idp, algorithm)
    assert idp.hits == 0
    assert token_verifier.verify(issued("1", algorithm))["sub"] == ANN
    with pytest.raises(NotAuthenticated):
        token_verifier.verify(issued("1", algorithm, owner="rogue"))
    with pytest.raises(NotAuthenticated):
        token_verifier.verify(issued("1", algorithm, exp=0))
    assert idp.hits == 1


@pytest.mark.parametrize("kid", ["2", "", "1 ", "../1", "jwks.json", "x" * 4000])
def test_unknown_key_id_is_rejected(idp: KeyEndpoint, kid: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        from_idp(idp).verify(issued(kid))
    assert caught.value.reason == "key"


def test_token_that_no_published_key_fits_fetches_no_keys(idp: KeyEndpoint) -> None:
    token_verifier = from_idp(idp)
    no_key_id, other_algorithm = signed("RS256"), issued("1", "PS256")
    for token in (no_key_id, other_algorithm, forge(claims(ANN), HEADER | {"kid": "1"})):
        with pytest.raises(NotAuthenticated) as caught:
            token_verifier.verify(token)
        assert caught.value.reason == "key"
    assert idp.hits == 0


def test_published_key_is_not_used_as_hmac_secret(idp: KeyEndpoint) -> None:
    secret = base64.urlsafe_b64encode(b"k" * 32).decode()
    idp.publish({"kty": "oct", "kid": "1", "alg": "HS256", "k": secret}, key_pair("RS256").jwk("RS256", "2"))
    token_verifier = from_idp(idp)
    assert token_verifier.verify(issued("2"))
    for secret_bytes in (b"k" * 32, key_pair("RS256").public_pem.encode(), b""):
        for kid in ("1", "2"):
            with pytest.raises(NotAuthenticated):
                token_verifier.verify(forge(claims(ANN), HEADER | {"kid": kid}, secret=secret_bytes))


def test_published_encryption_key_is_not_used(idp: KeyEndpoint) -> None:
    idp.publish(key_pair("RS256").jwk("RS256", "1", use="enc"), key_pair("RS256", "other").jwk("RS256", "2"))
    with pytest.raises(NotAuthenticated):
        from_idp(idp).verify(issued("1"))


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_weak_published_key_is_rejected(idp: KeyEndpoint) -> None:
    weak = KeyPair(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    idp.publish(weak.jwk("RS256", "1"))
    token = jwt.encode(claims(ANN), weak.key, algorithm="RS256", headers={"kid": "1"})
    with pytest.raises(NotAuthenticated):
        from_idp(idp).verify(token)


def test_malformed_token_fetches_no_keys(idp: KeyEndpoint) -> None:
    token_verifier = from_idp(idp)
    for token in ("x", "a.b.c", "A" * 1_000_000, "..", forge(claims(ANN), {"alg": "RS256", "kid": 1})):
        with pytest.raises(NotAuthenticated):
            token_verifier.verify(token)
    assert idp.hits == 0


def test_failed_fetch_is_identity_provider_unavailable(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    token_verifier = from_idp(idp)
    for status in (500, 503, 404, 403, 302):
        idp.status = status
        with pytest.raises(IdentityProviderUnavailable):
            token_verifier.verify(issued())
        clock.now += 5
    idp.status = 200
    assert token_verifier.verify(issued())
    down = from_idp(idp)
    idp.stop()
    with pytest.raises(IdentityProviderUnavailable):
        down.verify(issued())


def test_redirect_of_the_key_endpoint_is_not_followed(idp: KeyEndpoint) -> None:
    with key_endpoint(key_pair("RS256", "rogue").jwk("RS256", "1")) as elsewhere:
        idp.status, idp.headers = 302, {"Location": elsewhere.url}
        with pytest.raises(IdentityProviderUnavailable):
            from_idp(idp).verify(issued(owner="rogue"))
        assert elsewhere.hits == 0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in to the hotel's network</html>",
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct"}]}',
        b'{"keys": "none"}',
        b"\xff\xfe",
    ],
)
def test_invalid_key_set_is_identity_provider_unavailable(idp: KeyEndpoint, body: bytes) -> None:
    """A proxy's page in place of the keys must not become a 401."""
    idp.body = body
    with pytest.raises(IdentityProviderUnavailable):
        from_idp(idp).verify(issued())


def test_many_tokens_cause_one_fetch(idp: KeyEndpoint) -> None:
    token_verifier = from_idp(idp)
    for _ in range(5):
        token_verifier.verify(issued())
    assert idp.hits == 1


def test_unknown_key_ids_cause_few_fetches(idp: KeyEndpoint) -> None:
    """Any caller can send random key IDs, so they must not cost a fetch each."""
    token_verifier = from_idp(idp)
    for number in range(20):
        with pytest.raises(NotAuthenticated):
            token_verifier.verify(forge(claims(ANN), {"alg": "RS256", "kid": f"unknown-{number}"}))
    assert idp.hits <= 2
    assert token_verifier.verify(issued())


@pytest.mark.parametrize("body", [b"", b"<html>"])
@pytest.mark.parametrize("status", [500, 200])
def test_failing_key_endpoint_gets_few_fetches(idp: KeyEndpoint, status: int, body: bytes) -> None:
    idp.status, idp.body = status, body
    token_verifier = from_idp(idp)
    for number in range(20):
        with pytest.raises((NotAuthenticated, IdentityProviderUnavailable)):
            token_verifier.verify(forge(claims(ANN), {"alg": "RS256", "kid": f"unknown-{number}"}))
    assert idp.hits <= 3


def test_concurrent_tokens_cause_one_fetch(idp: KeyEndpoint) -> None:
    token_verifier = from_idp(idp)
    token, start = issued(), threading.Barrier(8)
    seen: list[Any] = []

    def call() -> None:
        start.wait()
        seen.append(token_verifier.verify(token)["sub"])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [ANN] * 8
    assert idp.hits == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock of the key cache."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("flask_refunds.identity.jwks.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_new_key_is_fetched_and_removed_key_is_dropped(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    token_verifier = from_idp(idp)
    assert token_verifier.verify(issued("1"))
    idp.publish(key_pair("RS256", "next").jwk("RS256", "2"))
    clock.now += 60
    assert token_verifier.verify(issued("2", owner="next"))
    with pytest.raises(NotAuthenticated):
        token_verifier.verify(issued("1"))


def test_unknown_key_id_is_rejected_while_keys_cannot_be_fetched(
    idp: KeyEndpoint, clock: SimpleNamespace
) -> None:
    token_verifier = from_idp(idp)
    assert token_verifier.verify(issued())
    idp.status = 500
    clock.now += 60
    assert token_verifier.verify(issued())
    with pytest.raises(NotAuthenticated):
        token_verifier.verify(issued("unknown"))


def test_known_keys_are_used_for_an_hour_without_a_fetch(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    token_verifier = from_idp(idp)
    assert token_verifier.verify(issued())
    idp.status = 503
    clock.now += 3600
    assert token_verifier.verify(issued())
    assert idp.hits == 2
    clock.now += 1
    with pytest.raises(IdentityProviderUnavailable):
        token_verifier.verify(issued())
    idp.status = 200
    clock.now += 5
    assert token_verifier.verify(issued())


def test_fetch_for_an_unknown_key_does_not_block_known_ones(
    idp: KeyEndpoint, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise any caller could delay all others while the endpoint hangs."""
    token_verifier = from_idp(idp)
    assert token_verifier.verify(issued())
    clock.now += 60
    requested, answer = threading.Event(), threading.Event()

    def hang(handler: Any) -> None:
        requested.set()
        answer.wait(10)
        handler.send_error(503)

    monkeypatch.setattr(idp, "answer", hang)
    seen: list[str] = []

    def call(kid: str) -> None:
        with suppress(NotAuthenticated):
            seen.append(token_verifier.verify(issued(kid))["sub"])

    unknown, known = (threading.Thread(target=call, args=(kid,)) for kid in ("unknown", "1"))
    try:
        unknown.start()
        assert requested.wait(10)
        known.start()
        known.join(1)
        assert seen == [ANN]
    finally:
        answer.set()
        for thread in (unknown, known):
            thread.join()


def test_slow_fetch_ends_at_its_deadline(idp: KeyEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_refunds.identity.jwks.FETCH_SECONDS", 0.1)
    stop, finished = threading.Event(), threading.Event()

    def answer_slowly(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for byte in idp.body:
            if stop.wait(0.02):
                return
            handler.wfile.write(bytes([byte]))
        finished.set()

    monkeypatch.setattr(idp, "answer", answer_slowly)
    try:
        with pytest.raises(IdentityProviderUnavailable):
            from_idp(idp).verify(issued())
    finally:
        stop.set()
    assert not finished.is_set()


@pytest.mark.parametrize("algorithm", ["PS256", "RS512"])
def test_published_key_without_algorithm_is_used(idp: KeyEndpoint, algorithm: str) -> None:
    key = key_pair(algorithm).jwk(algorithm, "1")
    del key["alg"]
    idp.publish(key)
    assert from_idp(idp, algorithm).verify(issued("1", algorithm))
