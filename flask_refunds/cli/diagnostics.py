"""Check what refunds depend on: Stripe's key, its events, the clock, MongoDB. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import pymongo.database

from ..clock import CALL_SECONDS, Deadline
from ..config import Settings
from ..core.webhook_events import REQUIRED_EVENTS
from ..errors import DatabaseUnavailable, KeyRejected, PermissionMissing, StripeCallError
from ..storage.connection import Database, database_timeout
from ..storage.indexes import State, inspect_indexes, required_indexes

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway
    from ..stripe_client.parsing import WebhookEndpoint

OLDEST_MONGODB = 6
CLOCK_SECONDS = 60
"""How far the clock may differ from Stripe's. From 300 s on, every webhook is rejected as too old."""
_MAJORITY_LAG = timedelta(seconds=10)


class Status(str, Enum):
    """The status of a check."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, and what to do about it."""

    name: str
    status: Status
    message: str


def run_checks(
    settings: Settings, database: Database, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    """Run one check after the other. A problem is a result, not an error.

    :param clock: returns this machine's aware UTC time.
    """
    yield _mode(settings)
    yield from _stripe(settings, gateway, clock)
    yield from _mongodb(settings, database)


def _mode(settings: Settings) -> CheckResult:
    kind = "restricted" if settings.stripe_secret_key.startswith("rk_") else "secret"
    if settings.livemode:
        return _note("mode", f"Live: this {kind} key moves real money.")
    return _ok("mode", f"Test: this {kind} key moves no money.")


def _stripe(
    settings: Settings, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    try:
        permissions = gateway().check_key(Deadline.after(CALL_SECONDS))
    except KeyRejected:
        yield _fail(
            "key",
            "Stripe rejected the key: it is wrong, expired or revoked. "
            "Set STRIPE_SECRET_KEY to a key from https://dashboard.stripe.com/apikeys.",
        )
        return
    except StripeCallError as error:
        yield _fail(
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
        return _fail(
            "key",
            f"The key can't {', '.join(missing)}. Give the restricted key write access to Charges and "
            "Refunds, and read access to PaymentIntents.",
        )
    return _ok("key", "The key can make refunds, and read refunds and payments.")


def _clock(ahead: timedelta) -> CheckResult:
    seconds = round(abs(ahead.total_seconds()))
    if seconds <= CLOCK_SECONDS:
        return _ok("clock", f"The clock is within {CLOCK_SECONDS} seconds of Stripe's.")
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return _fail(
        "clock",
        f"This machine's clock is {seconds} s {direction} Stripe's. Synchronize it with NTP: "
        "from 300 s on, webhooks are rejected.",
    )


def _webhook(settings: Settings, gateway: Callable[[], Gateway]) -> Iterator[CheckResult]:
    if not settings.stripe_webhook_secret:
        yield _note(
            "webhook",
            "STRIPE_WEBHOOK_SECRET isn't set. Unless your own webhook calls handle_event, only reconcile "
            "learns how refunds end.",
        )
        return
    yield _ok("webhook", "STRIPE_WEBHOOK_SECRET is set.")
    try:
        endpoints = gateway().list_webhook_endpoints(Deadline.after(CALL_SECONDS))
    except PermissionMissing:
        required = ", ".join(sorted(REQUIRED_EVENTS))
        yield _note(
            "events", f"The key can't read webhook endpoints. Check in Stripe that yours receives {required}."
        )
    except StripeCallError as error:
        yield _fail("events", f"Stripe didn't list the webhook endpoints ({error.code}). Try again.")
    else:
        yield _events([each for each in endpoints if each.enabled], "live" if settings.livemode else "test")


def _events(endpoints: Sequence[WebhookEndpoint], mode: str) -> CheckResult:
    if not endpoints:
        # A secret belongs to one endpoint of one mode, and Stripe shows it only when it is created.
        return _fail(
            "events",
            f"The account has no {mode}-mode webhook endpoint, so STRIPE_WEBHOOK_SECRET belongs to the other "
            f"mode or to another account. Create an endpoint in {mode} mode, and set its secret.",
        )
    best = min(endpoints, key=lambda each: len(_missing_events(each)))
    missing = _missing_events(best)
    if missing:
        return _fail("events", f"{best.url} doesn't receive {', '.join(missing)}. Add them in Stripe.")
    return _ok("events", f"{best.url} receives every required event in {mode} mode.")


def _missing_events(endpoint: WebhookEndpoint) -> list[str]:
    return [] if "*" in endpoint.events else sorted(REQUIRED_EVENTS - endpoint.events)


def _mongodb(settings: Settings, database: Any) -> Iterator[CheckResult]:
    if not isinstance(database, pymongo.database.Database):
        yield _note("MongoDB", f"{type(database).__module__} replaces it, for demos and tests only.")
        return
    try:
        with database_timeout():
            version = database.command("buildInfo")["version"]
            hello = database.command("hello")
        yield _version(version)
        yield _topology(hello, livemode=settings.livemode)
        if "lastWrite" in hello:
            yield _majority(hello["lastWrite"])
        yield _indexes(settings, database)
    except DatabaseUnavailable as error:
        reason = type(error.__cause__).__name__
        yield _fail(
            "MongoDB", f"MongoDB doesn't answer ({reason}). Check MONGO_URI, and that there is a primary."
        )


def _version(version: str) -> CheckResult:
    if int(version.partition(".")[0]) < OLDEST_MONGODB:
        return _fail("MongoDB", f"The version is {version}. Upgrade to {OLDEST_MONGODB} or later.")
    return _ok("MongoDB", f"The version is {version}.")


def _topology(hello: Mapping[str, Any], *, livemode: bool) -> CheckResult:
    if hello.get("msg") == "isdbgrid":
        return _ok("replica set", "This is a sharded cluster.")
    if "setName" in hello:
        members = len(hello.get("hosts", ()))
        return _ok("replica set", f"{hello['setName']}, members with data: {members}.")
    message = (
        "This is a standalone server: acknowledged writes are on its disk only, and no other server takes "
        "over if it stops. Use a replica set of three."
    )
    return _fail("replica set", message) if livemode else _note("replica set", message)


def _majority(last: Mapping[str, Any]) -> CheckResult:
    """Check whether a majority acknowledges writes. A primary answers even if the others lag or are down."""
    written, acknowledged = last.get("lastWriteDate"), last.get("majorityWriteDate")
    if written is None or acknowledged is None or written - acknowledged <= _MAJORITY_LAG:
        return _ok("majority", "A majority acknowledges writes.")
    seconds = round((written - acknowledged).total_seconds())
    return _fail(
        "majority",
        f"The majority is {seconds} s behind the primary, so no refund can start. Restore the other members.",
    )


def _indexes(settings: Settings, database: Database) -> CheckResult:
    missing = [
        each
        for each in inspect_indexes(database, required_indexes(settings))
        if each.state is not State.PRESENT
    ]
    if not missing:
        return _ok("indexes", "Every required index exists.")
    names = "; ".join(f"{each.index} ({each.index.purpose})" for each in missing)
    return _fail("indexes", f"Missing: {names}. Run flask refunds init-db.")


def _ok(name: str, message: str) -> CheckResult:
    return CheckResult(name, Status.OK, message)


def _note(name: str, message: str) -> CheckResult:
    return CheckResult(name, Status.NOTE, message)


def _fail(name: str, message: str) -> CheckResult:
    return CheckResult(name, Status.FAIL, message)
