"""``python -m flask_refunds.testing``: run a Stripe sandbox until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from .cards import Cards
from .request_log import ReceivedRequest
from .sandbox import StripeSandbox

_CLOCK_INTERVAL_SECONDS = 0.2
_BANNER = """\
Stripe sandbox: no money moves. Press Ctrl-C to stop it.

  In your app    STRIPE_API_BASE={url}  STRIPE_SECRET_KEY=sk_test_anything
  Webhook        {webhook}
  Test cards     {succeeds} refunds at once
                 {pending} refund is pending, and succeeds after {settle_after:g} s
                 {fails} refund succeeds, and fails after {settle_after:g} s
  New payment    curl {url}/_sandbox/payments -d amount=1999
  In Dashboard   curl {url}/_sandbox/dashboard_refund -d payment_intent=pi_…
  Settle         curl {url}/_sandbox/settle -d refund=re_… -d status=failed
  Move time      curl {url}/_sandbox/advance -d seconds=86400
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the sandbox and print its base URL on a line of its own; the rest goes to stderr.

    :return: the exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.webhook is None) != (options.webhook_secret is None):
        parser.error("use --webhook and --webhook-secret together")
    if options.connect_webhook_secret is not None and options.webhook is None:
        parser.error("use --connect-webhook-secret with --webhook")
    if options.webhook is not None and not options.webhook.startswith(("http://", "https://")):
        parser.error(f"--webhook must begin with http:// or https://, not {options.webhook!r}")
    stop, changed = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def on_request(request: ReceivedRequest) -> None:
        changed.set()
        if not options.quiet:
            print(request, file=sys.stderr, flush=True)

    sandbox = StripeSandbox(
        port=options.port,
        latency=options.latency_ms / 1000,
        rate_limit=options.rate_limit,
        enforce_amount_limit=not options.no_amount_limit,
        refund_settles_after=options.settle_after,
        on_request=on_request,
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(sandbox)
        except OSError:
            parser.error(
                f"port {options.port} can't be used: stop the program that has it, or use another --port"
            )
        if options.state is not None:
            _open(sandbox, options.state, parser)
        if options.webhook is not None:
            sandbox.add_webhook(options.webhook, options.webhook_secret)
        if options.connect_webhook_secret is not None:
            sandbox.add_webhook(options.webhook, options.connect_webhook_secret, connect=True)
        if not options.quiet:
            print(_banner(sandbox.url, options), file=sys.stderr, flush=True)
        print(sandbox.url, flush=True)
        while not stop.wait(_CLOCK_INTERVAL_SECONDS):
            sandbox.advance(0)  # settles what is due, and sends the events
            if options.state is not None and changed.is_set():
                changed.clear()
                _save(sandbox, options.state)
        if options.state is not None:
            _save(sandbox, options.state)
    return 0


def _open(sandbox: StripeSandbox, file: Path, parser: argparse.ArgumentParser) -> None:
    try:
        if file.exists():
            sandbox.load(json.loads(file.read_text(encoding="utf-8"))["sandbox"])
        _save(sandbox, file)
    except (ValueError, KeyError, TypeError):
        parser.error(f"{file} isn't a file that --state has written")
    except OSError as error:
        parser.error(f"can't use {file}: {error.strerror}")


def _save(sandbox: StripeSandbox, file: Path) -> None:
    """Replace the file, so that it is complete whenever this process is killed."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps({"sandbox": sandbox.dump()}), encoding="utf-8")
    os.replace(new, file)


def _banner(url: str, options: argparse.Namespace) -> str:
    return _BANNER.format(
        url=url,
        webhook=options.webhook or "none; use --webhook and --webhook-secret",
        settle_after=options.settle_after,
        succeeds=Cards.SUCCEEDS,
        pending=Cards.REFUND_PENDING,
        fails=Cards.REFUND_FAILS,
    )


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
    parser.add_argument(
        "--settle-after",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="when refunds of the asynchronous test cards change their status (default: 3600)",
    )
    parser.add_argument("--webhook", metavar="URL", help="send events to this URL")
    parser.add_argument("--webhook-secret", metavar="SECRET", help="sign the events with this secret")
    parser.add_argument(
        "--connect-webhook-secret",
        metavar="SECRET",
        help="also send the events of connected accounts, signed with this secret",
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="keep payments, refunds and events in this file"
    )
    parser.add_argument("--quiet", action="store_true", help="print only the URL, and no requests")
    return parser


if __name__ == "__main__":
    sys.exit(main())
