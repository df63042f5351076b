"""Shared tasks for your Celery app (the extra ``celery``). They run in the Flask app's context.

Import this module in the worker. If a worker dies, another one runs its task again, and nothing is refunded
twice. All workers together keep one rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from celery import Task, shared_task

from .api import bulk_refund, read_part
from .bulk import check_name
from .errors import (
    DatabaseUnavailable,
    InvalidRequest,
    RefundInProgress,
    StripeRateLimited,
    StripeUnavailable,
)
from .extension import current_refunds
from .metrics.report import check_range
from .models import Reason, RefundRequest, RefundStatus, id_text
from .schemas.cursors import read_id, write_id
from .schemas.inputs import (
    parse_address,
    parse_end,
    parse_moment,
    parse_note,
    parse_purchase_id,
    parse_reason,
    require_many,
)
from .schemas.rendering import render, render_refund
from .storage.purchase_ids import PurchaseIds
from .storage.search import PurchaseFilter
from .stripe_client.rate_limit import rate_limited

BATCH = 100
"""How many purchases of a bulk run one task refunds."""

_RETRIABLE = (DatabaseUnavailable, RefundInProgress, StripeRateLimited, StripeUnavailable)
_RETRY_SECONDS = 10
_MAX_RETRIES = 30

_options: Any = {"acks_late": True, "reject_on_worker_lost": True, "max_retries": _MAX_RETRIES}
"""A task whose worker dies runs again, which is safe."""


@shared_task(bind=True, name="flask_refunds.refund_purchase", **_options)
def refund_purchase(
    task: Task,
    purchase_id: str,
    *,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    amount: int | None = None,
    refundable: int | None = None,
    number: int | None = None,
    mark_refunded: bool = False,
    instructions_email: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Refund a completed purchase, as ``POST /admin/refund/<purchaseId>`` does.

    The task is retried every 10 seconds, up to 30 times, if another call is working on the refund, Stripe or
    MongoDB is unavailable or overloaded, or the outcome is unknown.

    :param purchase_id: as in a URL.
    :param amount: a part of the payment; with it, the next three are as in :func:`refund_purchase` of
        ``flask_refunds``, like ``instructions_email``.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :return: the refund, as in the HTTP API.
    :raises RefundsError: the service's error; the task has failed.
    """
    refunds = current_refunds()
    part = read_part(amount, refundable, number, mark_refunded)
    request = RefundRequest(
        requested_by,
        "app",
        parse_reason(reason),
        parse_note(note),
        part=part,
        instructions_email=parse_address(instructions_email),
    )
    rate_limiter = refunds.rate_limiter(rate)
    rate_limiter.wait()
    try:
        with rate_limited(rate_limiter, slots_taken=1):
            refund = refunds.service.refund(parse_purchase_id(id_text(purchase_id)), request).refund
    except _RETRIABLE as error:
        raise _retry(task, error) from error
    if refund.status is RefundStatus.PROCESSING and task.request.retries < _MAX_RETRIES:
        raise _retry(task, None)
    return render_refund(refund)


@shared_task(name="flask_refunds.reconcile", **_options)
def reconcile(*, older_than: float = 60.0, rate: float | None = None, full: bool = False) -> dict[str, Any]:
    """Run ``flask refunds reconcile`` once. Schedule it every minute or so with Celery beat.

    :param older_than: skip refunds that changed in the last so many seconds.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :param full: list all of the last 60 days' refunds at Stripe, not only new ones.
    :return: ``counts``, in ``needsReview`` the number of open reviews by code, in ``sweep`` what was found at
        Stripe, in ``sweepError`` Stripe's error code, and in ``sweepOverdueSince`` when the last full sweep
        was complete, if that is more than 25 hours ago. The last three can be ``None``.
    """
    runner = current_refunds().reconcile_runner
    report = runner.run(older_than=timedelta(seconds=older_than), rate=rate, full=full)
    rendered: dict[str, Any] = render(report.as_dict())
    return rendered


@shared_task(name="flask_refunds.bulk", **_options)
def bulk(
    name: str,
    purchase_ids: Sequence[str] | None = None,
    *,
    content: str | None = None,
    since: str | None = None,
    until: str | None = None,
    requested_by: str | None = None,
    reason: Reason | None = None,
    note: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Refund many purchases, distributed over the workers, as ``flask refunds bulk --yes`` does.

    Pass either ``purchase_ids``, or ``content``, or ``since`` and ``until``, or the last three together.

    :param name: the run's name: 1 to 64 of A-Z, a-z, 0-9, ``._-``, starting with a letter or digit.
    :param purchase_ids: each as in a URL.
    :param content: a content's ID: refund the purchases of this content.
    :param since: a day or time: refund purchases made since then. Needs ``until``.
    :param until: a day, which is part of the range, or a time, which isn't.
    :param rate: requests to Stripe a second, of all tasks together; by default 80 live, 20 in test mode.
    :return: ``name``, in ``purchases`` how many there are, and in ``tasks`` the IDs of the tasks.
    :raises InvalidRequest: nothing was refunded. No purchase matches, or a parameter is invalid.
    """
    check_name(name)
    selected = _select(purchase_ids, content, since, until)
    options = {
        "requested_by": requested_by,
        "reason": parse_reason(reason),
        "note": parse_note(note),
        "rate": rate,
    }
    ids = map(write_id, selected)
    batches = iter(lambda: list(islice(ids, BATCH)), [])
    tasks = [bulk_part.apply_async((name, batch), options).id for batch in batches]
    return {"name": name, "purchases": len(selected), "tasks": tasks}


@shared_task(bind=True, name="flask_refunds.bulk_part", **_options)
def bulk_part(task: Task, name: str, purchase_ids: Sequence[str], **options: Any) -> dict[str, Any]:
    """Refund some purchases of a bulk run. :func:`bulk` sends these tasks.

    :param purchase_ids: IDs with their types, from :func:`write_id`.
    :return: the summary of this part.
    """
    try:
        return bulk_refund(name, map(read_id, purchase_ids), **options).as_dict()
    except _RETRIABLE as error:
        raise _retry(task, error) from error


def _retry(task: Task, error: Exception | None) -> Exception:
    """Return the exception that makes Celery retry the task; after the last retry, the error itself."""
    retry: Exception = task.retry(exc=error, countdown=_RETRY_SECONDS)
    return retry


def _select(
    purchase_ids: Sequence[str] | None, content: str | None, since: str | None, until: str | None
) -> PurchaseIds:
    if (since is None) != (until is None):
        raise InvalidRequest("Pass since and until together. Nothing was refunded.")
    if (purchase_ids is None) == (content is None and since is None):
        raise InvalidRequest("Pass purchase_ids, or content, since and until. Nothing was refunded.")
    if purchase_ids is not None:
        texts = [id_text(each) for each in require_many(purchase_ids)]
        found = current_refunds().purchases.resolve(texts)
        selected = PurchaseIds(found.get(text, text) for text in texts if found)
    else:
        selected = current_refunds().purchase_search.find_ids(_read_filter(content, since, until))
    if not selected:
        raise InvalidRequest("No purchase matches. Nothing was refunded.")
    return selected


def _read_filter(content: str | None, since: str | None, until: str | None) -> PurchaseFilter:
    try:
        start = None if since is None else parse_moment(since)
        end = None if until is None else parse_end(until)
    except ValueError as error:
        raise InvalidRequest(f"since and until must each be {error}. Nothing was refunded.") from None
    start, end = check_range(start, end)
    return PurchaseFilter(content=content, since=start, until=end)
