"""``flask refunds token``: a token to try the endpoints with, on a developer's machine."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import with_appcontext

from ..config import Settings
from ..extension import Refunds, current_refunds
from .errors import fail, reporting_errors
from .options import as_json_option
from .output import print_json


@click.command("token")
@click.option("--user", required=True, metavar="ID", help="Who the token is for: his id.")
@click.option(
    "--expires",
    type=click.IntRange(1, 30 * 24 * 3600),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long it is good for, in seconds; at most 30 days.",
)
@as_json_option
@with_appcontext
@reporting_errors
def token(user: str, expires: int, as_json: bool) -> None:
    """Print a bearer token for development, signed with JWT_SECRET_KEY.

    RequestRejected with a live Stripe key, and where only an identity provider can sign tokens.
    """
    refunds = current_refunds()
    made = _sign(refunds.settings, user, expires)
    _say_who(refunds, made)
    if as_json:
        print_json({"token": made, "user": user, "expiresIn": expires})
    else:
        click.echo(made)


def _sign(settings: Settings, user: str, expires: int) -> str:
    from ..testing.tokens import make_token

    if settings.livemode:
        fail("The Stripe key is live: tokens come from the app's own sign-in only.")
    algorithm, key = settings.jwt_decode_algorithms[0], settings.jwt_decode_key
    if key is None or not algorithm.startswith("HS"):
        fail(f"This app takes tokens signed with {algorithm}, and has no key to sign them: ask who does.")
    audience: Any = settings.jwt_decode_audience
    claims = {"aud": audience if isinstance(audience, str) else list(audience)} if audience else {}
    if settings.jwt_decode_issuer:
        claims["iss"] = settings.jwt_decode_issuer
    return make_token(
        user, secret=key, algorithm=algorithm, expires_in=expires, claim=settings.jwt_identity_claim, **claims
    )


def _say_who(refunds: Refunds, made: str) -> None:
    """Tell on stderr what the token is good for, so that a 401 or a 403 is no riddle."""
    claims = refunds.verifier.verify(made)
    user = refunds.users.find(refunds.verifier.identity(claims), claims)
    if user is None:
        words = "Nobody has this id: the token will be answered 401."
    elif refunds.users.is_admin(user):
        words = "An admin's token."
    else:
        words = "The token of a user who is no admin: he may see his own payments."
    click.echo(words, err=True)
