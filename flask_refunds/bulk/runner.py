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
from typing import Any

from bson import ObjectId

from ..clock import CALL_SECONDS
from ..core.preview import Previewer
from ..core.service import RefundService
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
from ..log import LogEvent, log_event
from ..models import Payment, RefundRequest, is_bulk_name
from ..storage.ledger import Ledger
from ..storage.purchase_ids import PurchaseIds
from ..storage.purchases import Purchases
from ..stripe_client.rate_limit import RateLimiter
from .classify import BATCH, INCOMPLETE, TO_RETRY, BulkResult, Case, Classifier, Result
from .database_retry import retry_while_unavailable
from .plan import BulkPlan, ask_stripe, needs_asking
from .worker_pool import Context, WorkerPool

UNKNOWN_IN_A_ROW = 25
"""After so many outcomes that nobody knows, and none in between that is known, Stripe cannot be reached."""

_PAUSES = (0.0, 0.5, 1.0, 2.0)
_LONGEST_PAUSE = 5.0
_STRIPE_UNREACHABLE = (
    "Stripe hasn't answered for some time, so the run has stopped. Its refunds are stored and can't be made "
    "twice. Run it again later."
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
    def unprocessed(self) -> int:
        """How many purchases were not reached."""
        return self.purchases - self.counts.total()

    @property
    def incomplete(self) -> int:
        """How many need a person, or the same run again."""
        return self.unprocessed + sum(self.counts[each] for each in INCOMPLETE)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {
            "name": self.name,
            "purchases": self.purchases,
            "results": {result.value: self.counts[result] for result in Result if self.counts[result]},
            "amounts": dict(sorted(self.amounts.items())),
            "unprocessed": self.unprocessed,
        }


class Bulk:
    """Plans and makes bulk runs.

    :param rate_limiter: makes the limiter of a rate, in requests a second; of ``None``, the default.
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
        rate_limiter: Callable[[float | None], RateLimiter],
        context: Context,
        lease: timedelta,
    ) -> None:
        self._ledger = ledger
        self._purchases = purchases
        self._service = service
        self._previewer = previewer
        self._rate_limiter = rate_limiter
        self._context = context
        self._patience = lease.total_seconds() + CALL_SECONDS

    def plan(
        self,
        name: str,
        chosen: PurchaseIds,
        *,
        rate: float | None = None,
        amounts: bool = True,
        stop_event: threading.Event | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> BulkPlan:
        """What a run would do.

        :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
        :param amounts: whether Stripe is asked about each payment.
        :param stop_event: set it to end early, with a plan that is not whole.
        :param on_progress: called for each purchase.
        :raises InvalidRequest: 400; the name is none.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
        """
        stop_event = stop_event or threading.Event()
        classifier = Classifier(self._ledger, self._purchases, check_name(name), chosen)
        pool: WorkerPool[Case, tuple[Case, Payment | None]] = WorkerPool(
            lambda case: ask_stripe(self._previewer, case, stop_event) if amounts else (case, None),
            asks_stripe=lambda case: amounts and needs_asking(case),
            rate_limiter=self._rate_limiter(rate),
            context=self._context,
            stop_event=stop_event,
        )
        plan = BulkPlan(name, len(chosen), amounts=Counter() if amounts else None)
        for case, payment in pool.results(_cases(classifier, chosen, stop_event)):
            plan.add(case, payment)
            on_progress()
        return plan

    def run(
        self,
        chosen: PurchaseIds,
        request: RefundRequest,
        *,
        rate: float | None = None,
        stop_event: threading.Event | None = None,
    ) -> Iterator[BulkResult]:
        """Refund these purchases, and give each one's result as it comes, in any order.

        What another call holds, Stripe was too busy for, or nobody knows the end of, is tried again at the
        end. Where the reader turns away, the refunds under way are finished first.

        :param request: who asks and why; its ``bulk_run`` is the run's name.
        :param rate: requests to Stripe a second, of all runs together; by default 80 live, 20 in test mode.
        :param stop_event: set it to begin no further refund; those under way are finished.
        :raises InvalidRequest: 400; the name is none.
        :raises StripeUnavailable: 503; Stripe has not answered for long.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB has not answered for a minute.
        """
        classifier = Classifier(self._ledger, self._purchases, check_name(request.bulk_run), chosen)
        run = _Run(
            self._service,
            classifier,
            request,
            rate_limiter=self._rate_limiter(rate),
            context=self._context,
            stop_event=stop_event or threading.Event(),
        )
        return run.results(chosen, self._patience)


class _Run:
    """One run, in this process.

    :param stop_event: when it is set no further refund is begun.
    """

    def __init__(
        self,
        service: RefundService,
        classifier: Classifier,
        request: RefundRequest,
        *,
        rate_limiter: RateLimiter,
        context: Context,
        stop_event: threading.Event,
    ) -> None:
        self._service = service
        self._classifier = classifier
        self._request = request
        self._rate_limiter = rate_limiter
        self._context = context
        self._stop_event = stop_event
        self._unknown_in_a_row = 0

    def results(self, chosen: PurchaseIds, patience: float) -> Iterator[BulkResult]:
        """Each purchase's result.

        :param patience: how long, in seconds, the last ones are tried again while none of them gets further.
        """
        # Two who run the same begin at different places, so that they seldom want the same payment.
        begin = secrets.randbelow(len(chosen) or 1)
        left = yield from self._pass(chosen.starting_at(begin), again=False)
        give_up = time.monotonic() + patience
        for pause in chain(_PAUSES, repeat(_LONGEST_PAUSE)):
            if not left or self._stop_event.wait(pause) or time.monotonic() > give_up:
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
        pool = WorkerPool(
            self._refund,
            asks_stripe=lambda case: case.result is None,
            rate_limiter=self._rate_limiter,
            context=self._context,
            stop_event=self._stop_event,
        )
        cases = _cases(self._classifier, purchase_ids, self._stop_event)
        try:
            for result in pool.results(cases if again else map(_behind_its_leader, cases)):
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
        result = retry_while_unavailable(lambda: self._refund_once(case.purchase_id), self._stop_event)
        self._unknown_in_a_row = self._unknown_in_a_row + 1 if result.result is Result.UNKNOWN else 0
        if self._unknown_in_a_row >= UNKNOWN_IN_A_ROW:
            raise StripeUnavailable(_STRIPE_UNREACHABLE)
        return result

    def _refund_once(self, purchase_id: ObjectId) -> BulkResult:
        try:
            outcome = self._service.refund(purchase_id, self._request)
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
            log_event(LogEvent.BULK_ITEM_FAILED, error, purchase_id=str(purchase_id))
            words = f"An error of ours ({type(error).__name__}); the log has more."
            return BulkResult(purchase_id, Result.UNKNOWN, message=words)
        return self._classifier.settle(purchase_id, outcome.refund)

    def _not_refundable(self, purchase_id: ObjectId, refusal: RefundsError) -> BulkResult:
        """Return the result for a purchase that can't be refunded, as the ledger or Stripe show it."""
        if refusal.refund is not None and not refusal.refund.status.is_failed_or_canceled:
            return self._classifier.settle(purchase_id, refusal.refund)
        [case] = self._classifier.look_at([purchase_id])
        words = refusal.message if refusal.refund is None else _why(refusal)
        changed = BulkResult(purchase_id, Result.NOT_COMPLETED, refusal.refund, message=words)
        return case.result or changed


def _cases(
    classifier: Classifier, purchase_ids: Iterable[ObjectId], stop_event: threading.Event
) -> Iterator[Case]:
    """What is known of the purchases, some hundred at a time, as they are needed."""
    ids = iter(purchase_ids)
    while batch := list(islice(ids, BATCH)):
        yield from retry_while_unavailable(lambda batch=batch: list(classifier.look_at(batch)), stop_event)  # type: ignore[misc]


def _behind_its_leader(case: Case) -> Case:
    """A case that waits until the purchase which asks for their common refund has its result."""
    if case.result is not None or case.is_primary:
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
