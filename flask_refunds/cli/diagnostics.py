"""Whether everything around us is as it should be: Stripe's key, its events, the clocks, MongoDB.

It moves no money and writes into no collection.
"""

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
"""How far the clocks may be apart. From 300 s on, every webhook is refused as stale."""
_MAJORITY_LAG = timedelta(seconds=10)


class Status(str, Enum):
    """What becomes of a finding."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing need be done."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was examined, and what to do about it."""

    subject: str
    verdict: Status
    words: str


def run_checks(
    settings: Settings, database: Database, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    """Examine one thing after the other. Never raises for what it finds.

    :param clock: the aware UTC time of this machine.
    """
    yield _mode(settings)
    yield from _stripe(settings, gateway, clock)
    yield from _mongodb(settings, database)


def _mode(settings: Settings) -> CheckResult:
    kind = "restricted" if settings.stripe_secret_key.startswith("rk_") else "secret"
    if settings.livemode:
        return _note("mode", f"live: this {kind} key moves real money")
    return _ok("mode", f"test: this {kind} key moves no money")


def _stripe(
    settings: Settings, gateway: Callable[[], Gateway], clock: Callable[[], datetime]
) -> Iterator[CheckResult]:
    try:
        trial = gateway().check_key(Deadline.after(CALL_SECONDS))
    except KeyRejected:
        yield _fail(
            "key",
            "Stripe does not accept it: it is wrong, expired or revoked. "
            "Set STRIPE_SECRET_KEY to one of https://dashboard.stripe.com/apikeys",
        )
        return
    except StripeCallError as answer:
        yield _fail(
            "key", f"{settings.stripe_api_base} did not answer as Stripe does ({answer.code}); try again"
        )
        return
    yield _permissions(trial.missing)
    if trial.date is not None:
        yield _clocks(clock() - trial.date)
    yield from _webhook(settings, gateway)


def _permissions(missing: Sequence[str]) -> CheckResult:
    if missing:
        return _fail(
            "key",
            f"it may not {', '.join(missing)}. Give the restricted key write access to Charges and Refunds, "
            "and read access to PaymentIntents",
        )
    return _ok("key", "it may make refunds, and read them and payments")


def _clocks(ahead: timedelta) -> CheckResult:
    seconds = round(abs(ahead.total_seconds()))
    if seconds <= CLOCK_SECONDS:
        return _ok("clock", "as Stripe's, to a minute")
    way = "ahead of" if ahead > timedelta(0) else "behind"
    return _fail(
        "clock",
        f"this machine's is {seconds} s {way} Stripe's. Set it by NTP: from 300 s on, webhooks are refused",
    )


def _webhook(settings: Settings, gateway: Callable[[], Gateway]) -> Iterator[CheckResult]:
    if not settings.stripe_webhook_secret:
        yield _note(
            "webhook",
            "STRIPE_WEBHOOK_SECRET is not set. Without it, or handle_event in a webhook of yours, "
            "only reconcile learns how refunds end",
        )
        return
    yield _ok("webhook", "STRIPE_WEBHOOK_SECRET is set")
    try:
        endpoints = gateway().list_webhook_endpoints(Deadline.after(CALL_SECONDS))
    except PermissionMissing:
        wanted = ", ".join(sorted(REQUIRED_EVENTS))
        yield _note(
            "events", f"this key may not read webhook endpoints. See at Stripe that yours gets {wanted}"
        )
    except StripeCallError as answer:
        yield _fail("events", f"Stripe did not tell the webhook endpoints ({answer.code}); try again")
    else:
        yield _events([each for each in endpoints if each.enabled], "live" if settings.livemode else "test")


def _events(endpoints: Sequence[WebhookEndpoint], mode: str) -> CheckResult:
    if not endpoints:
        # A secret belongs to one endpoint of one mode, and Stripe shows it once.
        return _fail(
            "events",
            f"the account has no {mode}-mode webhook endpoint, so STRIPE_WEBHOOK_SECRET is another mode's or "
            f"another account's. Make one in {mode} mode, and set its secret",
        )
    best = min(endpoints, key=lambda each: len(_missing_events(each)))
    missing = _missing_events(best)
    if missing:
        return _fail("events", f"{best.url} does not get {', '.join(missing)}. Add them at Stripe")
    return _ok("events", f"{best.url} gets them all, in {mode} mode")


def _missing_events(endpoint: WebhookEndpoint) -> list[str]:
    return [] if "*" in endpoint.events else sorted(REQUIRED_EVENTS - endpoint.events)


def _mongodb(settings: Settings, database: Any) -> Iterator[CheckResult]:
    if not isinstance(database, pymongo.database.Database):
        yield _note("MongoDB", f"it is played by {type(database).__module__}: for demos and tests")
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
        yield _fail("MongoDB", f"it does not answer ({reason}). Check MONGO_URI, and that it has a primary")


def _version(version: str) -> CheckResult:
    if int(version.partition(".")[0]) < OLDEST_MONGODB:
        return _fail("MongoDB", f"it is {version}. Upgrade to {OLDEST_MONGODB} or later")
    return _ok("MongoDB", f"it is {version}")


def _topology(hello: Mapping[str, Any], *, livemode: bool) -> CheckResult:
    if hello.get("msg") == "isdbgrid":
        return _ok("replica set", "a sharded cluster")
    if "setName" in hello:
        members = len(hello.get("hosts", ()))
        return _ok(
            "replica set", f"{hello['setName']}, {members} member{'' if members == 1 else 's'} with data"
        )
    words = (
        "none, a standalone server: what it acknowledged is on its disk and nowhere else, and nothing takes "
        "over when it stops. Make it a replica set of three"
    )
    return _fail("replica set", words) if livemode else _note("replica set", words)


def _majority(last: Mapping[str, Any]) -> CheckResult:
    """Whether a majority acknowledges writes: a primary whose others lag or are down may still answer."""
    written, acknowledged = last.get("lastWriteDate"), last.get("majorityWriteDate")
    if written is None or acknowledged is None or written - acknowledged <= _MAJORITY_LAG:
        return _ok("majority", "it acknowledges writes")
    seconds = round((written - acknowledged).total_seconds())
    return _fail(
        "majority",
        f"it is {seconds} s behind the primary, so that no refund can begin. Bring the other members back",
    )


def _indexes(settings: Settings, database: Database) -> CheckResult:
    missing = [
        each
        for each in inspect_indexes(database, required_indexes(settings))
        if each.state is not State.PRESENT
    ]
    if not missing:
        return _ok("indexes", "they are there")
    names = "; ".join(f"{each.index} ({each.index.purpose})" for each in missing)
    return _fail("indexes", f"missing: {names}. Run flask refunds init-db")


def _ok(subject: str, words: str) -> CheckResult:
    return CheckResult(subject, Status.OK, words)


def _note(subject: str, words: str) -> CheckResult:
    return CheckResult(subject, Status.NOTE, words)


def _fail(subject: str, words: str) -> CheckResult:
    return CheckResult(subject, Status.FAIL, words)
