"""What the experiments found, and the report of what was tested.

All experiments ask :mod:`tests.faults.oracle`, so that they share one definition of each promise.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import oracle

DOUBLED, LOST, UNKNOWN, DISAGREES, UNSAID, UNATTENDED = oracle.KINDS


@dataclass(frozen=True)
class Violation:
    """One violated invariant of one payment."""

    kind: str
    payment_intent: str
    message: str

    def at(self, where: str) -> Violation:
        """Return the violation with the history in its message."""
        return replace(self, message=f"{self.message} [{where}]")


@dataclass
class Tally:
    """The counts of one experiment: one line of the report."""

    name: str
    histories: int = 0
    refunds: int = 0
    violations: list[Violation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, refunds: int, found: Iterable[Violation]) -> None:
        """Count one history. This method is thread-safe."""
        with self._lock:
            self.histories += 1
            self.refunds += refunds
            self.violations += found

    def count(self, kind: str) -> int:
        """Return the number of violations of one kind."""
        return Counter(violation.kind for violation in self.violations)[kind]


def record_of(refund: Mapping[str, Any]) -> str | None:
    """Return the ID of the record that requested a refund at Stripe: the metadata without its random end."""
    key: str | None = refund["metadata"].get("refund_id")
    return key and key.rpartition(":")[0]


def find_violations(
    payment_intent: str,
    *,
    at_stripe: Sequence[Mapping[str, Any]],
    captured: int,
    records: Sequence[Mapping[str, Any]],
    purchases: Sequence[Mapping[str, Any]],
    signals: Iterable[tuple[str, str]] | None,
) -> list[Violation]:
    """Return the promises that are broken for one payment, after every call has ended and reconcile has run.

    :param at_stripe: the payment's refunds in the sandbox.
    :param captured: what the payment captured at Stripe, in minor units.
    :param records: the payment's refund records, as stored.
    :param purchases: the payment's purchases, as stored; only the library has changed them.
    :param signals: ``(refund ID, status)`` of every signal that a receiver got; ``None`` without a receiver.
    """
    listed = [record for record in records if not record.get("duplicateOf")]
    shown = [
        {
            "id": record["_id"],
            "status": record["status"],
            "note": record.get("note"),
            "amount": record.get("amount"),
            "stripeRefundId": record.get("stripeRefundId"),
            "review": record.get("review"),
            "history": record["history"],
            "details": {"reference": record.get("details", {}).get("reference")},
        }
        for record in listed
    ]
    told = None
    if signals is not None:  # whether these concerned a review isn't recorded
        told = frozenset((*each, review) for each in signals for review in (True, False))
    seen = frozenset((each["stripeRefundId"], it.get("status")) for each in shown for it in each["history"])
    payment = oracle.Payment(
        payment_intent,
        captured,
        [_describe(refund) for refund in at_stripe],
        [oracle.Purchase(str(each["_id"]), each["status"], payment_intent) for each in purchases],
        shown,
        told=told,
        seen=seen,
    )
    broken = oracle.broken_promises(payment, at_the_end=True)
    return [Violation(kind, payment_intent, message) for kind, message in broken]


def _describe(refund: Mapping[str, Any]) -> oracle.StripeRefund:
    return oracle.StripeRefund(
        refund["id"],
        refund["amount"],
        refund["status"],
        refund["metadata"].get("refund_id"),
        frozenset({refund["status"]}),
        refund.get("pending_reason"),
        refund.get("failure_reason"),
        refund["destination_details"]["card"]["reference"],
    )


def format_table(tallies: Sequence[Tally]) -> str:
    """Return the report as text, one line for each tally."""
    head = ("experiment", "histories", "refunds", *oracle.KINDS)
    body = [
        (
            tally.name,
            str(tally.histories),
            str(tally.refunds),
            *(str(tally.count(kind)) for kind in oracle.KINDS),
        )
        for tally in tallies
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *body)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
