"""Which tokens are believed: every family of keys, every bent token, and an identity provider's bad days."""

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
import mongomock
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_refunds import IdentityProviderUnavailable, NotAuthenticated
from flask_refunds.config import read_settings
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
from tests.shop import JWT_SECRET, STRIPE_KEY

ANN = "64b5f2c8e13e4a5b6c7d8e9f"


def verifier(**config: Any) -> TokenVerifier:
    good = {"JWT_SECRET_KEY": JWT_SECRET, "STRIPE_SECRET_KEY": STRIPE_KEY}
    return TokenVerifier(read_settings({"REFUNDS_MONGO": mongomock.MongoClient().shop, **good, **config}))


def identify(token: str, **config: Any) -> str:
    """Whom a token speaks for."""
    checker = verifier(**config)
    return checker.identity(checker.verify(token))


def refused(token: str, **config: Any) -> bool:
    with pytest.raises(NotAuthenticated):
        identify(token, **config)
    return True


def signed(
    algorithm: str, *, owner: str = "issuer", headers: dict[str, Any] | None = None, **changes: Any
) -> str:
    """A token that an identity provider with this key would issue."""
    key = key_pair(algorithm, owner).key
    return jwt.encode(claims(ANN, **changes), key, algorithm=algorithm, headers=headers)


def public_key(algorithm: str) -> dict[str, Any]:
    return {"JWT_ALGORITHM": algorithm, "JWT_PUBLIC_KEY": key_pair(algorithm).public_pem}


# Good tokens


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_shared_secret(algorithm: str) -> None:
    secret = "s" * 64
    token = make_token(ANN, secret=secret, algorithm=algorithm)
    assert identify(token, JWT_SECRET_KEY=secret, JWT_ALGORITHM=algorithm) == ANN
    others = {"HS256", "HS384", "HS512"} - {algorithm}
    assert all(refused(token, JWT_SECRET_KEY=secret, JWT_ALGORITHM=other) for other in others)


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_a_key_pair(algorithm: str) -> None:
    assert identify(signed(algorithm), **public_key(algorithm)) == ANN
    assert refused(signed(algorithm, owner="rogue"), **public_key(algorithm))
    assert refused(signed(algorithm)[:-3] + "AAA", **public_key(algorithm))


def test_several_algorithms_of_one_key() -> None:
    config = {**public_key("RS256"), "JWT_DECODE_ALGORITHMS": ["RS256", "PS256"]}
    assert identify(signed("RS256"), **config) == identify(signed("PS256"), **config) == ANN
    assert refused(signed("RS384"), **config)


def test_the_claims_are_given_as_they_are() -> None:
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
def test_odd_claims_that_are_valid(changes: dict[str, Any]) -> None:
    assert identify(forge(claims(ANN, **changes))) == ANN


@pytest.mark.parametrize("header", [{"kid": "anything"}, {"typ": "at+jwt"}, {"jku": "https://evil.example"}])
def test_odd_headers_that_change_nothing(header: dict[str, Any]) -> None:
    assert identify(forge(claims(ANN), HEADER | header)) == ANN
    assert refused(forge(claims(ANN), HEADER | header, secret="x" * 40))


# Bad tokens


@pytest.mark.parametrize("what", bad_tokens(ANN))
def test_bad_tokens(what: str) -> None:
    assert refused(bad_tokens(ANN)[what]), what


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("only dots", "malformed"),
        ("signed by somebody else", "signature"),
        ("alg none", "key"),
        ("expired", "expired"),
        ("exp missing", "claims"),
        ("sub empty", "claims"),
        ("a refresh token", "refresh_token"),
    ],
)
def test_what_the_log_says_of_a_bad_token(what: str, why: str) -> None:
    with pytest.raises(NotAuthenticated) as refusal:
        identify(bad_tokens(ANN)[what])
    assert refusal.value.reason == why


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, RecursionError, UnicodeError])
def test_whatever_the_library_stumbles_over_is_no_token(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """PyJWT's releases differ in what they let out for a malformed token."""

    def decode(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(jwt, "decode", decode)
    with pytest.raises(NotAuthenticated) as refusal:
        identify(forge(claims(ANN)))
    assert refusal.value.reason == "malformed"


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
def test_junk_is_refused_in_our_own_words(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        VERIFIER.verify(token)


@settings(deadline=None)
@given(
    st.dictionaries(HEADER_NAMES, JSON, max_size=4),
    st.dictionaries(CLAIM_NAMES, JSON, max_size=6),
    st.booleans(),
)
def test_whatever_was_signed_is_refused_in_our_own_words(
    header: dict[str, Any], changes: dict[str, Any], with_algorithm: bool
) -> None:
    """Claims and headers of any type raise ``NotAuthenticated``, and nothing else, or name a string."""
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
def test_the_public_key_is_no_secret(what: str, digest: str) -> None:
    """RFC 8725, section 2.1: the key is public, so a token signed with it as a secret proves nothing."""
    algorithm = "HS" + digest[3:]
    token = forge(claims(ANN), {"alg": algorithm}, secret=_secrets_of_a_public_key()[what], digest=digest)
    assert refused(token, **public_key("RS256"))
    assert refused(token, **public_key("RS256"), JWT_DECODE_ALGORITHMS=["RS256", "PS256"])


@pytest.mark.parametrize("what", ["alg none", "alg None", "alg none, signed", "alg an object", "no alg"])
def test_unsigned_tokens_where_keys_are_public(what: str) -> None:
    assert refused(bad_tokens(ANN)[what], **public_key("ES256"))


def test_a_token_does_not_bring_its_own_key() -> None:
    rogue = key_pair("RS256", "rogue").jwk("RS256", "1")
    for header in (
        {"jwk": rogue},
        {"jku": "https://evil.example/jwks"},
        {"x5c": ["MAA="]},
        {"x5u": "https://evil.example"},
    ):
        assert refused(signed("RS256", owner="rogue", headers=header), **public_key("RS256"))


@pytest.mark.parametrize("other", ["ES256", "PS256", "EdDSA", "RS384"])
def test_another_algorithm_than_the_configured_one(other: str) -> None:
    assert refused(signed(other), **public_key("RS256"))


# Claims that the config asks for


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
def test_the_audience(configured: Any, claim: Any, passes: bool) -> None:
    token = forge(claims(ANN, aud=claim))
    if passes:
        assert identify(token, JWT_DECODE_AUDIENCE=configured) == ANN
    else:
        assert refused(token, JWT_DECODE_AUDIENCE=configured)


def test_an_audience_that_is_missing_or_not_asked_for() -> None:
    assert refused(forge(claims(ANN)), JWT_DECODE_AUDIENCE="shop")
    assert refused(forge(claims(ANN, aud="shop")))


@pytest.mark.parametrize(
    "claim", ["https://login.exampl", "https://login.example/", "", None, ["https://login.example"]]
)
def test_the_issuer(claim: Any) -> None:
    config = {"JWT_DECODE_ISSUER": "https://login.example"}
    assert identify(forge(claims(ANN, iss="https://login.example")), **config) == ANN
    assert refused(forge(claims(ANN, iss=claim)), **config)
    assert refused(forge(claims(ANN)), **config)


def test_leeway() -> None:
    now = int(time.time())
    late, later = claims(ANN, exp=now - 100), claims(ANN, exp=now - 300)
    early, earlier = claims(ANN, nbf=now + 100), claims(ANN, nbf=now + 300)
    for token in (late, early):
        assert identify(forge(token), JWT_DECODE_LEEWAY=200) == ANN
        assert refused(forge(token))
    for token in (later, earlier):
        assert refused(forge(token), JWT_DECODE_LEEWAY=200)


@pytest.mark.parametrize("value", ["ann", " ", "0", 42, 0, -1])
def test_another_identity_claim(value: Any) -> None:
    token = forge(claims("not he", uid=value))
    assert identify(token, JWT_IDENTITY_CLAIM="uid") == value


@pytest.mark.parametrize(
    "value", [None, "", True, False, 1.0, float("nan"), [], ["ann"], {}, {"$ne": None}, {"$oid": ANN}]
)
def test_an_identity_that_is_none(value: Any) -> None:
    assert refused(forge(claims(ANN, uid=value)), JWT_IDENTITY_CLAIM="uid")


def test_an_identity_claim_that_is_missing() -> None:
    assert refused(forge(claims(ANN)), JWT_IDENTITY_CLAIM="uid")


def test_sub_may_be_missing_where_another_claim_identifies() -> None:
    payload = claims(None, uid="ann")
    del payload["sub"]
    assert identify(forge(payload), JWT_IDENTITY_CLAIM="uid") == "ann"


def test_the_longest_token() -> None:
    def token(length: int) -> str:
        payload = claims(ANN, padding="")
        missing = length - len(forge(payload))
        return forge(payload | {"padding": "x" * (missing * 3 // 4)})

    assert identify(token(8190)) == ANN
    assert refused(token(8300))


# Keys from an identity provider


@pytest.fixture
def idp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyEndpoint]:
    """An identity provider with one RSA key, ``kid`` 1."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with key_endpoint(key_pair("RS256").jwk("RS256", "1")) as endpoint:
        yield endpoint


def from_idp(idp: KeyEndpoint, algorithm: str = "RS256") -> TokenVerifier:
    return verifier(JWT_ALGORITHM=algorithm, JWT_JWKS_URL=idp.url, JWT_SECRET_KEY=None)


def issued(kid: Any = "1", algorithm: str = "RS256", owner: str = "issuer", **changes: Any) -> str:
    return signed(algorithm, owner=owner, headers={"kid": kid}, **changes)


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_a_published_key(idp: KeyEndpoint, algorithm: str) -> None:
    idp.publish(key_pair("RS256", "older").jwk("RS256", "0"), key_pair(algorithm).jwk(algorithm, "1"))
    checker = from_idp(idp, algorithm)
    assert idp.hits == 0
    assert checker.verify(issued("1", algorithm))["sub"] == ANN
    with pytest.raises(NotAuthenticated):
        checker.verify(issued("1", algorithm, owner="rogue"))
    with pytest.raises(NotAuthenticated):
        checker.verify(issued("1", algorithm, exp=0))
    assert idp.hits == 1


@pytest.mark.parametrize("kid", ["2", "", "1 ", "../1", "jwks.json", "x" * 4000])
def test_an_unknown_key(idp: KeyEndpoint, kid: str) -> None:
    with pytest.raises(NotAuthenticated) as refusal:
        from_idp(idp).verify(issued(kid))
    assert refusal.value.reason == "key"


def test_a_token_that_no_published_key_can_have_signed_asks_nobody(idp: KeyEndpoint) -> None:
    checker = from_idp(idp)
    no_key_id, other_algorithm = signed("RS256"), issued("1", "PS256")
    for token in (no_key_id, other_algorithm, forge(claims(ANN), HEADER | {"kid": "1"})):
        with pytest.raises(NotAuthenticated) as refusal:
            checker.verify(token)
        assert refusal.value.reason == "key"
    assert idp.hits == 0


def test_a_published_key_is_no_secret(idp: KeyEndpoint) -> None:
    secret = base64.urlsafe_b64encode(b"k" * 32).decode()
    idp.publish({"kty": "oct", "kid": "1", "alg": "HS256", "k": secret}, key_pair("RS256").jwk("RS256", "2"))
    checker = from_idp(idp)
    assert checker.verify(issued("2"))
    for secret_bytes in (b"k" * 32, key_pair("RS256").public_pem.encode(), b""):
        for kid in ("1", "2"):
            with pytest.raises(NotAuthenticated):
                checker.verify(forge(claims(ANN), HEADER | {"kid": kid}, secret=secret_bytes))


def test_a_key_that_is_published_for_encryption(idp: KeyEndpoint) -> None:
    idp.publish(key_pair("RS256").jwk("RS256", "1", use="enc"), key_pair("RS256", "other").jwk("RS256", "2"))
    with pytest.raises(NotAuthenticated):
        from_idp(idp).verify(issued("1"))


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_published_key_that_is_weak(idp: KeyEndpoint) -> None:
    weak = KeyPair(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    idp.publish(weak.jwk("RS256", "1"))
    token = jwt.encode(claims(ANN), weak.key, algorithm="RS256", headers={"kid": "1"})
    with pytest.raises(NotAuthenticated):
        from_idp(idp).verify(token)


def test_a_token_that_is_none_asks_nobody(idp: KeyEndpoint) -> None:
    checker = from_idp(idp)
    for token in ("x", "a.b.c", "A" * 1_000_000, "..", forge(claims(ANN), {"alg": "RS256", "kid": 1})):
        with pytest.raises(NotAuthenticated):
            checker.verify(token)
    assert idp.hits == 0


def test_keys_cannot_be_fetched(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    checker = from_idp(idp)
    for status in (500, 503, 404, 403, 302):
        idp.status = status
        with pytest.raises(IdentityProviderUnavailable):
            checker.verify(issued())
        clock.now += 5
    idp.status = 200
    assert checker.verify(issued())
    down = from_idp(idp)
    idp.stop()
    with pytest.raises(IdentityProviderUnavailable):
        down.verify(issued())


def test_keys_are_not_fetched_from_where_the_endpoint_points(idp: KeyEndpoint) -> None:
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
def test_an_endpoint_that_answers_nonsense_is_an_outage(idp: KeyEndpoint, body: bytes) -> None:
    """A proxy's page in place of the keys says nothing about the caller, who is told that he is nobody."""
    idp.body = body
    with pytest.raises(IdentityProviderUnavailable):
        from_idp(idp).verify(issued())


def test_keys_are_fetched_once_for_many_tokens(idp: KeyEndpoint) -> None:
    checker = from_idp(idp)
    for _ in range(5):
        checker.verify(issued())
    assert idp.hits == 1


def test_unknown_keys_cause_no_storm(idp: KeyEndpoint) -> None:
    """Anybody can name a key that there is not, so naming one must not cost a fetch each."""
    checker = from_idp(idp)
    for number in range(20):
        with pytest.raises(NotAuthenticated):
            checker.verify(forge(claims(ANN), {"alg": "RS256", "kid": f"unknown-{number}"}))
    assert idp.hits <= 2
    assert checker.verify(issued())


@pytest.mark.parametrize("body", [b"", b"<html>"])
@pytest.mark.parametrize("status", [500, 200])
def test_an_outage_causes_no_storm(idp: KeyEndpoint, status: int, body: bytes) -> None:
    idp.status, idp.body = status, body
    checker = from_idp(idp)
    for number in range(20):
        with pytest.raises((NotAuthenticated, IdentityProviderUnavailable)):
            checker.verify(forge(claims(ANN), {"alg": "RS256", "kid": f"unknown-{number}"}))
    assert idp.hits <= 3


def test_a_stampede_fetches_once(idp: KeyEndpoint) -> None:
    checker = from_idp(idp)
    token, start = issued(), threading.Barrier(8)
    seen: list[Any] = []

    def call() -> None:
        start.wait()
        seen.append(checker.verify(token)["sub"])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [ANN] * 8
    assert idp.hits == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which keys are kept."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("flask_refunds.identity.jwks.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_new_key_is_learnt_and_a_withdrawn_one_forgotten(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    checker = from_idp(idp)
    assert checker.verify(issued("1"))
    idp.publish(key_pair("RS256", "next").jwk("RS256", "2"))
    clock.now += 60
    assert checker.verify(issued("2", owner="next"))
    with pytest.raises(NotAuthenticated):
        checker.verify(issued("1"))


def test_an_outage_is_no_answer_to_junk_while_the_keys_are_known(
    idp: KeyEndpoint, clock: SimpleNamespace
) -> None:
    checker = from_idp(idp)
    assert checker.verify(issued())
    idp.status = 500
    clock.now += 60
    assert checker.verify(issued())
    with pytest.raises(NotAuthenticated):
        checker.verify(issued("unknown"))


def test_known_keys_outlive_a_short_outage(idp: KeyEndpoint, clock: SimpleNamespace) -> None:
    checker = from_idp(idp)
    assert checker.verify(issued())
    idp.status = 503
    clock.now += 3600
    assert checker.verify(issued())
    assert idp.hits == 2
    clock.now += 1
    with pytest.raises(IdentityProviderUnavailable):
        checker.verify(issued())
    idp.status = 200
    clock.now += 5
    assert checker.verify(issued())


def test_a_fetch_for_an_unknown_key_holds_up_no_known_one(
    idp: KeyEndpoint, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or anybody could stop everybody, three seconds in eight, while the endpoint hangs."""
    checker = from_idp(idp)
    assert checker.verify(issued())
    clock.now += 60
    asked, answer = threading.Event(), threading.Event()

    def hang(handler: Any) -> None:
        asked.set()
        answer.wait(10)
        handler.send_error(503)

    monkeypatch.setattr(idp, "answer", hang)
    seen: list[str] = []

    def call(kid: str) -> None:
        with suppress(NotAuthenticated):
            seen.append(checker.verify(issued(kid))["sub"])

    junk, good = (threading.Thread(target=call, args=(kid,)) for kid in ("unknown", "1"))
    try:
        junk.start()
        assert asked.wait(10)
        good.start()
        good.join(1)
        assert seen == [ANN]
    finally:
        answer.set()
        for thread in (junk, good):
            thread.join()


def test_an_endpoint_that_drips_is_given_up(idp: KeyEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_refunds.identity.jwks.FETCH_SECONDS", 0.1)
    stop, finished = threading.Event(), threading.Event()

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for byte in idp.body:
            if stop.wait(0.02):
                return
            handler.wfile.write(bytes([byte]))
        finished.set()

    monkeypatch.setattr(idp, "answer", drip)
    try:
        with pytest.raises(IdentityProviderUnavailable):
            from_idp(idp).verify(issued())
    finally:
        stop.set()
    assert not finished.is_set()


@pytest.mark.parametrize("algorithm", ["PS256", "RS512"])
def test_a_published_key_need_not_name_its_algorithm(idp: KeyEndpoint, algorithm: str) -> None:
    key = key_pair(algorithm).jwk(algorithm, "1")
    del key["alg"]
    idp.publish(key)
    assert from_idp(idp, algorithm).verify(issued("1", algorithm))
