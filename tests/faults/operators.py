"""What a shop's operators do: reviews, bulk runs, backups. Each keeps what the oracle needs to judge it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from werkzeug.test import TestResponse

from flask_refunds import extension
from flask_refunds.bulk import BulkPlan
from flask_refunds.core.resolution import Person
from flask_refunds.models import RefundRequest
from flask_refunds.storage.purchase_ids import PurchaseIds
from tests.faults import oracle
from tests.faults.in_process import SUSPENDED, CallFailure, call, clock
from tests.shop import Shop

if TYPE_CHECKING:
    from tests.faults.world import Journal, World

LEDGER = ("flask_refunds", "flask_refunds.state")
PARTS: Mapping[str, Sequence[str]] = {
    "ledger": LEDGER,
    "purchases": ("purchases",),
    "both": (*LEDGER, "purchases"),
}
"""What a restore from a backup brings back. The rest stays as it is now."""


@dataclass(frozen=True)
class Backup:
    """A copy of the database, and what the world knew then."""

    at: datetime
    documents: Mapping[str, Sequence[Mapping[str, Any]]]
    journals: Mapping[Any, Journal]
    seen: frozenset[tuple[str, str]]
    decisions: int
    cancellations: int
    parts: Sequence[oracle.Part]


class _Pauses(threading.Event):
    """The stop event of a bulk run: waiting for it lets time pass."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        with call(None):  # none of the run's steps
            self._world.advance(timeout or 0)
        return self.is_set()


class Operators:
    """The operators of one shop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.backup: Backup | None = None
        self.decisions: list[oracle.Decision] = []
        self.cancellations: list[oracle.Cancellation] = []
        self._facts: dict[str, Any] = {}

    # Reviews

    def resolve(
        self,
        shown: Mapping[str, Any],
        decision: str,
        *,
        checked: bool = False,
        failure: CallFailure | None = None,
    ) -> None:
        """Resolve a review as a person does, who may have looked at Stripe's Dashboard."""
        world, payment, refund_id = self._world, shown["paymentIntent"], shown["id"]
        decide = getattr(extension.get_refunds(world.web.app).manual_review, decision)
        options = {} if decision == "dismiss" else {"checked": checked}
        comment = f"Looked at it ({len(self.decisions)})."
        before = {each["id"] for each in world.refunds}
        was_live = self.is_live(payment, refund_id)
        answers = []
        person = Person("ann", "cli", comment)
        world.call(lambda: answers.append(decide(refund_id, person, **options)), failure)
        mine = [] if failure and failure.kind == SUSPENDED else world.refunds
        made = [it for it in mine if it["id"] not in before and it["payment_intent"] == payment]
        closed = any(it["id"] == refund_id and not it["review"] for it in world.list_refunds(payment))
        self._facts[comment] = world.facts(payment)
        self.decisions.append(
            oracle.Decision(
                payment,
                refund_id,
                decision,
                comment,
                code=shown["review"]["code"],
                was_processing=shown["status"] == "processing",
                is_accepted=bool(answers),
                has_closed=bool(answers) and closed,
                was_live=was_live,
                is_live=self.is_live(payment, refund_id),
                made=len(made),
            )
        )

    def is_live(self, payment: str, refund_id: str) -> bool:
        """Return whether a person sees this refund in the Dashboard, which knows each status."""
        known = self._world.unreadable
        live = [it for it in self._world.refunds if known.get(it["id"], it["status"]) not in oracle.GONE]
        of_payment = [it for it in live if it["payment_intent"] == payment]
        marks = [it["metadata"].get("refund_id") or "" for it in of_payment]
        return any(it.startswith(f"{refund_id}:") for it in marks) or any(
            refund_id.endswith(f":{it['id']}") for it in of_payment
        )

    def watch(self) -> None:
        """Note whether reviews that were closed are open again, while nothing else has happened."""
        for number, each in enumerate(self.decisions):
            if each.comment not in self._facts or not each.has_closed:
                continue
            if self._world.facts(each.payment) != self._facts[each.comment]:
                del self._facts[each.comment]
                continue
            [shown] = [it for it in self._world.list_refunds(each.payment) if it["id"] == each.refund_id]
            if shown["review"] and shown["review"]["code"] == each.code:
                self.decisions[number] = replace(each, is_reopened=True)

    # Cancellations

    def cancel(
        self, shown: Mapping[str, Any], failure: CallFailure | None, shop: Shop
    ) -> TestResponse | None:
        """Cancel a refund, and note whether Stripe did. Return ``None`` if the call was killed.

        :param shown: the refund as the person saw it in a list.
        """
        world, stripe_refund_id = self._world, self._world.id_at_stripe(shown)
        comment = f"They can't, so they get a voucher ({len(self.cancellations)})."
        path = f"/api/payments/admin/refunds/{shown['id']}/cancel"
        waited = world.status_at_stripe(stripe_refund_id) == "requires_action"
        answer: TestResponse | None = world.call(
            lambda: shop.client.post(path, json={"comment": comment}, headers=shop.headers()), failure, shop
        )
        was_alone = failure is None or failure.kind != SUSPENDED
        ended = was_alone and waited and world.status_at_stripe(stripe_refund_id) == "canceled"
        stripe_refund_id = stripe_refund_id or world.id_at_stripe(shown)  # made by another call meanwhile
        says_so = answer is not None and answer.status_code == 200
        self.cancellations.append(
            oracle.Cancellation(
                shown["paymentIntent"], comment, stripe_refund_id, shown["status"], ended or says_so
            )
        )
        return answer

    # Bulk runs

    def plan(self, name: str, purchases: Sequence[Any], shop: Shop) -> BulkPlan | None:
        """Plan a bulk run; ``None`` if Stripe or the database didn't answer."""
        bulk, plans = extension.get_refunds(shop.app).bulk, list[BulkPlan]()
        pauses = _Pauses(self._world)
        self._world.call(
            lambda: plans.append(bulk.plan(name, PurchaseIds(purchases), stop_event=pauses)), None, shop
        )
        return plans[0] if plans else None

    def run(
        self,
        name: str,
        purchases: Sequence[Any],
        shop: Shop,
        failure: CallFailure | None = None,
        *,
        stop_after: int | None = None,
    ) -> list[oracle.BulkResult]:
        """Run a bulk run, or continue it.

        :param stop_after: the number of results after which it is interrupted.
        """
        bulk, pauses = extension.get_refunds(shop.app).bulk, _Pauses(self._world)
        request = RefundRequest("ann", "cli", bulk_run=name)
        results: list[oracle.BulkResult] = []

        def refund() -> None:
            for each in bulk.run(PurchaseIds(purchases), request, stop_event=pauses):
                payment = self._world.payment_of(each.purchase_id)
                results.append(oracle.BulkResult(payment, each.result.value, each.amount or 0))
                if len(results) == stop_after:
                    pauses.set()

        self._world.call(refund, failure, shop)
        return results

    # Backups

    def back_up(self) -> None:
        """Keep a copy of everything."""
        world = self._world
        world.observe()
        self.backup = Backup(
            clock.now(),
            {name: list(world.db[name].find()) for name in PARTS["both"]},
            _copies(world.journals),
            frozenset(world.seen),
            len(self.decisions),
            len(self.cancellations),
            [part for parts in world.parts.values() for part in parts],
        )

    def restore(self, part: str) -> None:
        """Restore a part of the backup, and do what the documentation demands after that."""
        world, backup = self._world, self.backup
        if backup is None:
            return
        world.observe()
        for name in PARTS[part]:
            world.db[name].delete_many({})
            if backup.documents[name]:
                world.db[name].insert_many(backup.documents[name])
        if part != "ledger":
            world.journals = _copies(backup.journals)
        if part != "purchases":
            world.seen = set(backup.seen)  # what was forgotten can't be compared with what comes
            del self.decisions[backup.decisions :]
            del self.cancellations[backup.cancellations :]
            for payment, parts in world.parts.items():
                world.parts[payment] = [
                    replace(each, is_forgotten=each not in backup.parts) for each in parts
                ]
        self._facts.clear()
        for it in world.journals.values():
            it.changes.append(world.change("restore", it.status, it.status, it.payment))
        since = backup.at - timedelta(seconds=abs(clock.database_error))
        extension.get_refunds(world.web.app).queue.mark_purchases_unverified(since)
        world.settle_down()  # an operator who restores looks at what it says, and repeats what failed
        world.reconcile(full=True)


def _copies(journals: Mapping[Any, Journal]) -> dict[Any, Journal]:
    return {key: replace(each, changes=list(each.changes)) for key, each in journals.items()}
