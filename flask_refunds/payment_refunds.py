"""Decide about a payment by all of its refunds: what comes next, what they return, and which marks they
justify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .models import Mark, Refund, RefundRecord, RefundStatus


def next_number(refunds: Sequence[Refund]) -> int:
    """Return the number of a payment's next refund. A number that a restore lost stays unused if it can.

    :param refunds: all of the payment's.
    """
    return max((each.number or 0 for each in refunds), default=0) + 1


def find_active(refunds: Sequence[RefundRecord], bulk_run: str | None = None) -> RefundRecord | None:
    """Return the last refund created here that didn't fail, if any: it may prevent another one.

    :param bulk_run: prefers a refund of this bulk run, which refunds each payment once.
    """
    active = (each for each in refunds if each.created_here and not each.status.is_failed_or_canceled)

    def rank(refund: RefundRecord) -> tuple[bool, int]:
        return bulk_run is not None and refund.bulk_run == bulk_run, refund.number or 0

    return max(active, key=rank, default=None)


def is_refunded(refunds: Sequence[RefundRecord]) -> bool:
    """Return whether these refunds of a payment returned everything that it captured, as far as is known."""
    return 0 < _amount_captured(refunds) <= _amount_succeeded(refunds)


def is_reserved(refunds: Sequence[RefundRecord]) -> bool:
    """Return whether nothing of a payment remains to refund: its refunds succeeded, or are open at Stripe."""
    live = [each for each in refunds if not each.status.is_failed_or_canceled]
    return 0 < _amount_captured(refunds) <= _total(live)


def amount_refunded(refunds: Sequence[RefundRecord], purchase_id: Any) -> int:
    """Return what the succeeded refunds of a purchase return, in minor units.

    A refund that isn't a part belongs to every purchase of its payment, with its whole amount.

    :param refunds: all of its payment's.
    """
    return _amount_succeeded([each for each in refunds if purchase_id in each.purchase_ids])


def exceeds_payment(refunds: Sequence[RefundRecord]) -> bool:
    """Return whether the succeeded refunds of a payment add up to more than it captured."""
    return _amount_succeeded(refunds) > _amount_captured(refunds)


def keeps_marks(refunds: Sequence[RefundRecord]) -> bool:
    """Return whether the purchases that were marked as refunded stay so.

    They do if the refunds still cover what was captured when they were marked: more captured later doesn't
    make a purchase completed again.
    """
    captured = [each.amount_captured for each in refunds if each.amount_captured and _marks_by_sum(each)]
    return bool(captured) and min(captured) <= _amount_succeeded(refunds)


def _marks_by_sum(refund: RefundRecord) -> bool:
    return any(each not in refund.closed_purchase_ids for each in refund.marked_purchase_ids)


def find_unjustified_marks(refunds: Sequence[RefundRecord]) -> list[Mark]:
    """Return the marks of purchases as refunded that no refund justifies any more.

    A part that closed its purchase justifies that mark until it fails itself.
    """
    if keeps_marks(refunds):
        return []
    live = [each for each in refunds if not each.status.is_failed_or_canceled]
    closed = [purchase_id for each in live for purchase_id in each.closed_purchase_ids]
    may_be_done = [mark for each in refunds if each.may_have_marked for mark in each.marks]
    return [each for each in may_be_done if each.purchase_id not in closed]


def _amount_captured(refunds: Sequence[RefundRecord]) -> int:
    return max((each.amount_captured or 0 for each in refunds), default=0)


def _amount_succeeded(refunds: Sequence[RefundRecord]) -> int:
    return _total([each for each in refunds if each.status is RefundStatus.SUCCEEDED])


def _total(refunds: Sequence[RefundRecord]) -> int:
    """Return the sum of refunds, each refund at Stripe once."""
    return sum({each.stripe_refund_id: each.amount or 0 for each in refunds}.values())
