"""Sweeps that are killed or fail at any step, in one thread: the next ones find everything at Stripe.

A page has two refunds, and they are made hours apart, so that what a sweep reads again hides no mistake.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar
from unittest import mock

from flask_refunds.core.sweep import SweepReport
from flask_refunds.errors import DatabaseUnavailable, StripeCallError
from flask_refunds.extension import get_refunds
from flask_refunds.storage.sweep_state import LEASE
from flask_refunds.stripe_client import gateway
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.parsing import RefundPage
from tests.faults.history_runs import without_logging
from tests.faults.in_process import (
    DATABASE_LOST,
    KILLED_AFTER,
    KILLED_BEFORE,
    CallFailure,
    call,
    in_process,
)
from tests.faults.invariants import DISAGREES, LOST, Tally, Violation
from tests.faults.world import World

HOURS = 2 * 3600
MAX_REQUESTS_WITHOUT_NEWS = 3


class SweptShop:
    """A shop without a webhook, whose payments are refunded in the Dashboard only."""

    refunds: ClassVar[int] = 0

    def __init__(self) -> None:
        self.world = World(limit=False, webhooks=False)

    def refund_elsewhere(self, count: int, *, seconds: float = HOURS) -> None:
        """Sell and refund so many times, with this time after each."""
        SweptShop.refunds += count
        for _ in range(count):
            self.world.sandbox.dashboard_refund(self.world.pay(1999, 1))
            self.world.advance(seconds)

    def sweep(self, failure: CallFailure | None = None) -> SweepReport | None:
        """Sweep, and return what was found if the sweep wasn't killed or stopped by an error."""
        with call(failure):
            try:
                return get_refunds(self.world.web.app).sweep.run()
            except (StripeCallError, DatabaseUnavailable):
                return None
        return None

    def find_lost(self, when: str) -> list[Violation]:
        """Return a violation for each refund at Stripe that the ledger doesn't show like it."""
        records = self.world.db.flask_refunds.find()
        shown = {record["stripeRefundId"]: record["status"] for record in records}
        return [
            Violation(LOST, each["payment_intent"], f"a sweep {when} didn't find {each['id']}")
            for each in self.world.sandbox.refunds()
            if shown.get(each["id"]) != each["status"]
        ]


def fail_once(fail: Callable[[SweptShop], None], *, full: bool, when: str) -> list[Violation]:
    """Let one sweep fail, and return what the next one doesn't find."""
    swept = SweptShop()
    if not full:
        swept.refund_elsewhere(1)
        assert swept.sweep() is not None
    swept.refund_elsewhere(4)
    fail(swept)
    swept.world.settle_down()
    swept.refund_elsewhere(1, seconds=LEASE.total_seconds())
    report = swept.sweep()
    assert report is not None, when
    assert report.is_complete, when
    return swept.find_lost(when)


def kill(*, full: bool, kinds: tuple[str, ...]) -> Iterator[list[Violation]]:
    """Let a sweep fail at each of its steps, and yield the violations of each."""
    for step in itertools.count():
        finished: list[SweepReport | None] = []
        for kind in kinds:
            fail = partial(_sweep_into, finished, CallFailure(kind, step))
            yield fail_once(fail, full=full, when=f"after one that was {kind} step {step} (full: {full})")
        if finished[0] is not None:
            return


def _sweep_into(finished: list[SweepReport | None], failure: CallFailure, swept: SweptShop) -> None:
    finished.append(swept.sweep(failure))


def break_requests(*, full: bool) -> Iterator[list[Violation]]:
    """Let Stripe not answer one request of a sweep, and yield the violations of each."""
    for number in range(12):
        fail = partial(_sweep_without_answer, number)
        yield fail_once(fail, full=full, when=f"after request {number} failed (full: {full})")


def _sweep_without_answer(number: int, swept: SweptShop) -> None:
    swept.world.sandbox.inject("service_unavailable", method="GET", path="/v1/refunds", after=number)
    swept.sweep()


def list_late() -> Iterator[list[Violation]]:
    """Let Stripe's list show a refund only after a newer one."""
    swept = SweptShop()
    swept.refund_elsewhere(1)
    swept.sweep()
    swept.refund_elsewhere(2, seconds=5)
    late = swept.world.sandbox.refunds()[-2]["id"]
    read = Gateway.list_recent_refunds

    def without_late(*arguments: Any) -> RefundPage:
        page = read(*arguments)
        page.refunds[:] = [each for each in page.refunds if each.id != late]
        return page

    with mock.patch.object(Gateway, "list_recent_refunds", without_late):
        swept.sweep()
    swept.sweep()
    yield swept.find_lost("after one whose list lacked a refund")


def sweep_twice_at_once() -> Iterator[list[Violation]]:
    """Start a sweep during another one."""
    swept = SweptShop()
    second: list[SweepReport | None] = []
    swept.refund_elsewhere(1)
    read = Gateway.list_recent_refunds

    def read_while_another_starts(*arguments: Any) -> RefundPage:
        with mock.patch.object(Gateway, "list_recent_refunds", read):
            second.append(swept.sweep())
        return read(*arguments)

    with mock.patch.object(Gateway, "list_recent_refunds", read_while_another_starts):
        swept.sweep()
    yield [Violation(DISAGREES, "", "two sweeps ran at once")] if second != [None] else []


def sweep_without_news() -> Iterator[list[Violation]]:
    """Sweep again after many refunds of one hour."""
    swept = SweptShop()
    swept.refund_elsewhere(12, seconds=60)
    swept.sweep()
    before = len(swept.world.sandbox.requests)
    swept.sweep()
    requests = len(swept.world.sandbox.requests) - before
    too_many = requests > MAX_REQUESTS_WITHOUT_NEWS
    yield [Violation(DISAGREES, "", f"{requests} requests without news")] if too_many else []


def experiments(kinds: tuple[str, ...]) -> Iterator[list[Violation]]:
    """Yield the violations of each history."""
    for full in (True, False):
        yield from kill(full=full, kinds=kinds)
        yield from break_requests(full=full)
    yield from list_late()
    yield from sweep_twice_at_once()
    yield from sweep_without_news()


@contextmanager
def small_pages() -> Iterator[None]:
    """Run in this process, with two refunds a page."""
    with ExitStack() as contexts:
        contexts.enter_context(without_logging())
        contexts.enter_context(in_process())
        contexts.enter_context(mock.patch.object(gateway, "_PAGE", 2))
        yield


def run(full: bool) -> Tally:
    """Run all histories, with one kind of failure or with three."""
    tally = Tally("sweeps")
    began, refunds_before = time.monotonic(), SweptShop.refunds
    kinds = (KILLED_BEFORE, KILLED_AFTER, DATABASE_LOST) if full else (KILLED_BEFORE,)
    with small_pages():
        for violations in experiments(kinds):
            tally.histories += 1
            tally.violations += violations
    tally.refunds = SweptShop.refunds - refunds_before
    print(f"{tally.histories} histories in {time.monotonic() - began:.0f} s", flush=True)
    return tally
