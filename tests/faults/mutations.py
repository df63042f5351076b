"""Mutations of the library that each disable one safeguard. The experiments must detect every one.

Patching an attribute that doesn't exist raises ``AttributeError``.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from pymongo import WriteConcern

from flask_refunds import extension
from flask_refunds.core import sweep
from flask_refunds.core.service import CallContext, RefundService
from flask_refunds.core.sweep import _Sweep
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.errors import OutcomeUnknown, RequestRejected, StripeCallError
from flask_refunds.models import RefundRecord, RefundStatus, StripeRefund
from flask_refunds.storage.connection import Collection, Database, majority_collection
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.storage.reconcile_queue import ReconcileQueue, Unfinished
from flask_refunds.storage.sweep_state import SweepPosition, SweepState
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.parsing import RefundPage
from flask_refunds.stripe_client.transport import Transport


@contextlib.contextmanager
def new_key_for_each_attempt() -> Iterator[None]:
    """Each attempt uses its own idempotency key, and earlier attempts aren't looked up at Stripe."""
    send = Transport.request

    def request(
        transport: Transport, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> Any:
        return send(
            transport, method, url, {**(headers or {}), "Idempotency-Key": secrets.token_hex()}, post_data
        )

    with (
        mock.patch.object(Transport, "request", request),
        mock.patch.object(RefundService, "_find_at_stripe", return_value=None),
    ):
        yield


@contextlib.contextmanager
def record_stored_after_stripe() -> Iterator[None]:
    """The refund record is stored after Stripe's answer instead of before the request."""
    insert, advance = Ledger._insert, Ledger.advance
    delayed: dict[str, dict[str, Any]] = {}

    def insert_later(ledger: Ledger, document: dict[str, Any]) -> bool:
        if document["status"] != RefundStatus.PROCESSING.value:
            return insert(ledger, document)
        delayed[document["_id"]] = document
        return True

    def insert_and_advance(
        ledger: Ledger, refund: RefundRecord, stripe_refund: StripeRefund, **options: Any
    ) -> RefundRecord | None:
        if refund.id in delayed:
            insert(ledger, delayed.pop(refund.id))
        return advance(ledger, refund, stripe_refund, **options)

    with (
        mock.patch.object(Ledger, "_insert", insert_later),
        mock.patch.object(Ledger, "advance", insert_and_advance),
    ):
        yield


@contextlib.contextmanager
def missing_answer_is_failure() -> Iterator[None]:
    """A request without an answer counts as rejected."""
    create = Gateway._create_once

    def create_once(gateway: Gateway, *arguments: Any) -> StripeRefund:
        try:
            return create(gateway, *arguments)
        except OutcomeUnknown as unknown:
            raise RequestRejected(unknown.code, unknown.message) from unknown

    with mock.patch.object(Gateway, "_create_once", create_once):
        yield


@contextlib.contextmanager
def purchases_not_marked() -> Iterator[None]:
    """No purchase is marked as refunded."""
    with mock.patch.object(Purchases, "mark_refunded", return_value=([], [])):
        yield


@contextlib.contextmanager
def signals_marked_before_sending() -> Iterator[None]:
    """The record shows that the signals were sent before the receivers run."""

    def send_signals(transitions: RefundTransitions, refund: RefundRecord) -> RefundRecord:
        if not refund.signals_sent:
            transitions._ledger.mark_signals_sent(refund)
            transitions._signal_sender.send(refund)
        return replace(refund, signals_sent=True)

    with mock.patch.object(RefundTransitions, "send_signals", send_signals):
        yield


@contextlib.contextmanager
def reconcile_skips_processing() -> Iterator[None]:
    """Reconcile doesn't work on refunds in ``processing``."""
    find = ReconcileQueue.find_unfinished

    def find_unfinished(queue: ReconcileQueue, **options: Any) -> list[Unfinished]:
        found = queue._records.find({"status": "processing"}, {"_id": 1})
        processing = {each["_id"] for each in found}
        return [each for each in find(queue, **options) if each.refund_id not in processing]

    with mock.patch.object(ReconcileQueue, "find_unfinished", find_unfinished):
        yield


@contextlib.contextmanager
def errors_after_stripe_are_raised() -> Iterator[None]:
    """A failed database write after Stripe's answer is raised, as if nothing had been refunded."""

    def finish(service: RefundService, refund: RefundRecord, call: CallContext) -> tuple[RefundRecord, None]:
        return service._drive(refund, call.for_stripe()), None

    with mock.patch.object(RefundService, "_finish", finish):
        yield


@contextlib.contextmanager
def write_concern_of_one() -> Iterator[None]:
    """A write is acknowledged by the primary alone."""

    def collection(database: Database, name: str) -> Collection:
        return majority_collection(database, name).with_options(write_concern=WriteConcern(w=1))

    with mock.patch.object(extension, "majority_collection", collection):
        yield


@contextlib.contextmanager
def sweep_position_moved_first() -> Iterator[None]:
    """A sweep's position moves before what it has passed is stored."""
    pages = _Sweep._pages

    def moving_pages(running: _Sweep, since: datetime, after: str | None) -> Iterator[RefundPage]:
        for page in pages(running, since, after):
            newest = max((each.created for each in page.refunds), default=since)
            reached = {"fullSince": since, "fullNewest": newest, "fullAfter": page.last_id}
            running._save(**(reached if running.report.is_full else {"newest": newest}))
            yield page

    with mock.patch.object(_Sweep, "_pages", moving_pages):
        yield


@contextlib.contextmanager
def sweep_skips_unavailable_page() -> Iterator[None]:
    """A sweep counts as complete although Stripe didn't return a page."""
    pages = _Sweep._pages

    def available_pages(running: _Sweep, since: datetime, after: str | None) -> Iterator[RefundPage]:
        with contextlib.suppress(StripeCallError):
            yield from pages(running, since, after)

    with mock.patch.object(_Sweep, "_pages", available_pages):
        yield


@contextlib.contextmanager
def sweep_without_overlap() -> Iterator[None]:
    """An ordinary sweep reads nothing again."""
    with mock.patch.object(sweep, "_OVERLAP", timedelta(0)):
        yield


@contextlib.contextmanager
def sweep_overlap_unbounded() -> Iterator[None]:
    """An ordinary sweep reads all refunds of the last hour again."""
    with mock.patch.object(sweep, "_KNOWN_PAGES", 10**6):
        yield


@contextlib.contextmanager
def sweep_resumes_a_page_late() -> Iterator[None]:
    """A full sweep that was interrupted skips the page at which it continues."""
    sweep_fully = _Sweep._sweep_fully

    def sweep_later(running: _Sweep, since: datetime, after: str | None) -> datetime:
        if after is not None:
            after = next(running._pages(since, after)).last_id or after
        return sweep_fully(running, since, after)

    with mock.patch.object(_Sweep, "_sweep_fully", sweep_later):
        yield


@contextlib.contextmanager
def sweep_lock_ignored() -> Iterator[None]:
    """A sweep starts although another one holds the lease."""
    acquire = SweepState.acquire

    def acquire_anyway(state: SweepState) -> SweepPosition | None:
        state._collection.update_one({"_id": "refunds"}, {"$unset": {"leaseExpiresAt": 1}})
        return acquire(state)

    with mock.patch.object(SweepState, "acquire", acquire_anyway):
        yield


@contextlib.contextmanager
def sweep_errors_count_as_stored() -> Iterator[None]:
    """A sweep goes on after a refund that couldn't be stored, without noting it."""
    with mock.patch.object(_Sweep, "_add_failed"):
        yield


MUTATIONS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    mutation.__name__: mutation
    for mutation in (
        new_key_for_each_attempt,
        record_stored_after_stripe,
        missing_answer_is_failure,
        purchases_not_marked,
        signals_marked_before_sending,
        errors_after_stripe_are_raised,
        reconcile_skips_processing,
        write_concern_of_one,
        sweep_position_moved_first,
        sweep_skips_unavailable_page,
        sweep_without_overlap,
        sweep_overlap_unbounded,
        sweep_resumes_a_page_late,
        sweep_lock_ignored,
        sweep_errors_count_as_stored,
    )
}


def apply_mutation(name: str | None) -> AbstractContextManager[None]:
    """Return a context in which a mutation is active; with ``None``, the library is unchanged."""
    return MUTATIONS[name]() if name else contextlib.nullcontext()
