"""A shop, its Stripe account and everyone who acts on them, in one thread, with the time under control.

The world plays, keeps a journal of what the app did and what people were told, and describes each payment to
the oracle. It judges nothing itself.
"""

from __future__ import annotations

import contextvars
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
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
from flask_refunds.testing import ApiError, StripeSandbox, signed_event
from flask_refunds.testing.api_versions import API_VERSION
from tests.faults import oracle
from tests.faults.in_process import (
    BASE,
    CallFailure,
    call,
    clock,
    connect_sandbox,
    kill_current_call,
    show_dates,
    take_step,
)
from tests.faults.operators import Operators
from tests.shop import Shop, open_app

SECRET = "whsec_of_the_histories_0123456789"
SIGNALS = (refund_pending, refund_succeeded, refund_failed, refund_needs_review)
WEBHOOK_PATH = "/api/payments/webhook/refunds"
PAGE = 100

HANG, WAIT = "hang", "wait"
RECEIVERS = ("work", "raise", "exit", HANG, WAIT)
"""What receivers do: one that hangs is killed with its process, and one that waits returns at last."""
LONGER_THAN_A_LEASE = 600
A_CALL = 60
"""After so many seconds no call is in progress. The next pass then forgets the marks of failed refunds."""

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
        clock.seconds = clock.database_error = clock.latest = 0.0
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
        self.journals: dict[Any, Journal] = {}
        self.told: set[tuple[str, str, bool]] = set()
        self.parts: defaultdict[str, list[oracle.Part]] = defaultdict(list)
        self.wanted: dict[Any, dict[str, Any]] = {}
        self.seen: set[tuple[str, str]] = set()
        self._ever: defaultdict[str, set[str | None]] = defaultdict(set)
        self._releases: set[str] = set()
        self.operators = Operators(self)
        self._is_waiting = False
        self._last_call_at, self._quiet_passes = float("-inf"), 0
        self._captured_at: dict[str, int] = {}
        """What a payment had captured when a refund of it last succeeded."""
        self._failed_at: defaultdict[Any, int] = defaultdict(lambda: -2)
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
        options = {"STRIPE_WEBHOOK_SECRET": SECRET, "REFUNDS_ALLOW_PARTIAL": True}
        app = open_app(REFUNDS_MONGO=self.db, STRIPE_API_BASE=BASE, **options)
        shop = Shop(app, self.db)
        extension.get_refunds(app)
        return shop

    def _receive(self, app: Any, refund: Any, **extra: Any) -> None:
        def hear() -> None:
            self._see(refund.stripe_refund_id, refund.status.value)
            if self.receivers in (HANG, WAIT):
                contextvars.Context().run(self._let_others_act, "reconcile", self.web)
            if self.receivers == HANG:
                kill_current_call()
            if self.receivers == "raise":
                raise ReceiverFailed
            if self.receivers == "exit":
                raise SystemExit
            self.told.add((refund.id, refund.status.value, refund.review is not None))

        take_step(hear, at_database=False)

    def _see(self, stripe_refund_id: str | None, status: str) -> None:
        if stripe_refund_id:
            self.seen.add((stripe_refund_id, status))

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
        changes = [self.change("app", status, status, payment)] if later else []
        self.journals[purchase] = Journal(status, payment, status, changes)

    @property
    def purchase_statuses(self) -> list[Any]:
        """The statuses of the purchases, oldest first, as the world last saw them."""
        return [journal.status for journal in self.journals.values()]

    def payment_of(self, purchase: Any) -> str:
        """Return the payment of a purchase."""
        return str(self.journals[purchase].payment)

    @property
    def is_in_order(self) -> bool:
        """Whether nothing at Stripe or in the database is failing or hidden now."""
        return not (self.sandbox._faults._injected or self.hidden or self.unreadable or self.blocked)

    @property
    def purchases(self) -> list[Any]:
        """The IDs of the purchases that exist, oldest first."""
        return list(self.journals)

    def rename_status(self, purchase: Any, status: str) -> None:
        """Change a purchase's status as the app does."""
        self.observe()
        journal = self.journals[purchase]
        if journal.status != status:
            self.db.purchases.update_one({"_id": purchase}, {"$set": {"status": status}})
            journal.changes.append(self.change("app", journal.status, status, journal.payment))
            journal.status = status

    def repoint(self, purchase: Any, payment: str) -> None:
        """Give a purchase another payment. Its status is kept, whatever it means there."""
        self.observe()
        journal = self.journals[purchase]
        if journal.payment != payment:
            self.db.purchases.update_one({"_id": purchase}, {"$set": {"stripePaymentIntentId": payment}})
            journal.changes.append(self.change("app", journal.status, journal.status, payment))
            journal.payment = payment

    def delete_purchase(self, purchase: Any) -> None:
        """Delete a purchase as the app does."""
        self.db.purchases.delete_one({"_id": purchase})
        del self.journals[purchase]

    def _is_unfinished_here(self, payment: str) -> bool:
        """Return whether the shop sees an open refund, or one whose purchase couldn't be updated."""
        for each in self.db.flask_refunds.find({"paymentIntent": payment}):
            review = (each.get("review") or {}).get("code")
            if each["status"] in oracle.OPEN or review == "purchase_not_updated":
                return True
        return False

    def change(self, by: Any, before: Any, after: Any, payment: Any) -> oracle.Change:
        """Return a change of a purchase, with what was so at Stripe at that moment."""
        refunds = self.refunds_of(payment) if payment in self.payments else []
        return oracle.Change(
            by,
            before,
            after,
            payment,
            self._captured_at.get(payment, self._captured(payment)),
            beside_open=any(
                each["metadata"].get("refund_id") and each["status"] not in ("succeeded", *oracle.GONE)
                for each in refunds
            )
            or self._quiet_passes - self._failed_at[payment] < 2
            or self._is_unfinished_here(payment),
            beside_returned=any(
                each["status"] in oracle.GONE
                or ("succeeded" in self._ever[each["id"]] and each["status"] != "succeeded")
                for each in refunds
            ),
        )

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
        return [each for payment in self.payments for each in self.refunds_of(payment)]

    def refunds_of(self, payment: str) -> list[Mapping[str, Any]]:
        """Every refund at Stripe of one payment, oldest first."""
        return [each for each in self.sandbox.refunds(payment) if each["id"] not in self._releases]

    def id_at_stripe(self, shown: Mapping[str, Any]) -> str | None:
        """Return Stripe's ID of a listed refund, also if only Stripe knows it yet."""
        made = ((each["id"], (each.get("metadata") or {}).get("refund_id", "")) for each in self.refunds)
        found = (stripe_id for stripe_id, requested in made if requested.startswith(f"{shown['id']}:"))
        return shown["stripeRefundId"] or next(found, None)

    def status_at_stripe(self, stripe_refund_id: str | None) -> Any:
        """Return the status that a refund has at Stripe, whatever it shows, or ``None``."""
        statuses = {each["id"]: each["status"] for each in self.refunds}
        return self.unreadable.get(stripe_refund_id or "", statuses.get(stripe_refund_id))

    # Calls of the library

    def refund(
        self, purchase: Any, body: Any, failure: CallFailure | None, shop: Shop
    ) -> TestResponse | None:
        """Request a refund as an admin; ``None`` if the call was killed."""
        options = {"json": body} if body else {}
        return self.call(lambda: shop.refund(str(purchase), **options), failure, shop)

    def look(self, purchase: Any) -> tuple[int, int] | None:
        """Return what is left of a purchase's payment, and the number of its next refund."""
        path = f"/api/payments/admin/refund/{purchase}"
        answer = self.call(lambda: self.web.client.get(path, headers=self.web.headers()), None)
        if answer is None or answer.status_code != 200:
            return None
        shown = answer.get_json()
        return shown["payment"]["refundable"], shown["number"]

    def want_part(self, purchase: Any, *, numbered: bool, closes: bool) -> dict[str, Any] | None:
        """Look at a payment, and return the body of a call that refunds a part which no other call names."""
        view = self.look(purchase)
        payment = self.payment_of(purchase)
        amount = 101 + sum(map(len, self.parts.values()))
        if view is None or view[0] < amount:
            return None
        self.parts[payment].append(oracle.Part(str(purchase), amount, closes))
        number = {"number": view[1]} if numbered else {}
        return {"amount": amount, "refundable": view[0], "markRefunded": closes, **number}

    def events(self, *, thin: bool = False) -> list[dict[str, Any]]:
        """Return Stripe's events so far, oldest first."""
        return self.sandbox.thin_events if thin else self.sandbox.events

    def deliver(self, event: Mapping[str, Any], failure: CallFailure | None = None) -> TestResponse | None:
        """Send an event to the webhook."""
        body, headers = signed_event(event, SECRET)
        return self.call(lambda: self.web.client.post(WEBHOOK_PATH, data=body, headers=headers), failure)

    def reconcile(
        self, failure: CallFailure | None = None, shop: Shop | None = None, *, full: bool = False
    ) -> None:
        """Run one pass with its sweep. Recent changes are included: no other call is in progress."""
        shop = shop or self.web
        refunds = extension.get_refunds(shop.app)

        def run() -> None:
            refunds.reconciler.run(refunds.reconciler.find(timedelta(0)))
            refunds.sweep.run(full=full)

        is_quiet = failure is None and self.is_in_order and self.receivers == "work"
        is_quiet = is_quiet and clock.seconds - self._last_call_at >= A_CALL
        self.call(run, failure, shop)
        self._quiet_passes += is_quiet

    def _let_others_act(self, action: str, waiting: Shop) -> None:
        """Let time pass and others act, while a process is suspended or its receiver hangs."""
        if self._is_waiting:  # a second one that hangs is killed
            return
        self._is_waiting = True
        try:
            with call(None):
                self.advance(LONGER_THAN_A_LEASE)
                OTHERS[action](self, self.worker if waiting is self.web else self.web)
        finally:
            self._is_waiting = False

    def call(self, action: Callable[[], Any], failure: CallFailure | None, shop: Shop | None = None) -> Any:
        """Make a call, which may be killed, suspended or fail; then look at what it did.

        :param shop: the process that makes it.
        """
        answer = None
        self._last_call_at = clock.seconds
        others = partial(self._let_others_act, failure.meanwhile if failure else "nothing", shop or self.web)
        with call(failure, others), self._with_refusals(), suppress(RefundsError, StripeCallError):
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
        self.let_clocks_agree()
        self.observe()

    def let_clocks_agree(self) -> None:
        """Correct MongoDB's clock, wait until no stored time is ahead, and let Stripe show its time."""
        clock.database_error = 0.0
        self.advance(max(0.0, clock.latest - clock.seconds))
        show_dates(True)

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
            if refund["status"] in oracle.GONE and not self._ever[refund["id"]] & {*oracle.GONE}:
                self._failed_at[refund["payment_intent"]] = self._quiet_passes
            if refund["status"] == "succeeded" and "succeeded" not in self._ever[refund["id"]]:
                self._captured_at[refund["payment_intent"]] = self._captured(refund["payment_intent"])
            self._ever[refund["id"]].add(refund["status"])
            if refund["status"] in oracle.KNOWN:
                self.unreadable.pop(refund["id"], None)  # it has got another status since
        for document in list(self.db.purchases.find({}, {"status": 1, "stripePaymentIntentId": 1})):
            journal = self.journals[document["_id"]]
            if document["status"] != journal.status:
                journal.changes.append(
                    self.change("library", journal.status, document["status"], journal.payment)
                )
                if document["status"] == "completed":
                    self._failed_at[journal.payment] = self._quiet_passes
                journal.status = document["status"]
            assert document["stripePaymentIntentId"] == journal.payment, "the payment field was changed"

    def describe(self, payment: str, *, shown: Sequence[Mapping[str, Any]] = ()) -> oracle.Payment:
        """Return a payment as the oracle needs it."""
        return oracle.Payment(
            payment,
            self._captured(payment),
            [self._describe_refund(each) for each in self.refunds_of(payment)],
            [
                oracle.Purchase(
                    str(key), it.status, it.payment, it.first_status, it.changes, key in self.blocked
                )
                for key, it in self.journals.items()
                if it.payment == payment
            ],
            shown,
            frozenset(self.told),
            frozenset(self.seen),
            payment in self.hidden,
            [each for each in self.operators.decisions if each.payment == payment],
            [each for each in self.operators.cancellations if each.payment == payment],
            self.parts[payment],
            self.sandbox.charge(payment)["disputed"],
        )

    def facts(self, payment: str) -> Any:
        """Return everything that a person's decision about a payment can depend on."""
        fields = ("id", "status", "amount", "pending_reason", "failure_reason")
        refunds = [tuple(map(each.get, fields)) for each in self.refunds_of(payment)]
        purchases = [
            (key, it.status, it.payment, key in self.blocked)
            for key, it in self.journals.items()
            if it.payment == payment
        ]
        return self._captured(payment), payment in self.hidden, refunds, purchases

    def _describe_refund(self, refund: Mapping[str, Any]) -> oracle.StripeRefund:
        return oracle.StripeRefund(
            refund["id"],
            refund["amount"],
            refund["status"],
            refund["metadata"].get("refund_id"),
            frozenset(self._ever[refund["id"]]),
            refund.get("pending_reason"),
            refund.get("failure_reason"),
            refund["destination_details"]["card"]["reference"],
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
        self.operators.watch()
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


def _refund_everything(world: World, other: Shop) -> None:
    for purchase in world.purchases:
        world.refund(purchase, None, None, other)


def _refund_in_dashboard(world: World, other: Shop) -> None:
    for payment in world.payments:
        with suppress(ApiError, ValueError):
            world.sandbox.dashboard_refund(payment, 500)


def _return_everything(world: World, other: Shop) -> None:
    for each in world.refunds:
        with suppress(ApiError, ValueError):
            world.sandbox.settle(each["id"], "failed", "unknown")


def _end_waiting(world: World, other: Shop, status: str) -> None:
    for each in world.refunds:
        if each["status"] == "requires_action":
            world.sandbox.settle(each["id"], status)


def _deliver_everything(world: World, other: Shop) -> None:
    if world.webhooks:
        for event in world.events():
            world.deliver(event)


OTHERS: Mapping[str, Callable[[World, Shop], None]] = {
    "nothing": lambda world, other: None,
    "reconcile": lambda world, other: world.reconcile(shop=other),
    "refund": _refund_everything,
    "dashboard": _refund_in_dashboard,
    "bank": _return_everything,
    "customer": partial(_end_waiting, status="succeeded"),
    "support cancels": partial(_end_waiting, status="canceled"),
    "webhook": _deliver_everything,
}
"""Who acts while a process is suspended: another process, another admin, support, a bank, customers whose
refund waits for them, or Stripe."""
