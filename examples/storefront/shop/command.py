"""``python examples/storefront``: run the shop with everything that it needs, until Ctrl-C."""

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
from flask_refunds.testing import StripeSandbox

from . import create_app, demo, embedded, settings, startup_message
from .server import listen, run_server, url_of

_EXIT_CANNOT_START = 2
_MAX_PORT = 65535
_SLEEP_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shop.

    :return: the exit status: 0 if it was stopped, 2 if it couldn't start.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("shop.emails").setLevel(logging.INFO)  # shows the emails if no server is set
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with ExitStack() as stack:
            _run(options, stack)
    except KeyboardInterrupt:
        return 0
    except _STARTUP_ERRORS as error:
        print(_explain(error), file=sys.stderr)
        return _EXIT_CANNOT_START


def _stop(number: int, frame: object) -> NoReturn:
    """Stop without a traceback. A second Ctrl-C must not interrupt the cleanup."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, stack: ExitStack) -> NoReturn:
    listener = stack.enter_context(listen(options.host, options.port))
    url = url_of(listener)
    port = listener.getsockname()[1]
    if options.port not in (0, port):
        print(f"Port {options.port} is in use. The storefront uses port {port} instead.\n", flush=True)
    app, services, sandbox = _build(url, stack)

    def start_events() -> None:
        if sandbox is not None:
            secret = app.config["STRIPE_WEBHOOK_SECRET"]
            sandbox.add_webhook(url + settings.WEBHOOK_PATH, secret, events=settings.EVENTS)

    with app.app_context():
        seeded = demo.seed(sandbox, start_events)
    # Stripe's events for today's payments are already waiting at the socket.
    stack.enter_context(run_server(app, listener))
    print(startup_message.build(app, url, services=services, seeded=seeded), flush=True)
    while True:
        # Sleep briefly, because a signal just before the sleep doesn't interrupt it.
        time.sleep(_SLEEP_SECONDS)


def _build(url: str, stack: ExitStack) -> tuple[Flask, list[str], StripeSandbox | None]:
    """Return the app, a line about each service for the startup message, and the sandbox if there is one."""
    config, sandbox = settings.from_environment(os.environ, url), None
    database, stripe_api = "MongoDB (MONGO_URI)", "your Stripe test account"
    if "MONGO_URI" not in config:
        database = "mongomock, in this process (set MONGO_URI to use MongoDB)"
        config["REFUNDS_MONGO"] = embedded.make_database()
    if "STRIPE_SECRET_KEY" not in config:
        stripe_api = "sandbox, in this process (set STRIPE_SECRET_KEY to use a Stripe test account)"
        sandbox, stripe_config = stack.enter_context(embedded.stripe_sandbox())
        config |= stripe_config
    app = create_app(config)
    if "MONGO_URI" in config:
        stack.callback(app.config["REFUNDS_MONGO"].client.close)
    else:
        app.wsgi_app = embedded.OneRequestAtATime(app.wsgi_app)  # type: ignore[method-assign]
    return app, [f"Database  {database}", f"Stripe    {stripe_api}"], sandbox


_STARTUP_ERRORS = (
    settings.SettingsError,
    ConfigurationError,
    PyMongoError,
    stripe.StripeError,
    ModuleNotFoundError,
    OSError,
)


def _explain(error: BaseException) -> str:
    """Return an error message without secrets."""
    if isinstance(error, stripe.AuthenticationError):
        # Stripe's message contains the end of the key.
        return "Stripe rejected STRIPE_SECRET_KEY."
    if isinstance(error, stripe.StripeError):
        return f"Stripe couldn't process the demo's payments: {error.user_message or 'it gave no reason.'}"
    if isinstance(error, PyMongoError):
        return f"MongoDB isn't available (MONGO_URI): {str(error).split(' (configured')[0]}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} isn't installed. Run: pip install -e '.[demo]', or set MONGO_URI."
    if isinstance(error, OSError):
        return f"The shop can't listen on this host and port: {error.strerror or error}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python examples/storefront",
        description="Run an example shop. Without configuration, everything runs in this process.",
        epilog="Environment variables: MONGO_URI (a database, such as mongodb://localhost/shop), "
        "STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET (a Stripe test account), JWT_SECRET_KEY (signs the "
        "tokens), MAIL_SERVER, MAIL_PORT, MAIL_USERNAME, MAIL_PASSWORD, MAIL_USE_TLS and "
        "MAIL_DEFAULT_SENDER (send emails; without them, emails are printed here).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", default=5000, type=_port, help="port to listen on (default: 5000; 0: any free port)"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_MAX_PORT}")
    return int(text)
