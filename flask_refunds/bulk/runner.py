"""Plan and make bulk runs, in as many threads as the rate limit needs.

A run keeps no state of its own: the ledger holds what is done. So it can be killed, started again, or run
twice at the same time, and each payment is refunded once.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain, islice, repeat
from typing import Any

from ..clock import CALL_SECONDS
from ..core.preview import Previewer
from ..core.service import RefundService
from ..errors import (
    InvalidRequest,
    PaymentIntentMissing,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RecordUnreadable,
    RefundFailed,
    RefundInProgress,
    RefundsError,
    StripeRateLimited,
    StripeUnavailable,
)
from ..log import LogEvent, log_event
from ..models import Payment, RefundRequest, id_text
from ..schemas.inputs import parse_bulk_name
from ..storage.ledger import Ledger
from ..storage.purchase_ids import PurchaseIds
from ..storage.purchases import Purchases
from ..stripe_client.rate_limit import RateLimiter
from .classify import BATCH, INCOMPLETE, TO_RETRY, BulkItem, BulkResult, Classifier, Result, count_by_value
from .database_retry import retry_while_unavailable
from .plan import BulkPlan, check_payment, needs_check
from .worker_pool import Context, WorkerPool

MAX_CONSECUTIVE_UNKNOWN = 25
"""After this many unknown outcomes in a row, Stripe counts as unreachable."""

_PAUSES = (0.0, 0.5, 1.0, 2.0)
_MAX_PAUSE = 5.0
_STRIPE_UNREACHABLE = (
    "Stripe hasn't answered for some time, so the run has stopped. Its refunds are stored and can't be made "
    "twice. Run it again later."
)
_SAME_PAYMENT = "Another purchase of this run has the same payment and requests its refund."


@dataclass
class BulkSummary:
    """What a run has done.

    :param purchases: the number of purchases; those without a result weren't processed.
    :param counts: how many purchases have each result.
    :param amounts: what was refunded, or is pending, in minor units by currency.
    """

    name: str
    purchases: int
    counts: Counter[Result] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)

    def add(self, result: BulkResult) -> None:
        """Count a purchase."""
        self.counts[result.result] += 1
        if result.amount is not None and result.currency is not None:
            self.amounts[result.currency] += result.amount

    @property
    def unprocessed(self) -> int:
        """How many purchases weren't processed."""
        return self.purchases - self.counts.total()

    @property
    def incomplete(self) -> int:
        """How many purchases need a review, or another run."""
        return self.unprocessed + sum(self.counts[each] for each in INCOMPLETE)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {
            "name": self.name,
            "purchases": self.purchases,
            "results": count_by_value(self.counts),
            "amounts": dict(sorted(self.amounts.items())),
            "unprocessed": self.unprocessed,
        }


class Bulk:
    """Plans and makes bulk runs.

    :param rate_limiter: returns the rate limiter for a rate in requests a second; for ``None``, the default.
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
        self._retry_seconds = lease.total_seconds() + CALL_SECONDS

    def plan(
        self,
        name: str,
        purchase_ids: PurchaseIds,
        *,
        rate: float | None = None,
        amounts: bool = True,
        stop_event: threading.Event | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> BulkPlan:
        """Return what a run would do.

        :param rate: requests to Stripe a second; by default 80 with a live key and 20 with a test key.
        :param amounts: whether Stripe is asked about each payment.
        :param stop_event: set it to end early, with an incomplete plan.
        :param on_progress: called for each purchase.
        :raises InvalidRequest: 400; the name is invalid.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB was unavailable for a minute.
        """
        stop_event = stop_event or threading.Event()
        classifier = Classifier(self._ledger, self._purchases, check_name(name), purchase_ids)
        pool: WorkerPool[BulkItem, tuple[BulkItem, Payment | None]] = WorkerPool(
            lambda item: check_payment(self._previewer, item, stop_event) if amounts else (item, None),
            calls_stripe=lambda item: amounts and needs_check(item),
            rate_limiter=self._rate_limiter(rate),
            context=self._context,
            stop_event=stop_event,
        )
        plan = BulkPlan(name, len(purchase_ids), amounts=Counter() if amounts else None)
        for item, payment in pool.results(_items(classifier, purchase_ids, stop_event)):
            plan.add(item, payment)
            on_progress()
        return plan

    def run(
        self,
        purchase_ids: PurchaseIds,
        request: RefundRequest,
        *,
        rate: float | None = None,
        stop_event: threading.Event | None = None,
    ) -> Iterator[BulkResult]:
        """Refund these purchases, and yield the result of each, in any order.

        Purchases that another call holds, that Stripe rate limited, or whose outcome is unknown are tried
        again at the end. If the iterator is closed early, the refunds in progress are finished first.

        :param request: who requests the refunds and why; its ``bulk_run`` is the run's name.
        :param rate: requests to Stripe a second, of all runs together; by default 80 live, 20 in test mode.
        :param stop_event: set it to start no further refunds; those in progress are finished.
        :raises InvalidRequest: 400; the name is invalid.
        :raises StripeUnavailable: 503; Stripe didn't answer for some time.
        :raises StripeKeyRejected: 500.
        :raises DatabaseUnavailable: 500; MongoDB was unavailable for a minute.
        """
        classifier = Classifier(self._ledger, self._purchases, check_name(request.bulk_run), purchase_ids)
        run = _Run(
            self._service,
            classifier,
            request,
            rate_limiter=self._rate_limiter(rate),
            context=self._context,
            stop_event=stop_event or threading.Event(),
        )
        return run.results(purchase_ids, self._retry_seconds)


@dataclass
class _Run:
    """One run in this process.

    :param stop_event: when it is set, no further refund is started.
    """

    service: RefundService
    classifier: Classifier
    request: RefundRequest
    rate_limiter: RateLimiter
    context: Context
    stop_event: threading.Event
    consecutive_unknown: int = 0

    def results(self, purchase_ids: PurchaseIds, retry_seconds: float) -> Iterator[BulkResult]:
        """Yield the result of each purchase.

        :param retry_seconds: how long the last purchases are retried without progress.
        """
        # Two processes that run the same start at different positions, so they rarely meet at one payment.
        start = secrets.randbelow(len(purchase_ids) or 1)
        remaining = yield from self._process(purchase_ids.starting_at(start), retrying=False)
        deadline = time.monotonic() + retry_seconds
        for pause in chain(_PAUSES, repeat(_MAX_PAUSE)):
            if not remaining or self.stop_event.wait(pause) or time.monotonic() > deadline:
                break
            before = len(remaining)
            remaining = yield from self._process(list(remaining), retrying=True)
            if len(remaining) < before:
                deadline = time.monotonic() + retry_seconds
        yield from remaining.values()

    def _process(
        self, purchase_ids: Iterable[Any], *, retrying: bool
    ) -> Generator[BulkResult, None, dict[Any, BulkResult]]:
        """Process these purchases once.

        :return: those to try again.
        """
        remaining: dict[Any, BulkResult] = {}
        pool = WorkerPool(
            self._refund,
            calls_stripe=lambda item: item.result is None,
            rate_limiter=self.rate_limiter,
            context=self.context,
            stop_event=self.stop_event,
        )
        items = _items(self.classifier, purchase_ids, self.stop_event)
        try:
            for result in pool.results(items if retrying else map(_defer_to_primary, items)):
                if result.result in TO_RETRY:
                    remaining[result.purchase_id] = result
                else:
                    yield result
        except RefundsError:
            yield from remaining.values()
            raise
        return remaining

    def _refund(self, item: BulkItem) -> BulkResult:
        if item.result is not None:
            return item.result
        result = retry_while_unavailable(partial(self._refund_once, item.purchase_id), self.stop_event)
        self.consecutive_unknown = self.consecutive_unknown + 1 if result.result is Result.UNKNOWN else 0
        if self.consecutive_unknown >= MAX_CONSECUTIVE_UNKNOWN:
            raise StripeUnavailable(_STRIPE_UNREACHABLE)
        return result

    def _refund_once(self, purchase_id: Any) -> BulkResult:
        try:
            refund = self.service.refund(purchase_id, self.request).refund
        except (PurchaseNotFound, PurchaseNotRefundable) as error:
            return self._not_refundable(purchase_id, error)
        except RefundInProgress as error:
            return BulkResult(purchase_id, Result.IN_PROGRESS, error.refund, message=error.message)
        except StripeRateLimited as error:
            return BulkResult(purchase_id, Result.RATE_LIMITED, error.refund, message=error.message)
        except StripeUnavailable as error:  # it didn't tell which payment the purchase has
            return BulkResult(purchase_id, Result.UNKNOWN, message=error.message)
        except PaymentIntentMissing as error:
            return BulkResult(purchase_id, Result.NO_PAYMENT, message=error.hint)
        except RefundFailed as error:
            return BulkResult(purchase_id, Result.FAILED, error.refund, message=_failure_message(error))
        except RecordUnreadable as error:
            return BulkResult(purchase_id, Result.NEEDS_REVIEW, message=error.message)
        except RefundsError:
            raise
        except Exception as error:
            log_event(LogEvent.BULK_ITEM_FAILED, error, purchase_id=id_text(purchase_id))
            message = "Internal error. The log has it as bulk_item_failed."
            return BulkResult(purchase_id, Result.UNKNOWN, message=message)
        return self.classifier.result_for(purchase_id, refund)

    def _not_refundable(self, purchase_id: Any, error: RefundsError) -> BulkResult:
        """Return the result of a purchase that can't be refunded, as the ledger or Stripe shows it."""
        if error.refund is not None and not error.refund.status.is_failed_or_canceled:
            return self.classifier.result_for(purchase_id, error.refund)
        [item] = self.classifier.classify([purchase_id])
        message = error.message if error.refund is None else _failure_message(error)
        return item.result or BulkResult(purchase_id, Result.NOT_COMPLETED, error.refund, message=message)


def _items(
    classifier: Classifier, purchase_ids: Iterable[Any], stop_event: threading.Event
) -> Iterator[BulkItem]:
    """Yield an item for each purchase. The database is read as they are needed, some hundred at a time."""

    def classify(batch: list[Any]) -> list[BulkItem]:
        return list(classifier.classify(batch))

    ids = iter(purchase_ids)
    while batch := list(islice(ids, BATCH)):
        yield from retry_while_unavailable(partial(classify, batch), stop_event)


def _defer_to_primary(item: BulkItem) -> BulkItem:
    """Return an item that waits until the purchase that requests their common refund has its result."""
    if item.result is not None or item.is_primary:
        return item
    deferred = BulkResult(item.purchase_id, Result.IN_PROGRESS, message=_SAME_PAYMENT)
    return BulkItem(item.purchase_id, result=deferred)


def _failure_message(error: RefundsError) -> str:
    failure = error.refund.failure if error.refund else None
    happened = failure.message if failure else error.message
    return f"{happened.rstrip('.')}. {error.hint}" if error.hint else happened


def check_name(name: str | None) -> str:
    """Return a bulk run's name, if it is valid.

    :raises InvalidRequest: 400.
    """
    try:
        return parse_bulk_name(name or "")
    except ValueError as error:
        raise InvalidRequest(f"A bulk run's name must be {error}. Nothing was refunded.") from None
