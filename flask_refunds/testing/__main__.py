"""``python -m flask_refunds.testing``: run a Stripe sandbox until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from .sandbox import StripeSandbox


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the sandbox and print its base URL on a line of its own.

    :return: the exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.webhook is None) != (options.webhook_secret is None):
        parser.error("use --webhook and --webhook-secret together")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with StripeSandbox(
        port=options.port,
        latency=options.latency_ms / 1000,
        rate_limit=options.rate_limit,
        enforce_amount_limit=not options.no_amount_limit,
    ) as sandbox:
        if options.webhook is not None:
            sandbox.add_webhook(options.webhook, options.webhook_secret)
        print(sandbox.url, flush=True)
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flask_refunds.testing",
        description="Run a local version of Stripe's refunds API on 127.0.0.1, for tests and demos.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free port)")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="delay before each response")
    parser.add_argument("--rate-limit", type=int, help="requests per second before Stripe's 429 error")
    parser.add_argument(
        "--no-amount-limit", action="store_true", help="allow refunds that exceed the amount paid"
    )
    parser.add_argument("--webhook", metavar="URL", help="send events to this URL")
    parser.add_argument("--webhook-secret", metavar="SECRET", help="sign the events with this secret")
    return parser


if __name__ == "__main__":
    sys.exit(main())
