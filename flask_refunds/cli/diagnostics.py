"""Check what refunds depend on: Stripe's key, its events, the clock, MongoDB. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..advice import advise_rejected
from ..clock import CALL_SECONDS, Deadline
from ..config import Settings
from ..core.webhook_events import REQUIRED_EVENTS
from ..errors import KeyRejected, PermissionMissing, RateLimited, StripeCallError
from ..storage.connection import Database
from .check_result import CheckResult, fail, note, ok
from .mongodb_checks import check_mongodb
from .purchase_checks import check_purchases

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway
    from ..stripe_client.parsing import WebhookEndpoint

CLOCK_SECONDS = 60
"""How far the clock may differ from Stripe's. From 300 s on, every webhook is rejected as too old."""


def run_checks(
    settings: Settings, database: Database, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    """Run one check after the other. A problem is a result, not an error.

    :param clock: returns this machine's aware UTC time.
    """
    yield _mode(settings)
    yield from _stripe(settings, gateway, clock)
    yield from check_mongodb(settings, database, clock)
    yield from check_purchases(settings, database, gateway)


def _mode(settings: Settings) -> CheckResult:
    kind = "restricted" if settings.stripe_secret_key.startswith("rk_") else "secret"
    if settings.livemode:
        return note("mode", f"Live: this {kind} key moves real money.")
    return ok("mode", f"Test: this {kind} key moves no money.")


def _stripe(
    settings: Settings, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    try:
        permissions = gateway().check_key(Deadline.after(CALL_SECONDS))
    except KeyRejected as error:
        happened = advise_rejected(error.code, error.message).happened
        yield fail(
            "key", f"{happened} Set STRIPE_SECRET_KEY to a key from https://dashboard.stripe.com/apikeys."
        )
        return
    except RateLimited as error:
        yield fail("key", f"{advise_rejected(error.code).happened} Try again in a minute.")
        return
    except StripeCallError as error:
        yield fail(
            "key",
            f"{settings.stripe_api_base} didn't return a valid Stripe response ({error.code}). "
            "Check the network and STRIPE_API_BASE, and try again.",
        )
        return
    yield _permissions(permissions.missing)
    if permissions.date is not None:
        yield _clock(clock() - permissions.date)
    yield from _webhook(settings, gateway)


def _permissions(missing: Sequence[str]) -> CheckResult:
    if missing:
        return fail(
            "key",
            f"The key can't {', '.join(missing)}. Give the restricted key write access to Charges and "
            "Refunds, and read access to PaymentIntents.",
        )
    return ok("key", "The key can make refunds, and read refunds and payments.")


def _clock(ahead: timedelta) -> CheckResult:
    seconds = round(abs(ahead.total_seconds()))
    if seconds <= CLOCK_SECONDS:
        return ok("clock", f"The clock is within {CLOCK_SECONDS} seconds of Stripe's.")
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return fail(
        "clock",
        f"This machine's clock is {seconds} s {direction} Stripe's. Synchronize it with NTP: "
        "from 300 s on, webhooks are rejected.",
    )


def _webhook(settings: Settings, gateway: Callable[[], Gateway]) -> Iterator[CheckResult]:
    if not settings.stripe_webhook_secret:
        yield note(
            "webhook",
            "STRIPE_WEBHOOK_SECRET isn't set. Unless your own webhook calls handle_event, only reconcile "
            "learns how refunds end.",
        )
        return
    yield ok("webhook", "STRIPE_WEBHOOK_SECRET is set.")
    try:
        endpoints = gateway().list_webhook_endpoints(Deadline.after(CALL_SECONDS))
    except PermissionMissing:
        required = ", ".join(sorted(REQUIRED_EVENTS))
        yield note(
            "events",
            f"The key can't read webhook endpoints. Check in Stripe that yours receives {required}.",
        )
    except StripeCallError as error:
        yield fail("events", f"Stripe didn't list the webhook endpoints ({error.code}). Try again.")
    else:
        yield _events([each for each in endpoints if each.enabled], "live" if settings.livemode else "test")


def _events(endpoints: Sequence[WebhookEndpoint], mode: str) -> CheckResult:
    if not endpoints:
        # A secret belongs to one endpoint of one mode, and Stripe shows it only when it is created.
        return fail(
            "events",
            f"The account has no {mode}-mode webhook endpoint, so STRIPE_WEBHOOK_SECRET belongs to the other "
            f"mode or to another account. Create an endpoint in {mode} mode, and set its secret.",
        )
    best = min(endpoints, key=lambda each: len(_missing_events(each)))
    missing = _missing_events(best)
    if missing:
        return fail("events", f"{best.url} doesn't receive {', '.join(missing)}. Add them in Stripe.")
    return ok("events", f"{best.url} receives every required event in {mode} mode.")


def _missing_events(endpoint: WebhookEndpoint) -> list[str]:
    return [] if "*" in endpoint.events else sorted(REQUIRED_EVENTS - endpoint.events)
