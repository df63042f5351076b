"""The library without one rule of docs/protocol.md. A history must break a promise without each.

Patching an attribute that doesn't exist raises ``AttributeError``, so a removal can't become empty unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from flask_refunds import extension
from flask_refunds.core import transitions
from flask_refunds.core.resolution import ManualReview
from flask_refunds.core.stripe_sync import StripeSync
from flask_refunds.core.sweep import RefundSweep, SweepReport
from flask_refunds.core.webhook_events import EventHandler
from flask_refunds.errors import DatabaseUnavailable
from flask_refunds.models import Mark, RefundRecord, RefundStatus
from flask_refunds.storage import purchases
from flask_refunds.storage.ledger import Ledger
from flask_refunds.storage.purchases import Purchases
from flask_refunds.stripe_client import gateway, parsing
from flask_refunds.stripe_client.gateway import Gateway
from flask_refunds.stripe_client.parsing import RefundPage
from tests.faults import in_process

Removal = Callable[[], AbstractContextManager[object]]


def own_refund_counts_as_full() -> AbstractContextManager[object]:
    """Rule 1: a succeeded refund of ours refunds the payment, whatever was captured."""

    def is_refunded(refunds: Sequence[RefundRecord]) -> bool:
        return any(each.created_here and each.status is RefundStatus.SUCCEEDED for each in refunds)

    return mock.patch.object(transitions, "is_refunded", is_refunded)


def every_mark_is_taken_back() -> AbstractContextManager[object]:
    """Rule 2: when a refund fails, every refunded purchase of the payment becomes completed."""
    mark_completed = Purchases.mark_completed

    def mark(self: Purchases, payment_intent: str, marks: Sequence[Mark]) -> list[Any]:
        every = [Mark(each, "completed") for each in self.ids_of(payment_intent)]
        return mark_completed(self, payment_intent, every)

    return mock.patch.object(Purchases, "mark_completed", mark)


@contextmanager
def refused_purchase_stops_the_record() -> Iterator[None]:
    """Rule 3: the record keeps its status until the purchase could be written, however long that takes."""

    @contextmanager
    def rejections_as(error: type[Exception]) -> Iterator[None]:
        from pymongo.errors import OperationFailure

        try:
            yield
        except OperationFailure as refusal:
            raise DatabaseUnavailable from refusal

    never = mock.patch.object(Ledger, "mark_unwritten", return_value=False)
    with never, mock.patch.object(purchases, "rejections_as", rejections_as):
        yield


def events_are_trusted() -> AbstractContextManager[object]:
    """Rule 4: an event's refund is stored as it is, and not read again."""
    upsert = EventHandler._upsert_refund

    def upsert_from_payload(handler: EventHandler, obj: Mapping[str, Any], *rest: Any) -> Any:
        charge = in_process.current_sandbox().charge(obj["payment_intent"])
        shown = parsing.parse_refund({**obj, "charge": charge})
        with mock.patch.object(Gateway, "retrieve_refund", return_value=shown):
            return upsert(handler, obj, *rest)

    return mock.patch.object(EventHandler, "_upsert_refund", upsert_from_payload)


def nothing_is_swept() -> AbstractContextManager[object]:
    """Rule 5: reconcile looks only at the ledger."""
    return mock.patch.object(RefundSweep, "run", return_value=SweepReport())


def no_review_is_requested() -> AbstractContextManager[object]:
    """Rule 6: no status requests a review."""
    return mock.patch.object(transitions, "_review_of", return_value=None)


def persons_are_trusted() -> AbstractContextManager[object]:
    """Rule 6: a refund that a person gives up isn't looked up at Stripe first."""
    return mock.patch.object(ManualReview, "_require_absent")


def closed_reviews_are_requested_again() -> AbstractContextManager[object]:
    """Rule 6: a review that a person closed doesn't stay closed."""
    return mock.patch.object(transitions, "_was_closed", return_value=False)


def comments_are_dropped() -> AbstractContextManager[object]:
    """Rule 6: a decision isn't stored with the person's comment."""
    dismiss = Ledger.dismiss

    def dismiss_silently(
        self: Ledger, refund: RefundRecord, *, actor: str, comment: str
    ) -> RefundRecord | None:
        return dismiss(self, refund, actor=actor, comment="")

    return mock.patch.object(Ledger, "dismiss", dismiss_silently)


def cancellations_are_not_read_again() -> AbstractContextManager[object]:
    """A refund counts as canceled once Stripe was asked, whatever came of the request."""

    def believe(self: StripeSync, refund: RefundRecord, *_: Any, **__: Any) -> RefundRecord:
        return replace(refund, status=RefundStatus.CANCELED)

    return mock.patch.object(StripeSync, "refresh", believe)


def cancellations_are_not_noted() -> AbstractContextManager[object]:
    """Who cancels a refund isn't stored before Stripe is asked."""
    return mock.patch.object(Ledger, "note_cancellation", lambda self, refund, **_: refund)


def each_machine_has_its_clock() -> AbstractContextManager[object]:
    """Rule 7: leases and ages follow the clock of the machine, and one machine is two days ahead."""
    opened: list[Any] = []

    def clock_of_next_process(database: Any) -> Callable[[], datetime]:
        opened.append(database)
        ahead = timedelta(days=2) * ((len(opened) + 1) % 2)
        return lambda: in_process.clock.now() + ahead

    return mock.patch.object(extension, "ServerClock", clock_of_next_process)


def unreadable_item_spoils_its_page() -> AbstractContextManager[object]:
    """Rule 8: a list with one refund in an unknown form can't be read at all."""

    def parse(answer: Mapping[str, Any], request_id: str | None) -> RefundPage:
        page = parsing.parse_refund_page(answer, request_id)
        if page.unreadable:
            raise ValueError("an unknown status")
        return page

    return mock.patch.object(gateway, "parse_refund_page", parse)


def release_counts_as_refund() -> AbstractContextManager[object]:
    """Rule 9: what an old API version stores for a released authorization is taken for a refund."""
    return mock.patch.object(parsing, "_may_be_release", return_value=False)
