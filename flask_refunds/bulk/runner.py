"""Many refunds in one run: what it would do, and then it, in as many threads as Stripe's limit takes.

A run keeps no state of its own: what is done stands in the ledger. So it may die anywhere, be started again,
or run twice at once, and each payment is refunded once.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice, repeat

from bson import ObjectId

from ..clock import CALL_SECONDS
from ..core.preview import Previewer
from ..core.service import Ask, RefundService
from ..errors import (
    InvalidRequest,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RefundFailed,
    RefundInProgress,
    RefundsError,
    StripeRateLimited,
    StripeUnavailable,
)
from ..log import Decision, decided
from ..models import Payment, is_bulk_name
from ..storage.ledger import Ledger
from ..storage.purchase_ids import PurchaseIds
from ..storage.purchases import Purchases
from ..stripe_client.rate_limit import Pace
from .classify import BATCH, TO_RETRY, UNDONE, BulkResult, Case, Result, Triage
from .database_retry import outlast
from .plan import BulkPlan, ask_stripe, needs_asking
from .worker_pool import Context, Crew

UNKNOWN_IN_A_ROW = 25
"""After so many outcomes that nobody knows, and none in between that is known, Stripe cannot be reached."""

_PAUSES = (0.0, 0.5, 1.0, 2.0)
_LONGEST_PAUSE = 5.0
_STRIPE_GONE = (
    "Stripe has not answered for some time, so the run has stopped. What was asked stands in the ledger and "
    "cannot be made twice; run the same again later."
)
_TOGETHER = "Another purchase of the same payment asks for its refund."


@dataclass
class BulkSummary:
    """What a run has come to.

    :param purchases: how many it is about; those without a result were not reached.
    :param counts: how many came to each result.
    :param amounts: what went back, or is about to, in minor units by currency.
    """

    name: str
    purchases: int
    counts: Counter[Result] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)

    def add(self, result: BulkResult) -> None:
        """Count one more purchase."""
        self.counts[result.result] += 1
        if result.amount is not None and result.currency is not None:
            self.amounts[result.currency] += result.amount

    @property
    def left(self) -> int:
        """How many purchases were not reached."""
        return self.purchases - self.counts.total()

    @property
    def undone(self) -> int:
        """How many need a person, or the same run again."""
        return self.left + sum(self.counts[each] for each in UNDONE)


class Bulk:
    """Plans and makes bulk runs.

    :param pace: makes the pace of a rate, in requests a second; of ``None``, the default.
    :param context: entered around the work on each purchase, in its thread.
    :param lease: how long a call that died holds a refund.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        purchases: Purchases,
        service: RefundService,
        previewer: Previewer,
        pace: Callable[[float | None], Pace],
        context: Context,
        lease: timedelta,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._service = service
        self._previewer = previewer
        self._pace = pace
        self._context = context
        self._patience = lease.total_seconds() + CALL_SECONDS

    def plan(
        self,
        name: str,
        chosen: PurchaseIds,
        *,
        rate: float | None = None,
        amounts: bool = True,
        stopped: threading.Event | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> BulkPlan:
        """What a run would do.

        :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
        :param amounts: whether Stripe is asked about each payment.
        :param stopped: set it to end early, with a plan that is not whole.
        :param on_progress: called for each purchase.
        :raises InvalidRequest: 400; the name is none.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
        """
        stopped = stopped or threading.Event()
        triage = Triage(self._ledger, self._purchases, check_name(name), chosen)
        crew: Crew[Case, tuple[Case, Payment | None]] = Crew(
            lambda case: ask_stripe(self._previewer, case, stopped) if amounts else (case, None),
            asks_stripe=lambda case: amounts and needs_asking(case),
            pace=self._pace(rate),
            context=self._context,
            stopped=stopped,
        )
        plan = BulkPlan(name, len(chosen), amounts=Counter() if amounts else None)
        for case, payment in crew.results(_cases(triage, chosen, stopped)):
            plan.add(case, payment)
            on_progress()
        return plan

    def run(
        self,
        chosen: PurchaseIds,
        ask: Ask,
        *,
        rate: float | None = None,
        stopped: threading.Event | None = None,
    ) -> Iterator[BulkResult]:
        """Refund these purchases, and give each one's result as it comes, in any order.

        What another call holds, Stripe was too busy for, or nobody knows the end of, is tried again at the
        end. Where the reader turns away, the refunds under way are finished first.

        :param ask: who asks and why; its ``bulk`` is the run's name.
        :param rate: requests to Stripe a second, of all runs together; by default 80 live, 20 in test mode.
        :param stopped: set it to begin no further refund; those under way are finished.
        :raises InvalidRequest: 400; the name is none.
        :raises StripeUnavailable: 503; Stripe has not answered for long.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
        """
        triage = Triage(self._ledger, self._purchases, check_name(ask.bulk), chosen)
        run = _Run(
            self._service,
            triage,
            ask,
            pace=self._pace(rate),
            context=self._context,
            stopped=stopped or threading.Event(),
        )
        return run.results(chosen, self._patience)


class _Run:
    """One run, in this process.

    :param stopped: when it is set no further refund is begun.
    """

    def __init__(
        self,
        service: RefundService,
        triage: Triage,
        ask: Ask,
        *,
        pace: Pace,
        context: Context,
        stopped: threading.Event,
    ) -> None:
        self._service = service
        self._triage = triage
        self._ask = ask
        self._pace = pace
        self._context = context
        self._stopped = stopped
        self._unknown_in_a_row = 0

    def results(self, chosen: PurchaseIds, patience: float) -> Iterator[BulkResult]:
        """Each purchase's result.

        :param patience: how long, in seconds, the last ones are tried again while none of them gets further.
        """
        # Two who run the same begin at different places, so that they seldom want the same payment.
        begin = secrets.randbelow(len(chosen) or 1)
        left = yield from self._pass(chosen.from_place(begin), again=False)
        give_up = time.monotonic() + patience
        for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
            if not left or self._stopped.wait(pause) or time.monotonic() > give_up:
                break
            before = len(left)
            left = yield from self._pass(list(left), again=True)
            if len(left) < before:
                give_up = time.monotonic() + patience
        yield from left.values()

    def _pass(
        self, purchase_ids: Iterable[ObjectId], *, again: bool
    ) -> Generator[BulkResult, None, dict[ObjectId, BulkResult]]:
        """Work on these once.

        :return: what is to be tried again.
        """
        left: dict[ObjectId, BulkResult] = {}
        crew = Crew(
            self._refund,
            asks_stripe=lambda case: case.result is None,
            pace=self._pace,
            context=self._context,
            stopped=self._stopped,
        )
        cases = _cases(self._triage, purchase_ids, self._stopped)
        try:
            for result in crew.results(cases if again else map(_behind_its_leader, cases)):
                if result.result in TO_RETRY:
                    left[result.purchase_id] = result
                else:
                    yield result
        except RefundsError:
            yield from left.values()
            raise
        return left

    def _refund(self, case: Case) -> BulkResult:
        if case.result is not None:
            return case.result
        result = outlast(lambda: self._refund_once(case.purchase_id), self._stopped)
        self._unknown_in_a_row = self._unknown_in_a_row + 1 if result.result is Result.UNKNOWN else 0
        if self._unknown_in_a_row >= UNKNOWN_IN_A_ROW:
            raise StripeUnavailable(_STRIPE_GONE)
        return result

    def _refund_once(self, purchase_id: ObjectId) -> BulkResult:
        try:
            outcome = self._service.refund(purchase_id, self._ask)
        except (PurchaseNotFound, PurchaseNotRefundable) as refusal:
            return self._not_refundable(purchase_id, refusal)
        except RefundInProgress as busy:
            return BulkResult(purchase_id, Result.IN_PROGRESS, busy.refund, message=busy.message)
        except StripeRateLimited as limited:
            return BulkResult(purchase_id, Result.RATE_LIMITED, limited.refund, message=limited.message)
        except RefundFailed as failed:
            return BulkResult(purchase_id, Result.FAILED, failed.refund, message=_why(failed))
        except RefundsError:
            raise
        except Exception as error:
            decided(Decision.NOT_REFUNDED, error, purchase_id=str(purchase_id))
            words = f"An error of ours ({type(error).__name__}); the log has more."
            return BulkResult(purchase_id, Result.UNKNOWN, message=words)
        return self._triage.settle(purchase_id, outcome.refund)

    def _not_refundable(self, purchase_id: ObjectId, refusal: RefundsError) -> BulkResult:
        """What a purchase is that the service would not refund: the books know, or Stripe just told them."""
        if refusal.refund is not None and not refusal.refund.status.ended_unpaid:
            return self._triage.settle(purchase_id, refusal.refund)
        [case] = self._triage.look_at([purchase_id])
        words = refusal.message if refusal.refund is None else _why(refusal)
        changed = BulkResult(purchase_id, Result.NOT_COMPLETED, refusal.refund, message=words)
        return case.result or changed


def _cases(triage: Triage, purchase_ids: Iterable[ObjectId], stopped: threading.Event) -> Iterator[Case]:
    """What is known of the purchases, some hundred at a time, as they are needed."""
    ids = iter(purchase_ids)
    while batch := list(islice(ids, BATCH)):
        yield from outlast(lambda batch=batch: list(triage.look_at(batch)), stopped)  # type: ignore[misc]


def _behind_its_leader(case: Case) -> Case:
    """A case that waits until the purchase which asks for their common refund has its result."""
    if case.result is not None or case.leads:
        return case
    waits = BulkResult(case.purchase_id, Result.IN_PROGRESS, message=_TOGETHER)
    return Case(case.purchase_id, result=waits)


def _why(error: RefundsError) -> str:
    failure = error.refund.failure if error.refund else None
    return failure.message if failure else error.message


def check_name(name: str | None) -> str:
    """A bulk run's name.

    :raises InvalidRequest: 400; it is none.
    """
    if name is None or not is_bulk_name(name):
        raise InvalidRequest(
            "A bulk run's name is 1 to 64 of A-Z, a-z, 0-9, ., _ and -, and begins with a letter or digit. "
            "Nothing was refunded."
        )
    return name
