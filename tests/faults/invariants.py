"""The invariants that must hold after any fault and one reconcile, and the report of what was tested.

All experiments use :func:`find_violations`, so that they share one definition of "never twice, never lost".
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

DOUBLED = "doubled"
LOST = "lost"
UNKNOWN = "unknown"
DISAGREES = "disagrees"
UNSIGNALED = "unsignaled"


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
    """Return all violations of one payment, after every call has ended and reconcile has run.

    :param at_stripe: the payment's refunds in the sandbox.
    :param captured: what the payment captured at Stripe, in minor units.
    :param records: the payment's refund records, as stored.
    :param purchases: the payment's purchases, as stored.
    :param signals: ``(refund ID, status)`` of every signal that a receiver got; ``None`` without a receiver.
    """
    found: list[Violation] = []

    def add(kind: str, message: str) -> None:
        found.append(Violation(kind, payment_intent, message))

    succeeded = [refund for refund in at_stripe if refund["status"] == "succeeded"]
    recorded = [record for record in records if record["status"] == "succeeded"]
    for refund_id, count in Counter(map(record_of, succeeded)).items():
        if refund_id is not None and count > 1:
            add(DOUBLED, f"{count} refunds at Stripe for {refund_id}")
    # Only Stripe can limit what is refunded in its Dashboard, and some experiments remove that limit.
    created_here = [refund for refund in succeeded if refund["metadata"].get("refund_id")]
    if sum(refund["amount"] for refund in created_here) > captured:
        add(DOUBLED, f"more than {captured} returned: {[refund['id'] for refund in created_here]}")
    for refund in succeeded:
        if refund["id"] not in {record.get("stripeRefundId") for record in recorded}:
            add(LOST, f"{refund['id']} succeeded at Stripe, but has no succeeded record")
    for record in recorded:
        if record.get("stripeRefundId") not in {refund["id"] for refund in succeeded}:
            add(LOST, f"{record['_id']} is recorded as succeeded, but didn't succeed at Stripe")
    if sum(refund["amount"] for refund in succeeded) != sum(record["amount"] for record in recorded):
        add(LOST, "the amounts at Stripe and in the ledger differ")
    for record in records:
        if record["status"] == "processing" and not record.get("review"):
            add(UNKNOWN, f"{record['_id']} is processing and has no review")
    refunded = 0 < captured <= sum(refund["amount"] for refund in succeeded)
    for purchase in purchases:
        if purchase["status"] != ("refunded" if refunded else "completed"):
            add(DISAGREES, f"purchase {purchase['_id']} is {purchase['status']}, refunded is {refunded}")
    if signals is not None:
        sent = set(signals)
        for record in records:
            if record["status"] != "processing" and (record["_id"], record["status"]) not in sent:
                add(UNSIGNALED, f"no receiver was told that {record['_id']} is {record['status']}")
    return found


def format_table(tallies: Sequence[Tally]) -> str:
    """Return the report as text, one line for each tally."""
    kinds = (DOUBLED, LOST, UNKNOWN, DISAGREES, UNSIGNALED)
    head = ("experiment", "histories", "refunds", *kinds)
    body = [
        (tally.name, str(tally.histories), str(tally.refunds), *(str(tally.count(kind)) for kind in kinds))
        for tally in tallies
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *body)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
