"""``python examples/storefront``: the shop with all that it needs, until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NoReturn

import stripe
from flask import Flask
from pymongo.errors import PyMongoError

from flask_refunds import ConfigurationError

from . import create_app, demo, embedded, settings, welcome
from .serving import listen, serving, url_of

_EXIT_UNUSABLE = 2
_MAX_PORT = 65535
_WAKE_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shop.

    :return: the exit status: 0 when it was stopped, 2 when it could not start.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("shop.mails").setLevel(logging.INFO)  # which is where they are read, without a server
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with ExitStack() as stack:
            _run(options, stack)
    except KeyboardInterrupt:
        return 0
    except _REASONS as error:
        print(_explain(error), file=sys.stderr)
        return _EXIT_UNUSABLE


def _stop(number: int, frame: object) -> NoReturn:
    """End quietly. An impatient second Ctrl-C must not break into the cleaning up."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, stack: ExitStack) -> NoReturn:
    listener = stack.enter_context(listen(options.host, options.port))
    url = url_of(listener)
    port = listener.getsockname()[1]
    if options.port not in (0, port):
        print(f"Port {options.port} is taken by another program, so this is on port {port}.\n", flush=True)
    app, services = _build(url, stack)
    with app.app_context():
        seeded = demo.seed()
    # Stripe's events for the seed have waited at the socket meanwhile.
    stack.enter_context(serving(app, listener))
    print(welcome.text(app, url, services=services, seeded=seeded), flush=True)
    while True:
        # Not for long: a signal that comes just before a sleep begins does not wake from it.
        time.sleep(_WAKE_SECONDS)


def _build(url: str, stack: ExitStack) -> tuple[Flask, list[str]]:
    """The app, and in words where its database and its Stripe are."""
    config = settings.from_environment(os.environ, url)
    database, account = "MongoDB at MONGO_URI", "your Stripe test account"
    if "MONGO_URI" not in config:
        database = "mongomock, in this process (set MONGO_URI for a real one)"
        config["REFUNDS_MONGO"] = embedded.make_database()
    if "STRIPE_SECRET_KEY" not in config:
        account = "a sandbox, in this process (set STRIPE_SECRET_KEY for a test account)"
        config |= stack.enter_context(embedded.stripe_sandbox(url + settings.WEBHOOK_PATH))
    app = create_app(config)
    if "MONGO_URI" in config:
        stack.callback(app.config["REFUNDS_MONGO"].client.close)
    else:
        app.wsgi_app = embedded.OneAtATime(app.wsgi_app)  # type: ignore[method-assign]
    return app, [f"Database  {database}", f"Stripe    {account}"]


_REASONS = (
    settings.SettingsError,
    ConfigurationError,
    PyMongoError,
    stripe.StripeError,
    ModuleNotFoundError,
    OSError,
)


def _explain(error: BaseException) -> str:
    """Why the shop cannot start, in words and without a secret."""
    if isinstance(error, stripe.AuthenticationError):
        # Stripe's own words quote the end of the key.
        return "Stripe does not accept STRIPE_SECRET_KEY."
    if isinstance(error, stripe.StripeError):
        return (
            f"The demo's payments could not be made at Stripe: {error.user_message or type(error).__name__}"
        )
    if isinstance(error, PyMongoError):
        return f"MongoDB cannot be used (MONGO_URI): {str(error).split(' (configured')[0]}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: pip install -e '.[demo]', or set MONGO_URI."
    if isinstance(error, OSError):
        return f"The shop cannot listen there: {error.strerror or error}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python examples/storefront",
        description="A shop whose admin refunds purchases. With nothing set it runs wholly in this process.",
        epilog="Environment: MONGO_URI (a real database, as mongodb://localhost/shop), STRIPE_SECRET_KEY "
        "with STRIPE_WEBHOOK_SECRET (a Stripe test account), JWT_SECRET_KEY (signs the tokens), MAIL_SERVER "
        "with MAIL_PORT, MAIL_USERNAME, MAIL_PASSWORD, MAIL_USE_TLS, MAIL_DEFAULT_SENDER (sends the mails, "
        "which are printed here otherwise).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument(
        "--port", default=5000, type=_port, help="where to listen (5000); 0 for any free port"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_MAX_PORT}")
    return int(text)
