"""Shared tasks for the host's own Celery app (the extra ``celery``), run inside the Flask app's context.

Import this module where the worker finds its tasks. A task that a dying worker leaves is taken up by another,
and refunds nothing twice; all workers keep one rate between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery import Task, shared_task

from .api import bulk_refund, read_ids
from .bulk import BulkSummary, check_name
from .errors import (
    DatabaseUnavailable,
    InvalidRequest,
    RefundInProgress,
    StripeRateLimited,
    StripeUnavailable,
)
from .extension import current_refunds
from .models import Reason, RefundRequest, RefundStatus
from .schemas.inputs import parse_end, parse_moment, parse_note, parse_purchase_id, parse_reason
from .schemas.rendering import render_refund
from .storage.purchase_ids import PurchaseIds
from .storage.search import PurchaseFilter
from .stripe_client.rate_limit import rate_limited

PART = 100
"""How many purchases of a bulk run one task takes."""

_AGAIN = (DatabaseUnavailable, RefundInProgress, StripeRateLimited, StripeUnavailable)
_AGAIN_SECONDS = 10
_AGAIN_TIMES = 30

_survives: Any = {"acks_late": True, "reject_on_worker_lost": True, "max_retries": _AGAIN_TIMES}
"""What lets a task outlive its worker: it may run twice, and is safe to."""


@shared_task(bind=True, name="flask_refunds.refund_purchase", **_survives)
def refund_purchase(
    task: Task,
    purchase_id: str,
    *,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Refund a completed purchase in full, as ``POST /admin/refund/<purchaseId>`` does.

    Where another call is at work on it, Stripe is too busy, or nobody knows yet how it ended, the task tries
    again every ten seconds, thirty times.

    :param purchase_id: 24 hex digits.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :return: the refund, as over HTTP.
    :raises RefundsError: as the service does; the task has failed.
    """
    refunds = current_refunds()
    request = RefundRequest(requested_by, "app", parse_reason(reason), parse_note(note))
    rate_limiter = refunds.rate_limiter(rate)
    rate_limiter.wait()
    try:
        with rate_limited(rate_limiter, slots_taken=1):
            refund = refunds.service.refund(parse_purchase_id(purchase_id), request).refund
    except _AGAIN as error:
        raise _again(task, error) from error
    if refund.status is RefundStatus.PROCESSING and task.request.retries < _AGAIN_TIMES:
        raise _again(task, None)
    return render_refund(refund)


@shared_task(name="flask_refunds.reconcile", **_survives)
def reconcile(*, older_than: float = 60.0, rate: float | None = None) -> dict[str, Any]:
    """One pass of ``flask refunds reconcile``; let Celery's beat call it every minute or so.

    :param older_than: leaves alone what changed in the last so many seconds.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :return: what it did, in numbers, and the ids of the refunds that need a person.
    """
    refunds = current_refunds()
    with rate_limited(refunds.rate_limiter(rate)):
        report = refunds.reconciler.run(refunds.reconciler.find(timedelta(seconds=older_than)))
    return {"counts": dict(report.counts), "needsReview": [refund.id for refund in report.reviews]}


@shared_task(name="flask_refunds.bulk", **_survives)
def bulk(
    name: str,
    purchase_ids: Sequence[str] | None = None,
    *,
    content: str | None = None,
    paid_between: tuple[str, str] | None = None,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Refund many purchases, spread over the workers: those with these ids, or all that ``content`` and
    ``paid_between`` find, as ``flask refunds bulk`` does without asking.

    :param name: the run's name: 1 to 64 of A-Z, a-z, 0-9, ``._-``, a letter or digit first.
    :param purchase_ids: 24 hex digits each.
    :param content: a content's id.
    :param paid_between: two days (the second is part of it), or times.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :return: the run's name, how many purchases it is about, and the ids of the tasks that refund them.
    :raises InvalidRequest: nothing was refunded.
    """
    chosen = _choose(purchase_ids, content, paid_between)
    asked = {
        "requested_by": requested_by,
        "reason": parse_reason(reason),
        "note": parse_note(note),
        "rate": rate,
    }
    ids = iter(chosen)
    parts = iter(lambda: [str(each) for each in islice(ids, PART)], [])
    tasks = [bulk_part.apply_async((check_name(name), part), asked).id for part in parts]
    return {"name": name, "purchases": len(chosen), "tasks": tasks}


@shared_task(bind=True, name="flask_refunds.bulk_part", **_survives)
def bulk_part(task: Task, name: str, purchase_ids: Sequence[str], **asked: Any) -> dict[str, Any]:
    """Refund some purchases of a bulk run; :func:`bulk` sends these."""
    try:
        summary = bulk_refund(name, purchase_ids, **asked)
    except _AGAIN as error:
        raise _again(task, error) from error
    return _render(summary)


def _again(task: Task, error: Exception | None) -> Exception:
    """What to raise so that the task is tried again; its own error, once that was enough."""
    again: Exception = task.retry(exc=error, countdown=_AGAIN_SECONDS)
    return again


def _choose(
    purchase_ids: Sequence[str] | None, content: str | None, paid_between: tuple[str, str] | None
) -> PurchaseIds:
    if (purchase_ids is None) == (content is None and paid_between is None):
        raise InvalidRequest("Give ids, or a content, a span of time or both. Nothing was refunded.")
    if purchase_ids is not None:
        return read_ids(purchase_ids)
    since, until = _read_span(paid_between) if paid_between else (None, None)
    return current_refunds().purchase_search.find_ids(
        PurchaseFilter(content=content, since=since, until=until)
    )


def _read_span(span: tuple[str, str]) -> tuple[datetime, datetime]:
    try:
        return parse_moment(span[0]), parse_end(span[1])
    except ValueError as error:
        raise InvalidRequest(f"paid_between must be {error}. Nothing was refunded.") from None


def _render(summary: BulkSummary) -> dict[str, Any]:
    return {
        "name": summary.name,
        "purchases": summary.purchases,
        "results": {result.value: count for result, count in summary.counts.items()},
        "amounts": dict(summary.amounts),
    }
