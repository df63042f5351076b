"""Key pairs of every family, and forged tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.shop import JWT_SECRET

PUBLIC_KEY_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class KeyPair:
    """A private key and its public key, as PEM and as JWK."""

    def __init__(self, private_key: Any) -> None:
        self.key = private_key
        self.private_pem = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.public_pem = self.public_bytes(serialization.Encoding.PEM).decode()
        self.public_der = self.public_bytes(serialization.Encoding.DER)

    def public_bytes(self, encoding: serialization.Encoding) -> bytes:
        public = self.key.public_key()
        encoded: bytes = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        return encoded

    def jwk(self, algorithm: str, kid: str, **fields: Any) -> dict[str, Any]:
        """Return the public key as an identity provider publishes it."""
        made: Any = get_default_algorithms()[algorithm].to_jwk(self.key.public_key(), as_dict=True)
        return {**made, "kid": kid, "use": "sig", "alg": algorithm, **fields}


@cache
def key_pair(algorithm: str, owner: str = "issuer") -> KeyPair:
    """Return the key pair of one family and owner, created once per session.

    :param algorithm: the RS and PS algorithms share one RSA key.
    """
    family = "RSA" if algorithm[:2] in {"RS", "PS"} else algorithm
    return _key_pair(family, owner)


@cache
def _key_pair(family: str, owner: str) -> KeyPair:
    if family == "RSA":
        return KeyPair(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    if family == "EdDSA":
        return KeyPair(ed25519.Ed25519PrivateKey.generate())
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return KeyPair(ec.generate_private_key(curves[family]))


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _segment(value: Any) -> str:
    """Encode text and bytes as they are, and other values as JSON, including ``NaN``."""
    if isinstance(value, bytes):
        return b64url(value)
    return b64url((value if isinstance(value, str) else json.dumps(value)).encode())


HEADER = {"alg": "HS256", "typ": "JWT"}


def forge(
    payload: Any, header: Any = HEADER, *, secret: str | bytes = JWT_SECRET, digest: str = "sha256"
) -> str:
    """Return a token with any header and payload, and a valid HMAC of them."""
    signed = f"{_segment(header)}.{_segment(payload)}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signed}.{b64url(hmac.new(key, signed.encode(), getattr(hashlib, digest)).digest())}"


def claims(identity: Any, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token, with changes."""
    now = int(time.time())
    return {"sub": identity, "iat": now, "exp": now + 3600, **changes}


def without(name: str, identity: Any) -> dict[str, Any]:
    """Return the claims of a valid token without one of them."""
    return {key: value for key, value in claims(identity).items() if key != name}


def bad_tokens(identity: str) -> dict[str, str]:
    """Return tokens that are invalid for HS256 and ``JWT_SECRET``, by what is wrong with them."""
    good = claims(identity)
    now = good["iat"]
    token = forge(good)
    head, body, signature = token.split(".")
    other = forge(claims("0" * 24)).split(".")
    return {
        "not a token": "x",
        "only dots": "..",
        "many dots": "." * 100,
        "two segments": f"{head}.{body}",
        "four segments": f"{token}.{signature}",
        "five segments, as an encrypted token has": f"{head}.{body}.{signature}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "signature cut": token[:-2],
        "signature of another token": f"{head}.{other[1]}.{signature}",
        "header of another token": f"{_segment({**HEADER, 'kid': 'x'})}.{body}.{signature}",
        "signed by another issuer": forge(good, secret="another-issuers-secret-that-is-long-enough"),
        "signed with an empty secret": forge(good, secret=""),
        "signed with another digest": forge(good, digest="sha512"),
        "alg none": f"{_segment({'alg': 'none'})}.{body}.",
        "alg none, signed": forge(good, {"alg": "none"}),
        "alg None": f"{_segment({'alg': 'None'})}.{body}.",
        "alg NONE": f"{_segment({'alg': 'NONE'})}.{body}.",
        "alg nOnE": f"{_segment({'alg': 'nOnE'})}.{body}.{signature}",
        "alg empty": forge(good, {"alg": ""}),
        "alg null": forge(good, {"alg": None}),
        "alg in lower case": forge(good, {"alg": "hs256"}),
        "alg with a space": forge(good, {"alg": "HS256 "}),
        "alg an object": forge(good, {"alg": {"HS256": True}}),
        "alg a list": forge(good, {"alg": ["HS256"]}),
        "alg a number": forge(good, {"alg": 256}),
        "alg true": forge(good, {"alg": True}),
        "no alg": forge(good, {"typ": "JWT"}),
        "alg HS384, properly signed": forge(good, {"alg": "HS384"}, digest="sha384"),
        "alg HS512, properly signed": forge(good, {"alg": "HS512"}, digest="sha512"),
        "alg RS256": forge(good, {"alg": "RS256"}),
        "alg ES256": forge(good, {"alg": "ES256"}),
        "alg EdDSA": forge(good, {"alg": "EdDSA"}),
        "header a list": forge(good, [HEADER]),
        "header a string": forge(good, '"HS256"'),
        "header null": forge(good, "null"),
        "header not JSON": forge(good, "{alg:HS256}"),
        "header not UTF-8": forge(good, b'{"alg":"HS256","x":"\xff"}'),
        "header nested too deeply": forge(good, '{"alg":"HS256","x":' + "[" * 3000),
        "header with a very long number": forge(good, '{"alg":"HS256","x":' + "9" * 5000 + "}"),
        "kid a number": forge(good, {**HEADER, "kid": 1}),
        "kid an object": forge(good, {**HEADER, "kid": {"$ne": None}}),
        "kid null": forge(good, {**HEADER, "kid": None}),
        "kid a file, signed with its content": forge(good, {**HEADER, "kid": "/dev/null"}, secret=b""),
        "unknown crit": forge(good, {**HEADER, "crit": ["exp"], "exp": now}),
        "crit empty": forge(good, {**HEADER, "crit": []}),
        "crit a string": forge(good, {**HEADER, "crit": "b64", "b64": True}),
        "crit names a missing header": forge(good, {**HEADER, "crit": ["b64"]}),
        "b64 false": forge(good, {**HEADER, "b64": False}),
        "b64 false and critical": forge(good, {**HEADER, "b64": False, "crit": ["b64"]}),
        "b64 false, critical and detached": forge("", {**HEADER, "b64": False, "crit": ["b64"]}),
        "payload a list": forge([good]),
        "payload a string": forge('"sub"'),
        "payload null": forge("null"),
        "payload empty": forge(""),
        "payload not JSON": forge("sub=admin"),
        "payload not UTF-8": forge(b'{"sub":"\xff"}'),
        "payload nested too deeply": forge('{"sub":' + "[" * 3000),
        "payload with a very long number": forge('{"sub":' + "9" * 5000 + "}"),
        "payload not base64url": f"{head}.{body}!.{signature}",
        "payload with white space": f"{head}.{body}\n.{signature}",
        "expired": forge({**good, "iat": now - 7200, "exp": now - 3600}),
        "expired this second": forge({**good, "exp": now}),
        "exp missing": forge(without("exp", identity)),
        "exp null": forge({**good, "exp": None}),
        "exp NaN": forge({**good, "exp": float("nan")}),
        "exp infinite": forge({**good, "exp": float("inf")}),
        "exp infinite by overflow": forge(json.dumps(good).replace(str(good["exp"]), "1e999")),
        "exp in the infinite past": forge({**good, "exp": float("-inf")}),
        "exp a word": forge({**good, "exp": "never"}),
        "exp an empty string": forge({**good, "exp": ""}),
        "exp a list": forge({**good, "exp": [good["exp"]]}),
        "exp an object": forge({**good, "exp": {"$gt": 0}}),
        "exp true": forge({**good, "exp": True}),
        "exp zero": forge({**good, "exp": 0}),
        "exp negative": forge({**good, "exp": -good["exp"]}),
        "not yet valid": forge({**good, "nbf": now + 3600}),
        "nbf NaN": forge({**good, "nbf": float("nan")}),
        "nbf a word": forge({**good, "nbf": "now"}),
        "nbf an object": forge({**good, "nbf": {}}),
        "issued in the future": forge({**good, "iat": now + 3600}),
        "iat a word": forge({**good, "iat": "now"}),
        "iat a list": forge({**good, "iat": []}),
        "jti a number": forge({**good, "jti": 1}),
        "audience of another app": forge({**good, "aud": "another-app"}),
        "audience an object": forge({**good, "aud": {"a": 1}}),
        "sub missing": forge(without("sub", identity)),
        "sub null": forge({**good, "sub": None}),
        "sub empty": forge({**good, "sub": ""}),
        "sub true": forge({**good, "sub": True}),
        "sub a number": forge({**good, "sub": 42}),
        "sub a list": forge({**good, "sub": [identity]}),
        "sub an operator": forge({**good, "sub": {"$ne": None}}),
        "sub a regular expression": forge({**good, "sub": {"$regex": ".*"}}),
        "sub an ObjectId in extended JSON": forge({**good, "sub": {"$oid": identity}}),
        "a refresh token": forge({**good, "type": "refresh"}),
        "too long": forge({**good, "padding": "x" * 9000}),
        "very long": "A" * 1_000_000,
        "not ASCII": forge(good).replace(".", "é.", 1),
        "not Latin-1": f"{head}.{body}.подпись",
    }
