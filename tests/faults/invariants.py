"""What must hold after any fault and one reconcile, and the tally of what was tried.

Every experiment ends in :func:`violations`, so that one definition of "never twice, never lost" serves all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DOUBLED = "doubled"
LOST = "lost"
UNKNOWN = "unknown"
DISAGREES = "disagrees"
UNSAID = "unsaid"


@dataclass(frozen=True)
class Violation:
    """One way in which the promise was broken, for one payment."""

    kind: str
    payment_intent: str
    what: str


@dataclass
class Tally:
    """What an experiment tried and what came of it: one row of the table."""

    name: str
    histories: int = 0
    refunds: int = 0
    violations: list[Violation] = field(default_factory=list)

    def add(self, refunds: int, found: Iterable[Violation]) -> None:
        """Count one history."""
        self.histories += 1
        self.refunds += refunds
        self.violations += found

    def count(self, kind: str) -> int:
        """How often one kind of violation was found."""
        return Counter(violation.kind for violation in self.violations)[kind]


def violations(
    payment_intent: str,
    *,
    at_stripe: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    purchases: Sequence[Mapping[str, Any]],
    heard: Iterable[tuple[str, str]] | None,
) -> list[Violation]:
    """Everything that is wrong with one payment, once every call is over and reconcile has run.

    :param at_stripe: the payment's refunds, as the sandbox holds them.
    :param rows: the payment's ledger, as it is stored.
    :param purchases: the purchases that it paid, as they are stored.
    :param heard: ``(refund id, status)`` of every signal that a receiver got; ``None`` where nobody listened.
    """
    found: list[Violation] = []

    def wrong(kind: str, what: str) -> None:
        found.append(Violation(kind, payment_intent, what))

    moved = [refund for refund in at_stripe if refund["status"] == "succeeded"]
    booked = [row for row in rows if row["status"] == "succeeded"]
    for refund_id, count in Counter(refund["metadata"].get("refund_id") for refund in moved).items():
        if refund_id is not None and count > 1:
            wrong(DOUBLED, f"{count} refunds at Stripe for {refund_id}")
    ours = [refund for refund in moved if refund["metadata"].get("refund_id")]
    if len(ours) > 1:
        wrong(DOUBLED, f"{len(ours)} of our refunds of one payment succeeded: {[r['id'] for r in ours]}")
    for refund in moved:
        if refund["id"] not in {row.get("stripeRefundId") for row in booked}:
            wrong(LOST, f"{refund['id']} moved money, and no row says so")
    for row in booked:
        if row.get("stripeRefundId") not in {refund["id"] for refund in moved}:
            wrong(LOST, f"{row['_id']} says that money moved, and none did")
    if sum(refund["amount"] for refund in moved) != sum(row["amount"] for row in booked):
        wrong(LOST, "the amounts at Stripe and in the ledger differ")
    for row in rows:
        if row["status"] == "processing" and not row.get("review"):
            wrong(UNKNOWN, f"{row['_id']} is processing and asks for nobody")
    refunded = any(row["source"] != "dashboard" for row in booked) or _in_full(booked)
    for purchase in purchases:
        if purchase["status"] != ("refunded" if refunded else "completed"):
            wrong(DISAGREES, f"purchase {purchase['_id']} is {purchase['status']}, refunded is {refunded}")
    if heard is not None:
        told = set(heard)
        for row in rows:
            if row["status"] != "processing" and (row["_id"], row["status"]) not in told:
                wrong(UNSAID, f"nobody heard that {row['_id']} is {row['status']}")
    return found


def _in_full(booked: Sequence[Mapping[str, Any]]) -> bool:
    captured = max((row.get("amountReceived") or 0 for row in booked), default=0)
    return captured > 0 and sum(row["amount"] for row in booked) >= captured


def table(tallies: Sequence[Tally]) -> str:
    """The tallies as text, a row each."""
    head = ("experiment", "histories", "refunds", *(kinds := (DOUBLED, LOST, UNKNOWN, DISAGREES, UNSAID)))
    body = [
        (tally.name, str(tally.histories), str(tally.refunds), *(str(tally.count(kind)) for kind in kinds))
        for tally in tallies
    ]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *body)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
