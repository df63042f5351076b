"""What this library promises, judged without it.

The oracle knows what Stripe holds, what the app's documents hold, what the app did to them, and what people
were told. It imports nothing of the library, and shares no definition with it. Read the promises from top to
bottom: each function states one, and returns where it is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

GONE = ("failed", "canceled")
OPEN = ("processing", "pending", "requires_action")
KNOWN = ("succeeded", "pending", "requires_action", *GONE)

KINDS = ("doubled", "lost", "unknown", "disagreeing", "unsaid", "unattended")
"""A refund made twice, one that isn't listed as it is, one of unknown outcome; a purchase or an answer that
says something else than Stripe; a receiver or a person who wasn't told."""

Broken = Iterator[tuple[str, str]]
"""The kind of each broken promise, and what was seen."""


@dataclass(frozen=True)
class StripeRefund:
    """A refund at Stripe: what it shows now, and every status that it has ever had."""

    id: str
    amount: int
    status: str | None
    ours: str | None
    """The library's own mark in its metadata; ``None`` if the refund was made in the Dashboard."""
    ever: frozenset[str | None]
    pending_reason: str | None = None
    failure_reason: str | None = None
    reference: str | None = None
    """The number by which the customer's bank can find it."""

    @property
    def is_live(self) -> bool:
        """Whether money may move. With an unknown status, it may unless the refund has failed before."""
        return self.status not in GONE and (self.status in KNOWN or not self.ever & {*GONE})


@dataclass(frozen=True)
class Change:
    """A change of a purchase's status, or a new payment of it."""

    by: Literal["app", "library", "restore"]
    before: Any
    after: Any
    payment: Any
    captured: int
    """What the payment had captured when a refund of it last succeeded, else at that moment."""
    beside_open: bool = False
    """Whether a refund of ours was open or has just failed: then the library may have been about to make the
    same change, or have made it, and can't tell later whose it was."""
    beside_returned: bool = False
    """Whether a refund had failed, or no longer was succeeded."""


@dataclass
class Purchase:
    """A purchase of the app. Everything that changed it is in ``changes``."""

    id: str
    status: Any
    payment: Any
    first_status: Any = "completed"
    changes: list[Change] = field(default_factory=list)
    is_blocked: bool = False
    """Whether the database currently refuses new statuses of it."""


@dataclass(frozen=True)
class Decision:
    """What a person decided about a refund that needed review, and what came of it."""

    payment: str
    refund_id: str
    kind: str
    """``fail``, ``retry`` or ``dismiss``."""
    comment: str
    code: str
    """The review that was open."""
    was_processing: bool
    """Whether the library didn't know whether Stripe made the refund."""
    is_accepted: bool
    has_closed: bool
    """Whether the review was closed when the call ended."""
    was_live: bool
    is_live: bool
    """Whether Stripe had this refund before and after the call, neither failed nor canceled."""
    made: int
    """How many refunds of this payment the call made."""
    is_reopened: bool = False
    """Whether the same review was open later, although nothing had changed at Stripe or in the purchases."""


@dataclass(frozen=True)
class Cancellation:
    """A call by which a person canceled a refund that waits for the customer, or tried to."""

    payment: str
    comment: str
    stripe_refund_id: str | None
    """``None`` if the refund isn't at Stripe."""
    shown_as: str
    """The refund's status in the list that the person saw."""
    has_canceled: bool
    """Whether Stripe canceled it during the call, in which no one else acted, or the answer says so."""


@dataclass(frozen=True)
class BulkResult:
    """What a bulk run said about one purchase, and how much it refunded with it."""

    payment: str
    result: str
    amount: int


@dataclass(frozen=True)
class Part:
    """A part of a payment that a person wanted to refund, perhaps in several equal calls.

    No other refund of the payment has the same amount, so that it tells which refund this is.
    """

    purchase: str
    amount: int
    closes: bool
    """Whether the purchase is refunded with it, although a rest remains."""
    is_forgotten: bool = False
    """Whether a restore took this from the ledger. Stripe doesn't show that it closed a purchase."""


@dataclass
class Payment:
    """One payment, everywhere."""

    id: str
    captured: int
    refunds: Sequence[StripeRefund]
    purchases: Sequence[Purchase]
    shown: Sequence[Mapping[str, Any]]
    """The refunds that the library lists for this payment, with their history."""
    told: frozenset[tuple[str, str, bool]] | None
    """What receivers heard: refund, status, and whether it needs review; ``None`` without receivers."""
    seen: frozenset[tuple[str, str]]
    """Every Stripe refund and status that the library has ever listed, answered or signaled."""
    is_hidden: bool = False
    """Whether Stripe has shown nothing of it for more than 23 hours, in which reconcile ran."""
    decisions: Sequence[Decision] = ()
    """What people decided about its refunds."""
    cancellations: Sequence[Cancellation] = ()
    """The calls by which people canceled its refunds."""
    parts: Sequence[Part] = ()
    """The parts of it that people wanted to refund."""
    is_disputed: bool = False
    """Whether the customer has disputed it: a plan may leave it out."""

    @property
    def returned(self) -> int:
        """What the customer got back."""
        return sum(each.amount for each in self.refunds if each.status == "succeeded")

    @property
    def is_full(self) -> bool:
        """Whether the customer got everything back that was ever taken."""
        return 0 < self.captured <= self.returned

    @property
    def is_of_this_app(self) -> bool:
        """Whether the app has, or had, to do with it."""
        return bool(self.purchases or self.shown)

    @property
    def is_readable(self) -> bool:
        """Whether Stripe shows every refund in a documented way."""
        return all(each.status in KNOWN for each in self.refunds)


def never_twice(payment: Payment) -> Broken:
    """Each request makes one refund, and together they never return more than the payment captured."""
    live = [each for each in payment.refunds if each.ours and each.is_live]
    for mark, count in Counter(each.ours for each in live).items():
        if count > 1:
            yield "doubled", f"{count} refunds for {mark}"
    if sum(each.amount for each in live) > payment.captured:
        yield "doubled", f"{[each.id for each in live]} return more than {payment.captured}"
    amounts = Counter(each.amount for each in live)
    for part in payment.parts:
        if amounts[part.amount] > 1:
            yield "doubled", f"a part of {part.amount} was refunded {amounts[part.amount]} times"


def never_lost(payment: Payment) -> Broken:
    """Each refund at Stripe is listed once, as Stripe shows it, and nothing else is listed as made."""
    listed = Counter(each["stripeRefundId"] for each in payment.shown if each["stripeRefundId"])
    by_id = {each["stripeRefundId"]: each for each in payment.shown}
    for refund in payment.refunds:
        if not payment.is_of_this_app:
            continue
        if listed[refund.id] != 1 and refund.status in KNOWN:
            yield "lost", f"{refund.id} is listed {listed[refund.id]} times"
        elif refund.status in KNOWN:
            shown = by_id[refund.id]
            if (shown["status"], shown["amount"]) != (refund.status, refund.amount):
                yield (
                    "lost",
                    f"{refund.id} is {refund.status}, but {shown['status']} with {shown['amount']} listed",
                )
            elif shown["details"]["reference"] != refund.reference:
                yield "lost", f"{refund.id} is listed without its reference {refund.reference}"
    for invented in listed.keys() - {each.id for each in payment.refunds}:
        yield "lost", f"{invented} is listed, and Stripe doesn't have it"
    for each in payment.shown:
        if each["status"] not in (*GONE, "processing") and not each["stripeRefundId"]:
            yield "lost", f"{each['id']} is {each['status']} without a refund at Stripe"


def never_unknown(payment: Payment) -> Broken:
    """A refund whose outcome isn't known after all faults are over waits for a person."""
    for each in payment.shown:
        if each["status"] == "processing" and not each["review"]:
            yield "unknown", f"{each['id']} is processing, and no person is asked"


def purchases_agree(payment: Payment) -> Broken:
    """A purchase says refunded if and only if its payment was returned in full, or a part closed it.

    The app's own words win: what the app marked, moved or renamed is left as it is.
    """
    for each in payment.purchases:
        expected = expected_statuses(each, payment)
        if expected and each.status not in expected and not each.is_blocked:
            yield (
                "disagreeing",
                f"purchase {each.id} is {each.status}, expected {' or '.join(map(str, sorted(expected)))}",
            )


def expected_statuses(purchase: Purchase, payment: Payment) -> set[Any]:
    """Return what a purchase may say; an empty set if anything."""
    expected = _expected_by_timeline(purchase, payment)
    last = [each for each in purchase.changes if each.by != "library"][-1:]
    if expected and last and last[0].by == "restore" and last[0].after == "refunded":
        return expected | {"completed", "refunded"}  # after a restore it isn't known whose mark this is
    return expected


def _expected_by_timeline(purchase: Purchase, payment: Payment) -> set[Any]:
    own = [each for each in purchase.changes if each.by == "app"]
    last = own[-1] if own else None
    if last is not None and (last.payment != payment.id or last.before == last.after):
        return set()  # it got this payment later: the library marks it when it sees it
    closings = [each.status for each in _closings(purchase, payment) if each.status not in GONE]
    if last is not None and last.after == "completed":
        return {"completed", "refunded"} if payment.is_full or closings else {"completed"}
    if last is not None and last.after == "refunded" and marked_here(_until(last, purchase), payment):
        return {"completed", "refunded"}  # the library can't tell this mark from the one that it had made
    if last is not None:
        return {last.after}
    if purchase.first_status != "completed":
        return {purchase.first_status}
    marked = [each for each in purchase.changes if each.after == "refunded"]
    if marked and 0 < marked[-1].captured <= payment.returned < payment.captured:
        return {"refunded"}  # more was captured after the purchase had been refunded
    if "succeeded" in closings and not any(each.is_forgotten for each in payment.parts):
        return {"refunded"}
    if closings or not payment.is_readable:
        return {"completed", "refunded"}  # what was returned, or seen to be, is not known
    return {"refunded" if payment.is_full else "completed"}


def _closings(purchase: Purchase, payment: Payment) -> list[StripeRefund]:
    """Return the refunds that ever succeeded and closed a purchase."""
    amounts = [each.amount for each in payment.parts if each.closes and each.purchase == purchase.id]
    return [it for it in payment.refunds if it.ours and it.amount in amounts and "succeeded" in it.ever]


def _until(last: Change, purchase: Purchase) -> Sequence[Change]:
    return purchase.changes[: 1 + max(at for at, each in enumerate(purchase.changes) if each is last)]


def marked_here(changes: Sequence[Change], payment: Payment) -> bool:
    """Return whether the library marked a purchase for this payment and hasn't taken that back itself, as
    far as it can tell.
    """
    last = _last_own(changes, payment)
    return last is not None and last.after == "refunded"


def _last_own(changes: Sequence[Change], payment: Payment) -> Change | None:
    """Return the last change for this payment that the library made, as far as it can tell."""
    own = [each for each in changes if each.payment == payment.id]
    own = [
        each
        for each in own
        if each.by == "library" or (each.after == "refunded" and (each.beside_open or each.by == "restore"))
    ]
    return own[-1] if own else None


def only_its_own_marks(purchase: Purchase, payment: Payment) -> Broken:
    """The library writes one field, from completed to refunded and back, and takes back only its own marks.

    It marks a purchase only if the refunds that ever succeeded return everything, or one closed it, and takes
    a mark back only if one of them is gone. A mark that the app made beside an open refund may also be taken
    back until that refund succeeds: the library can't tell it from the mark of a call that was killed.
    """
    for number, each in enumerate(purchase.changes):
        if each.by != "library" or each.payment != payment.id:
            continue  # others are judged with the payment that the purchase had then
        if (each.before, each.after) == ("completed", "refunded"):
            ever = sum(it.amount for it in payment.refunds if "succeeded" in it.ever)
            if not 0 < each.captured <= ever and not _closings(purchase, payment):
                yield "disagreeing", f"purchase {purchase.id} was marked with {ever} of {each.captured}"
        elif (each.before, each.after) == ("refunded", "completed"):
            mark = _last_own(purchase.changes[:number], payment)
            if mark is None or mark.after != "refunded":
                yield "disagreeing", f"purchase {purchase.id}: the app's own mark was taken back"
            elif mark.by == "library" and not each.beside_returned:
                yield "disagreeing", f"purchase {purchase.id} was taken back, and every refund holds"
        else:
            yield "disagreeing", f"purchase {purchase.id} went from {each.before} to {each.after}"


def always_told(payment: Payment) -> Broken:
    """A receiver is told how each refund is now, and that it needs review."""
    if payment.told is None:
        return
    statuses = {(refund_id, status) for refund_id, status, _ in payment.told}
    for each in payment.shown:
        if each["status"] != "processing" and (each["id"], each["status"]) not in statuses:
            yield "unsaid", f"no receiver knows that {each['id']} is {each['status']}"
        if each["review"] and (each["id"], each["status"], True) not in payment.told:
            yield "unsaid", f"no receiver knows that {each['id']} needs review"


def people_are_asked(payment: Payment) -> Broken:
    """What a program can't decide was put before a person."""
    if payment.is_hidden:
        for each in payment.shown:
            if each["status"] in OPEN and not each["review"]:
                yield "unattended", f"{each['id']} is {each['status']}, and Stripe hasn't shown it for a day"
        return
    reviewed = [each for each in payment.shown if each["review"] or _was_reviewed(each)]
    shown = {each["stripeRefundId"]: each for each in payment.shown if each["stripeRefundId"]}
    if payment.returned > payment.captured > 0 and payment.is_of_this_app and not reviewed:
        yield "unattended", f"{payment.returned} of {payment.captured} were returned"
    for refund in payment.refunds:
        record = shown.get(refund.id)
        reason = _needs_person(refund, payment.seen)
        if reason and record is not None and not (record["review"] or _was_reviewed(record)):
            yield "unattended", f"{refund.id}: {reason}"
    for purchase in payment.purchases:
        wrong = purchase.status not in (expected_statuses(purchase, payment) or {purchase.status})
        if wrong and purchase.is_blocked and not reviewed:
            yield "unattended", f"purchase {purchase.id} can't be updated"


def decisions_move_money_once(payment: Payment) -> Broken:
    """A person who refunds again, or says that nothing was refunded, is stopped if Stripe has the refund."""
    for each in payment.decisions:
        if each.kind == "retry" and each.made > 1:
            yield "doubled", f"{each.refund_id} was retried with {each.made} refunds"
        if each.kind == "retry" and each.made and each.was_live:
            yield "doubled", f"{each.refund_id} was retried, and Stripe had made it"
        if each.kind == "fail" and each.is_accepted and each.was_processing and each.is_live:
            yield "disagreeing", f"{each.refund_id} was marked as failed, and Stripe has it"


def decisions_stay_made(payment: Payment) -> Broken:
    """A review that a person closed stays closed until something new happens."""
    for each in payment.decisions:
        if each.is_accepted and each.kind != "retry" and not each.has_closed:
            yield "disagreeing", f"{each.refund_id} still needs review after {each.kind}"
        if each.is_reopened:
            yield "disagreeing", f"{each.refund_id} needs review again: {each.code}"


def decisions_are_kept(payment: Payment) -> Broken:
    """What a person decided and why is in the history of the refund, or in the refund that replaces it."""
    kept = {entry.get("comment") for shown in payment.shown for entry in shown["history"]}
    kept |= {shown.get("note") for shown in payment.shown}
    for each in payment.decisions:
        if each.is_accepted and each.comment not in kept:
            yield "lost", f"{each.kind} of {each.refund_id} isn't in its history"
    canceled = {
        entry["comment"]
        for shown in payment.shown
        for entry in shown["history"]
        if entry.get("decision") == "cancel" and entry["actor"]
    }
    for it in payment.cancellations:
        if it.has_canceled and it.comment not in canceled:
            yield "lost", f"nothing shows who canceled {it.stripe_refund_id}, and why"


def _needs_person(refund: StripeRefund, seen: frozenset[tuple[str, str]]) -> str | None:
    if (refund.id, "succeeded") in seen and refund.status in GONE:
        return "it succeeded, and is gone"
    if (refund.id, "succeeded") in seen and refund.status == "requires_action":
        return "it succeeded, and the customer is asked again"
    if refund.status == "pending" and refund.pending_reason == "insufficient_funds":
        return "the balance is too low"
    if (
        (refund.id, "pending") in seen
        and refund.status in GONE
        and refund.failure_reason == "charge_for_pending_refund_disputed"
    ):
        return "it failed by a dispute"
    return None


def _was_reviewed(shown: Mapping[str, Any]) -> bool:
    return any(entry.get("review") for entry in shown["history"])


AT_ANY_TIME: Sequence[Callable[[Payment], Broken]] = (
    never_twice,
    decisions_move_money_once,
    decisions_stay_made,
)
AT_THE_END: Sequence[Callable[[Payment], Broken]] = (
    *AT_ANY_TIME,
    never_lost,
    never_unknown,
    purchases_agree,
    always_told,
    people_are_asked,
    decisions_are_kept,
)


def broken_promises(payment: Payment, *, at_the_end: bool) -> list[tuple[str, str]]:
    """Return every broken promise of one payment.

    :param at_the_end: whether all faults are over, and every call and a reconcile have ended since.
    """
    found = [each for promise in (AT_THE_END if at_the_end else AT_ANY_TIME) for each in promise(payment)]
    for purchase in payment.purchases:
        found += only_its_own_marks(purchase, payment)
    return found


NOTHING_MOVED = (
    "refund_failed",
    "payment_unknown",
    "purchase_not_refundable",
    "stripe_rate_limited",
    "stripe_key_rejected",
    "database_unavailable",
)
"""The codes of answers that say: this call refunded nothing."""


def answer_is_true(
    status: int,
    body: Mapping[str, Any],
    before: Payment,
    after: Payment,
    *,
    in_order: bool,
    part: Part | None = None,
    is_fresh: bool = False,
) -> Broken:
    """What a caller is told about a refund is so at that moment.

    :param before: the payment before the call.
    :param in_order: whether nothing at Stripe or in the database failed or was hidden during the call.
    :param part: what the caller wanted, if it was a part.
    :param is_fresh: whether the caller had just looked at the payment.
    """
    refund, code = body.get("refund"), body.get("code")
    if part is not None and status in (200, 202) and refund["amount"] not in (None, part.amount):
        yield "disagreeing", f"{part.amount} was wanted, and the answer says {refund['amount']}"
    if part is not None and is_fresh and in_order and code in ("refundable_changed", "refund_ambiguous"):
        yield "disagreeing", f"the caller just looked, and the answer says {code}"
    made = {it.id for it in after.refunds if it.ours and it.is_live} - {it.id for it in before.refunds}
    at_stripe = {it.id: it for it in after.refunds}
    if status == 200:
        found = at_stripe.get(refund["stripeRefundId"]) if refund else None
        if found is None or "succeeded" not in found.ever:
            yield "disagreeing", "the answer says that a refund succeeded, and Stripe doesn't"
        may_be_completed = part is not None and not part.closes
        if body["purchase"]["status"] != "refunded" and not body.get("hint") and not may_be_completed:
            yield "disagreeing", "the refund succeeded, the purchase isn't refunded, and nothing says why"
    elif status == 202:
        if refund["status"] != "processing" and refund["stripeRefundId"] not in at_stripe:
            yield "disagreeing", "the status didn't come from Stripe"
    elif status not in (400, 404, 409, 500, 503) or not {"error", "code"} <= body.keys():
        yield "disagreeing", f"{status} isn't a documented answer"
    elif code in NOTHING_MOVED and made:
        yield "disagreeing", f"the answer says {code}, and {sorted(made)} was made"
    held = sum(it.amount for it in after.refunds if it.is_live)
    if code == "purchase_not_refundable" and in_order and not after.shown and held < after.captured:
        completed = [it for it in after.purchases if it.status == "completed"]
        if len(completed) == len(after.purchases) > 0:
            yield "disagreeing", f"{held} of {after.captured} was returned, and the rest is refused"


NOT_CANCELED = ("nothing_to_resolve", "stripe_rate_limited", "stripe_key_rejected", "not_found")
"""The codes of answers that say: this call canceled nothing."""


def cancellation_is_true(
    call: Cancellation,
    status: int,
    body: Mapping[str, Any],
    before: Payment,
    after: Payment,
    *,
    in_order: bool,
) -> Broken:
    """Who cancels a refund is told what came of it. The call makes no refund, and only a waiting one ends.

    :param before: the payment before the call. No one else has acted since.
    :param in_order: whether nothing at Stripe or in the database failed or was hidden during the call.
    """
    statuses = {it.id: it.status for it in before.refunds}
    now = {it.id: it.status for it in after.refunds}
    was, is_now = statuses.get(call.stripe_refund_id or ""), now.get(call.stripe_refund_id or "")
    if now.keys() - statuses.keys():
        yield "doubled", "a cancellation made a refund"
    changed = [each for each in statuses if now[each] != statuses[each]]
    if changed and (changed, was, is_now) != ([call.stripe_refund_id], "requires_action", "canceled"):
        yield "disagreeing", f"a cancellation changed {changed}: {was} is {is_now}"
    if status == 200:
        shown = body["refund"]
        if is_now != "canceled":
            yield "disagreeing", f"the answer says that the refund was canceled, and Stripe has {is_now}"
        if (shown["stripeRefundId"], shown["status"]) != (call.stripe_refund_id, "canceled"):
            yield "disagreeing", f"the answer shows {shown['stripeRefundId']} as {shown['status']}"
    elif status not in (400, 404, 500, 503) or not {"error", "code"} <= body.keys():
        yield "disagreeing", f"{status} isn't a documented answer"
    elif body["code"] in NOT_CANCELED and is_now == "canceled" != was:
        yield "disagreeing", f"the answer says {body['code']}, and the refund was canceled"
    if in_order and was == call.shown_as == "requires_action" and status != 200:
        yield "disagreeing", f"the refund waited for the customer, and the answer is {status} {body}"


NOTHING_REFUNDED = ("not_completed", "no_payment", "not_found", "failed", "rate_limited")
"""The results of a bulk run that say: the run refunded nothing with this purchase."""


def bulk_is_true(
    results: Sequence[BulkResult], before: Mapping[str, Payment], after: Mapping[str, Payment]
) -> Broken:
    """A bulk run says about each purchase what is so at that moment, and counts each amount once.

    A run that died has no result for the purchase that it was working on.

    :param before: every payment before the run.
    """
    for payment in {each.payment for each in results}:
        own = [each for each in results if each.payment == payment]
        known = {it.id for it in before[payment].refunds}
        ours = [it for it in after[payment].refunds if it.ours]
        made = [it.id for it in ours if it.id not in known and it.is_live]
        has_all = len(own) == len(after[payment].purchases)
        if made and has_all and all(each.result in NOTHING_REFUNDED for each in own):
            yield "disagreeing", f"{made} was made, and the run says {[each.result for each in own]}"
        if not ours and any(each.result in ("refunded", "pending") for each in own):
            yield "disagreeing", f"the run says that it refunded {payment}, and Stripe doesn't"
        if sum(each.amount for each in own) > sum(it.amount for it in ours):
            yield "disagreeing", f"the run counts more than was refunded of {payment}"


def plan_is_true(
    amount: int | None, planned: Sequence[Payment], before: Sequence[StripeRefund], *, in_order: bool
) -> Broken:
    """A plan refunds nothing, and its amount is what is left of the payments of completed purchases.

    :param planned: the payments of the purchases, after the plan.
    :param before: their refunds before the plan.
    :param in_order: whether nothing at Stripe failed or was hidden.
    """
    refunds = [each.id for payment in planned for each in payment.refunds]
    if refunds != [each.id for each in before]:
        yield "doubled", "a plan made a refund"
    left = [it.captured - sum(each.amount for each in it.refunds if each.is_live) for it in planned]
    untouched = [
        it.captured
        for it in planned
        if not it.refunds and not it.is_disputed and all(each.status == "completed" for each in it.purchases)
    ]
    if (
        amount is not None
        and in_order
        and not sum(untouched) <= amount <= sum(each for each in left if each > 0)
    ):
        yield "disagreeing", f"the plan says {amount}, and {left} is left"
