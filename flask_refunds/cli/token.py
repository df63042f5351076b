"""``flask refunds token``: a bearer token to try the endpoints with during development."""

from __future__ import annotations

import time
from typing import Any

import click
import jwt

from ..config.tokens import TokenSettings
from ..extension import Refunds, current_refunds
from .errors import fail, refunds_command
from .options import as_json_option
from .output import print_json


@refunds_command("token")
@click.option("--user", required=True, metavar="ID", help="The ID of the token's user.")
@click.option(
    "--expires",
    type=click.IntRange(1, 30 * 24 * 3600),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long the token is valid, at most 30 days.",
)
@as_json_option
def token(user: str, expires: int, as_json: bool) -> None:
    """Print a bearer token for development, signed with JWT_SECRET_KEY.

    It isn't available with a live Stripe key, or if only an identity provider can sign tokens.
    """
    refunds = current_refunds()
    if refunds.settings.livemode:
        fail("The Stripe key is live. Sign in to your app to get a token.")
    try:
        signed = sign_token(refunds.verifier.settings, user, expires)
    except ValueError as error:
        fail(str(error))
    _print_access(refunds, signed)
    if as_json:
        print_json({"token": signed, "user": user, "expiresIn": expires})
    else:
        click.echo(signed)


def sign_token(settings: TokenSettings, user: str, expires: int) -> str:
    """Return a token of a user, which is valid for this many seconds.

    :raises ValueError: this app can't sign tokens.
    """
    algorithm = settings.jwt_decode_algorithms[0]
    if not settings.jwt_decode_keys and settings.jwt_jwks_url is None:
        raise ValueError(
            "No key for tokens is set. Set JWT_SECRET_KEY, or sign in to your app: it uses sessions."
        )
    if not settings.jwt_decode_keys or not algorithm.startswith("HS"):
        raise ValueError(
            f"Tokens are signed with {algorithm} by another service. Sign in there to get a token."
        )
    now = int(time.time())
    claims: dict[str, Any] = {settings.jwt_identity_claim: user, "iat": now, "exp": now + expires}
    if settings.jwt_decode_audience:
        claims["aud"] = list(settings.jwt_decode_audience)
    if settings.jwt_decode_issuer:
        claims["iss"] = settings.jwt_decode_issuer[0]
    return jwt.encode(claims, settings.jwt_decode_keys[0], algorithm=algorithm)


def _print_access(refunds: Refunds, signed: str) -> None:
    """Print on stderr what the user may do, to explain a 401 or 403."""
    claims = refunds.verifier.verify(signed)
    user = refunds.users.find(refunds.verifier.identity(claims), claims)
    if user is None:
        message = "No user has this ID. The endpoints will return 401."
    elif refunds.users.is_admin(user):
        message = "This user is an admin."
    else:
        message = "This user isn't an admin, and can only see their own payments."
    click.echo(message, err=True)
