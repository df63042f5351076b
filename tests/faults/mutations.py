"""The library with one guard taken away: what the experiments must notice."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock

from pymongo import WriteConcern

from flask_refunds import extension
from flask_refunds.clock import Deadline
from flask_refunds.core.service import RefundService
from flask_refunds.core.transitions import RefundTransitions
from flask_refunds.errors import OutcomeUnknown, RequestRejected
from flask_refunds.models import Refund, RefundStatus, StripeRefund
from flask_refunds.storage.connection import Collection, Database, majority_collection
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.transport import Transport


@contextlib.contextmanager
def a_key_for_each_try() -> Iterator[None]:
    """Each try has a key of its own, and nobody asks Stripe what the earlier tries made."""
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
def the_row_comes_after_stripe() -> Iterator[None]:
    """The ledger is written when Stripe has answered, and not before it is asked."""
    insert, advance = Ledger._insert, Ledger.advance
    unwritten: dict[str, dict[str, Any]] = {}

    def insert_later(ledger: Ledger, row: dict[str, Any]) -> None:
        if row["status"] == RefundStatus.PROCESSING.value:
            unwritten[row["_id"]] = row
        else:
            insert(ledger, row)

    def insert_and_climb(ledger: Ledger, refund_id: str, fact: StripeRefund, **how: Any) -> Refund | None:
        if refund_id in unwritten:
            insert(ledger, unwritten.pop(refund_id))
        return advance(ledger, refund_id, fact, **how)

    with (
        mock.patch.object(Ledger, "_insert", insert_later),
        mock.patch.object(Ledger, "advance", insert_and_climb),
    ):
        yield


@contextlib.contextmanager
def silence_is_failure() -> Iterator[None]:
    """Where Stripe's answer does not come, nothing was refunded."""
    create = Gateway._create_once

    def create_once(gateway: Gateway, *arguments: Any) -> StripeRefund:
        try:
            return create(gateway, *arguments)
        except OutcomeUnknown as unknown:
            raise RequestRejected(unknown.code, unknown.message) from unknown

    with mock.patch.object(Gateway, "_create_once", create_once):
        yield


@contextlib.contextmanager
def purchases_are_forgotten() -> Iterator[None]:
    """No purchase is ever marked as refunded."""
    with mock.patch.object(Purchases, "mark_refunded", return_value=0):
        yield


@contextlib.contextmanager
def announced_too_early() -> Iterator[None]:
    """The row says that the receivers have run, and then they run."""

    def announce(transitions: RefundTransitions, refund: Refund) -> Refund:
        if not refund.signals_sent:
            transitions._ledger.mark_signals_sent(refund)
            transitions._announcer.announce(refund)
        return replace(refund, signals_sent=True)

    with mock.patch.object(RefundTransitions, "announce", announce):
        yield


@contextlib.contextmanager
def reconcile_leaves_the_unknown() -> Iterator[None]:
    """A row in ``processing`` is nobody's."""
    find = Ledger.find_unfinished

    def find_unfinished(ledger: Ledger, before: datetime) -> list[str]:
        found = find(ledger, before)
        return [each for each in found if ledger.get(each).status is not RefundStatus.PROCESSING]

    with mock.patch.object(Ledger, "find_unfinished", find_unfinished):
        yield


@contextlib.contextmanager
def a_half_done_refund_is_called_undone() -> Iterator[None]:
    """Where the transitions cannot be brought up to date, the caller hears of that alone."""

    def finish(service: RefundService, refund: Refund, deadline: Deadline, *, actor: str) -> Refund:
        return service._drive(refund, deadline, actor=actor)

    with mock.patch.object(RefundService, "_finish", finish):
        yield


@contextlib.contextmanager
def one_member_will_do() -> Iterator[None]:
    """A write counts when the primary alone has it."""

    def written_once(database: Database, name: str) -> Collection:
        return majority_collection(database, name).with_options(write_concern=WriteConcern(w=1))

    with mock.patch.object(extension, "durable", written_once):
        yield


GUARDS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    guard.__name__: guard
    for guard in (
        a_key_for_each_try,
        the_row_comes_after_stripe,
        silence_is_failure,
        purchases_are_forgotten,
        announced_too_early,
        a_half_done_refund_is_called_undone,
        reconcile_leaves_the_unknown,
        one_member_will_do,
    )
}


def without(guard: str | None) -> AbstractContextManager[None]:
    """The library without one of its guards, by name; the library itself for ``None``."""
    return GUARDS[guard]() if guard else contextlib.nullcontext()
