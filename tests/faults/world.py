"""A shop, its Stripe account and everyone who acts on them, in one thread, with the time under control.

The world plays, keeps a journal of what the app did and what people were told, and describes each payment to
the oracle. It judges nothing itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import mongomock
import mongomock.collection
import pymongo.collection
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError
from werkzeug.test import TestResponse

from flask_refunds import (
    extension,
    refund_failed,
    refund_needs_review,
    refund_pending,
    refund_succeeded,
)
from flask_refunds.errors import RefundsError, StripeCallError
from flask_refunds.testing import StripeSandbox, signed_event
from flask_refunds.testing.api_versions import API_VERSION
from tests.faults import oracle
from tests.faults.in_process import BASE, START, CallFailure, call, clock, connect_sandbox, take_step
from tests.shop import Shop, make_app

SECRET = "whsec_of_the_histories_0123456789"
SIGNALS = (refund_pending, refund_succeeded, refund_failed, refund_needs_review)
WEBHOOK_PATH = "/api/payments/webhook/refunds"
PAGE = 100

REFUSALS: Mapping[str, Callable[[], Exception]] = {
    "unique index": lambda: DuplicateKeyError("E11000 duplicate key error", 11000),
    "validator": lambda: WriteError("Document failed validation", 121),
    "privilege": lambda: OperationFailure("not authorized on shop to execute command", 13),
    "view": lambda: OperationFailure("Namespace shop.purchases is a view", 166),
}
"""Why a database refuses a new status, however often it is tried."""


class ReceiverFailed(Exception):
    """A receiver of the app raised."""


@dataclass
class Journal:
    """What the app did to a purchase, and how it was when the world last looked."""

    status: Any
    payment: Any
    first_status: Any
    changes: list[oracle.Change]


class World:
    """One shop.

    :param limit: whether Stripe refuses to refund more than was captured.
    :param webhooks: whether the shop has a webhook endpoint.
    :param api_version: the account's default version at Stripe. The library doesn't depend on it.
    :param database: an empty database; by default one of mongomock.
    """

    def __init__(
        self, *, limit: bool, webhooks: bool, api_version: str = API_VERSION, database: Any = None
    ) -> None:
        clock.seconds = 0.0
        self.limit = limit
        self.webhooks = webhooks
        self.sandbox = StripeSandbox(
            enforce_amount_limit=limit, api_version=api_version, clock=clock.timestamp
        )
        connect_sandbox(self.sandbox)
        self.db: Any = mongomock.MongoClient(tz_aware=True).shop if database is None else database
        self.web = self._open_process()
        self.worker = self._open_process()
        self.receivers = "work"
        self.payments: list[str] = []
        self.blocked: dict[Any, str] = {}
        self.hidden: set[str] = set()
        self.unreadable: dict[str, str] = {}
        self._journals: dict[Any, Journal] = {}
        self.told: set[tuple[str, str, bool]] = set()
        self._seen: set[tuple[str, str]] = set()
        self._ever: defaultdict[str, set[str | None]] = defaultdict(set)
        self._releases: set[str] = set()
        self._backup: dict[str, list[dict[str, Any]]] = {}
        self._receiver = self._receive  # signals keep only weak references
        for signal in SIGNALS:
            signal.connect(self._receiver, sender=self.web.app)
        self._start_business()

    def _start_business(self) -> None:
        """Refund once in the process that has the receivers, so that the others know of them."""
        purchase = self.web.add_purchase(self.sandbox.create_payment(1))
        assert self.web.refund(purchase).status_code == 200
        self.db.purchases.delete_one({"_id": purchase})

    def _open_process(self) -> Shop:
        app = make_app(REFUNDS_MONGO=self.db, STRIPE_API_BASE=BASE, STRIPE_WEBHOOK_SECRET=SECRET)
        shop = Shop(app, self.db)
        extension.get_refunds(app)
        return shop

    def _receive(self, app: Any, refund: Any, **extra: Any) -> None:
        def hear() -> None:
            self._see(refund.stripe_refund_id, refund.status.value)
            if self.receivers == "raise":
                raise ReceiverFailed
            if self.receivers == "exit":
                raise SystemExit
            self.told.add((refund.id, refund.status.value, refund.review is not None))

        take_step(hear, at_database=False)

    def _see(self, stripe_refund_id: str | None, status: str) -> None:
        if stripe_refund_id:
            self._seen.add((stripe_refund_id, status))

    # The app

    def pay(self, amount: int, cart: int, **options: Any) -> str:
        """Create a payment at Stripe, and its purchases."""
        payment = self.sandbox.create_payment(amount, **options)
        self.payments.append(payment)
        for _ in range(cart):
            self.add_purchase(payment)
        return payment

    def add_purchase(self, payment: str, status: str = "completed", *, later: bool = False) -> None:
        """Store a purchase.

        :param later: whether it got its payment after that may have been refunded.
        """
        purchase = self.web.add_purchase(payment, status)
        changes = [self._change("app", status, status, payment)] if later else []
        self._journals[purchase] = Journal(status, payment, status, changes)

    @property
    def purchase_statuses(self) -> list[Any]:
        """The statuses of the purchases, oldest first, as the world last saw them."""
        return [journal.status for journal in self._journals.values()]

    def payment_of(self, purchase: Any) -> str:
        """Return the payment of a purchase."""
        return str(self._journals[purchase].payment)

    @property
    def is_in_order(self) -> bool:
        """Whether nothing at Stripe or in the database is failing or hidden now."""
        return not (self.sandbox._faults._injected or self.hidden or self.unreadable or self.blocked)

    @property
    def purchases(self) -> list[Any]:
        """The IDs of the purchases that exist, oldest first."""
        return list(self._journals)

    def rename_status(self, purchase: Any, status: str) -> None:
        """Change a purchase's status as the app does."""
        self.observe()
        journal = self._journals[purchase]
        if journal.status != status:
            self.db.purchases.update_one({"_id": purchase}, {"$set": {"status": status}})
            journal.changes.append(self._change("app", journal.status, status, journal.payment))
            journal.status = status

    def repoint(self, purchase: Any, payment: str) -> None:
        """Give a purchase another payment. Its status is kept, whatever it means there."""
        self.observe()
        journal = self._journals[purchase]
        if journal.payment != payment:
            self.db.purchases.update_one({"_id": purchase}, {"$set": {"stripePaymentIntentId": payment}})
            journal.changes.append(self._change("app", journal.status, journal.status, payment))
            journal.payment = payment

    def delete_purchase(self, purchase: Any) -> None:
        """Delete a purchase as the app does."""
        self.db.purchases.delete_one({"_id": purchase})
        del self._journals[purchase]

    def _change(self, by: Any, before: Any, after: Any, payment: Any) -> oracle.Change:
        beside_open = any(
            each["metadata"].get("refund_id") and each["status"] not in ("succeeded", *oracle.GONE)
            for each in self.refunds
            if each["payment_intent"] == payment
        )
        return oracle.Change(by, before, after, payment, self._captured(payment), beside_open)

    def _captured(self, payment: Any) -> int:
        if payment not in self.payments:
            return 0
        return int(self.sandbox.payment_intent(payment)["amount_received"])

    @property
    def authorized_payments(self) -> list[str]:
        """The payments of which something can be captured, oldest first."""
        return [each for each in self.payments if self.sandbox.payment_intent(each)["amount_capturable"]]

    def capture(self, payment: str, amount: int | None, *, final: bool, api_version: str | None) -> None:
        """Capture an authorization. A release isn't a refund, even if Stripe stores it as one."""
        before = {each["id"] for each in self.sandbox.refunds(payment)}
        self.sandbox.capture(payment, amount, final=final, api_version=api_version)
        self._releases |= {each["id"] for each in self.sandbox.refunds(payment)} - before

    def cancel_authorization(self, payment: str, *, api_version: str | None) -> None:
        """Cancel what isn't captured of an authorization."""
        before = {each["id"] for each in self.sandbox.refunds(payment)}
        self.sandbox.cancel_payment(payment, api_version=api_version)
        self._releases |= {each["id"] for each in self.sandbox.refunds(payment)} - before

    @property
    def refunds(self) -> list[Mapping[str, Any]]:
        """Every refund at Stripe of a payment of this world, oldest first."""
        found = [each for payment in self.payments for each in self.sandbox.refunds(payment)]
        return [each for each in found if each["id"] not in self._releases]

    # Calls of the library

    def refund(
        self, purchase: Any, body: Any, failure: CallFailure | None, shop: Shop
    ) -> TestResponse | None:
        """Request a refund as an admin; ``None`` if the call was killed."""
        options = {"json": body} if body else {}
        return self._call(lambda: shop.refund(str(purchase), **options), failure)

    def events(self, *, thin: bool = False) -> list[dict[str, Any]]:
        """Return Stripe's events so far, oldest first."""
        return self.sandbox.thin_events if thin else self.sandbox.events

    def deliver(self, event: Mapping[str, Any], failure: CallFailure | None = None) -> TestResponse | None:
        """Send an event to the webhook."""
        body, headers = signed_event(event, SECRET)
        return self._call(lambda: self.web.client.post(WEBHOOK_PATH, data=body, headers=headers), failure)

    def reconcile(
        self, failure: CallFailure | None = None, shop: Shop | None = None, *, full: bool = False
    ) -> None:
        """Run one pass with its sweep. Recent changes are included: no other call is in progress."""
        refunds = extension.get_refunds((shop or self.web).app)

        def run() -> None:
            refunds.reconciler.run(refunds.reconciler.find(timedelta(0)))
            refunds.sweep.run(full=full)

        self._call(run, failure)

    def resolve(
        self, refund_id: str, decision: str, *, checked: bool = False, failure: CallFailure | None = None
    ) -> None:
        """Resolve a review as a person does, who may have looked at Stripe's Dashboard."""
        manual_review = extension.get_refunds(self.web.app).manual_review
        decide = getattr(manual_review, decision)
        options = {} if decision == "dismiss" else {"checked": checked}
        self._call(lambda: decide(refund_id, name="ann", comment="Looked at it.", **options), failure)

    def _call(self, action: Callable[[], Any], failure: CallFailure | None) -> Any:
        """Make a call, which may be killed or fail; then look at what it did."""
        answer = None
        with call(failure), self._with_refusals(), suppress(RefundsError, StripeCallError):
            answer = action()
        if isinstance(answer, TestResponse) and answer.is_json:
            refund = answer.get_json().get("refund") or {}
            self._see(refund.get("stripeRefundId"), refund.get("status", ""))
        self.observe()
        return answer

    # The database

    @contextmanager
    def _with_refusals(self) -> Iterator[None]:
        """Let the database refuse new statuses of the blocked purchases."""
        kind = mongomock.collection.Collection if _is_mongomock(self.db) else pymongo.collection.Collection
        update_many = kind.update_many

        def refuse(collection: Any, query: Any, update: Any, *args: Any, **options: Any) -> Any:
            if collection.name != "purchases" or "status" not in update.get("$set", {}):
                return update_many(collection, query, update, *args, **options)
            matched = [each["_id"] for each in collection.find(query, {"_id": 1})]
            refused = [each for each in matched if each in self.blocked]
            if not refused:
                return update_many(collection, query, update, *args, **options)
            first = matched[: matched.index(refused[0])]
            update_many(collection, {**query, "_id": {"$in": first}}, update)
            raise REFUSALS[self.blocked[refused[0]]]()

        with mock.patch.object(kind, "update_many", refuse):
            yield

    def back_up(self) -> None:
        """Keep a copy of the ledger."""
        self._backup = {name: list(self.db[name].find()) for name in ("flask_refunds", "flask_refunds.state")}

    def restore(self) -> None:
        """Restore the ledger, and do what the documentation demands after that."""
        for name, documents in self._backup.items():
            self.db[name].delete_many({})
            if documents:
                self.db[name].insert_many(documents)
        for journal in self._journals.values():  # the ledger forgot which marks were its own
            journal.changes.append(self._change("app", journal.status, journal.status, journal.payment))
        extension.get_refunds(self.web.app).queue.mark_purchases_unverified(START)
        self.settle_down()  # an operator who restores looks at what it says, and repeats what failed
        self.reconcile(full=True)

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass, for the shop and for Stripe."""
        clock.seconds += seconds
        self.sandbox.advance(0)
        self.observe()

    def settle_down(self) -> None:
        """End every fault, and let everything happen that is only delayed."""
        self.sandbox.clear_faults()
        self.sandbox._handler.close_hanging()
        self.sandbox._handler.execute_late()
        self.receivers = "work"
        self.observe()

    @property
    def has_delayed_requests(self) -> bool:
        """Whether Stripe has requests that it hasn't executed yet."""
        return bool(self.sandbox._handler._late)

    # Looking

    def observe(self) -> None:
        """Note what changed at Stripe and in the purchases since the last look."""
        for payment in self.hidden:
            self.sandbox.hide(payment)  # with the refunds that it has got since
        for refund in self.refunds:
            self._ever[refund["id"]].add(refund["status"])
        for document in list(self.db.purchases.find({}, {"status": 1, "stripePaymentIntentId": 1})):
            journal = self._journals[document["_id"]]
            if document["status"] != journal.status:
                journal.changes.append(
                    self._change("library", journal.status, document["status"], journal.payment)
                )
                journal.status = document["status"]
            assert document["stripePaymentIntentId"] == journal.payment, "the payment field was changed"

    def describe(self, payment: str, *, shown: Sequence[Mapping[str, Any]] = ()) -> oracle.Payment:
        """Return a payment as the oracle needs it."""
        return oracle.Payment(
            payment,
            self._captured(payment),
            [self._describe_refund(each) for each in self.refunds if each["payment_intent"] == payment],
            [
                oracle.Purchase(
                    str(key), it.status, it.payment, it.first_status, it.changes, key in self.blocked
                )
                for key, it in self._journals.items()
                if it.payment == payment
            ],
            shown,
            frozenset(self.told),
            frozenset(self._seen),
            payment in self.hidden,
        )

    def _describe_refund(self, refund: Mapping[str, Any]) -> oracle.StripeRefund:
        return oracle.StripeRefund(
            refund["id"],
            refund["amount"],
            refund["status"],
            refund["metadata"].get("refund_id"),
            frozenset(self._ever[refund["id"]]),
            refund.get("pending_reason"),
            refund.get("failure_reason"),
        )

    def list_refunds(self, payment: str) -> list[Mapping[str, Any]]:
        """Return what the library shows of a payment's refunds."""
        path = f"/api/payments/admin/refunds?paymentIntent={payment}&history=true&limit={PAGE}"
        answer = self.web.client.get(path, headers=self.web.headers())
        assert answer.status_code == 200, answer.text
        refunds: list[Mapping[str, Any]] = answer.get_json()["refunds"]
        return refunds

    def broken_promises(self, *, at_the_end: bool) -> list[tuple[str, str, str]]:
        """Return every broken promise: its kind, the payment and what was seen."""
        found = []
        for payment in self.payments:
            shown = self.list_refunds(payment) if at_the_end else ()
            described = self.describe(payment, shown=shown)
            found += [
                (kind, payment, seen)
                for kind, seen in oracle.broken_promises(described, at_the_end=at_the_end)
            ]
        return found


def _is_mongomock(database: Any) -> bool:
    return not isinstance(database, pymongo.database.Database)
