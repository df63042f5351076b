"""A client for an app under test: its purchases, refunds, signals and webhooks, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import Any

from bson.dbref import DBRef
from flask import Flask
from werkzeug.test import TestResponse

from .. import signals
from ..cli.token import sign_token
from ..core.reconcile import ReconcileReport
from ..extension import _state_of, get_refunds
from ..models import Refund, id_text
from ..money import decimal_amount
from ..purchase_fields import with_field
from .app_config import check_database, make_config, open_database
from .cards import Cards
from .case_file import load_case, save_case
from .client_webhooks import ClientWebhooks
from .objects import new_id
from .process_time import process_time
from .sandbox import StripeSandbox

_SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
"""What browsers send. Without it, a request with a session's cookie is rejected."""
_SIGNALS = ("refund_pending", "refund_succeeded", "refund_failed", "refund_needs_review")


@dataclass(frozen=True)
class Purchase:
    """A purchase that :meth:`RefundsClient.purchase` made. ``amount`` is in minor units."""

    id: Any
    payment: str
    amount: int
    currency: str


@dataclass(frozen=True)
class SentSignal:
    """A signal that the app's receivers got: its name, such as ``refund_succeeded``, and the refund."""

    name: str
    refund: Refund


class RefundsClient:
    """What a test does with an app that refunds. Use it as a context manager.

    :param app: its config must have what :func:`make_config` returns. It is read again, even if the app has
        handled requests before.
    :param stripe: the sandbox of this config.
    :raises ValueError: the app uses another Stripe than this sandbox.
    """

    def __init__(self, app: Flask, stripe: StripeSandbox) -> None:
        self.app = app
        self.stripe = stripe
        self.signals: list[SentSignal] = []
        """The signals that were sent, oldest first."""
        self.purchases: list[Purchase] = []
        """What :meth:`purchase` made, oldest first."""
        self.admin_headers: Callable[[], Mapping[str, str]] = lambda: self.headers(self.admin_id)
        """Returns the headers of an admin's request. Set it to ``dict`` if :attr:`client` is signed in."""
        _state_of(app).refunds = None
        with app.app_context():
            self._refunds = get_refunds(app)
        if self._refunds.settings.stripe_api_base != stripe.url:
            raise ValueError(
                f"The app would call {self._refunds.settings.stripe_api_base} instead of the sandbox. "
                "Apply refunds_config after the app's own config."
            )
        self.db = self._refunds.database
        """The app's database."""
        self.client = app.test_client()
        """A test client, which keeps cookies."""
        self._receivers = [self._record(name) for name in _SIGNALS]
        secret = next(iter(self._refunds.settings.stripe_webhook_secret), "")
        self.webhooks = ClientWebhooks(app, stripe, path=self._path("receive_event"), secret=secret)
        self.webhooks.automatic = bool(secret)
        self._wsgi_app = app.wsgi_app
        app.wsgi_app = self.webhooks.after_each_request(app.wsgi_app)  # type: ignore[method-assign]
        stripe.after_change = self.webhooks.deliver_if_automatic

    def close(self) -> None:
        """Disconnect from the app and the sandbox, and go back to the real time."""
        process_time.reset()
        self.app.wsgi_app = self._wsgi_app  # type: ignore[method-assign]
        self.stripe.after_change = lambda: None
        for name, receiver in zip(_SIGNALS, self._receivers, strict=True):
            getattr(signals, name).disconnect(receiver, self.app)

    def __enter__(self) -> RefundsClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Users

    @cached_property
    def admin_id(self) -> str:
        """The ID of an admin, as a token names them. Set it to that of a user of yours, if the app tells
        admins by other fields than ``role``."""
        return self._add_user("admin")[0]

    @cached_property
    def customer_id(self) -> str:
        """The ID of the user who owns the purchases, as a token names them."""
        return self._customer[0]

    @cached_property
    def _customer(self) -> tuple[str, Any]:
        return self._add_user("user")

    def headers(self, user_id: Any) -> dict[str, str]:
        """Return request headers with a fresh token of a user.

        :raises ValueError: the app's config has no secret to sign tokens with.
        """
        settings = self._refunds.verifier.settings
        try:
            token = sign_token(settings, str(user_id), 3600)
        except ValueError as error:
            raise ValueError(
                f"{error} In a test, set refunds.admin_headers, or pass headers to refunds.refund()."
            ) from None
        return {settings.jwt_header_name: f"{settings.jwt_header_type} {token}".lstrip()}

    # Purchases and refunds

    def purchase(
        self,
        amount: int,
        currency: str = "usd",
        card: str = Cards.SUCCEEDS,
        *,
        payment: str | None = None,
        **fields: Any,
    ) -> Purchase:
        """Pay with a test card, and store a completed purchase in the fields that the app's config names.

        :param amount: in minor units.
        :param payment: a payment of the sandbox; by default a new one.
        :param fields: more fields of the document. They override the ones set here.
        """
        settings = self._refunds.settings
        payment = payment or self.stripe.create_payment(amount, currency, card)
        document = self._document(payment, amount, currency) | fields
        stored = self.db[settings.refunds_purchases_collection].insert_one(document)
        self.purchases.append(Purchase(stored.inserted_id, payment, amount, currency))
        return self.purchases[-1]

    def refund(
        self, purchase: Any, *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> TestResponse:
        """Request a refund, like a page of the app's own origin.

        :param purchase: a :class:`Purchase`, or a purchase's ID, also as text.
        :param headers: the headers of the caller; by default of an admin.
        :param fields: fields of the request's body, such as ``reason``.
        """
        path = self._path("refund_purchase", "POST", purchase_id=id_text(_id_of(purchase)))
        sent = self.admin_headers() if headers is None else headers
        return self.client.post(path, headers=_SAME_ORIGIN | dict(sent), json=fields or None)

    def reload(self, purchase: Any) -> dict[str, Any]:
        """Return a purchase's document as it is stored now.

        :param purchase: a :class:`Purchase`, or a purchase's ID, also as text.
        :raises LookupError: it isn't stored.
        """
        wanted = _id_of(purchase)
        found = self._find_purchase(wanted)
        if found is None and isinstance(wanted, str):
            found = self._find_purchase(self._refunds.purchases.resolve([wanted]).get(wanted))
        if found is None:
            raise LookupError(f"No purchase has the ID {wanted!r}.")
        return found

    def _find_purchase(self, purchase_id: Any) -> dict[str, Any] | None:
        purchases = self.db[self._refunds.settings.refunds_purchases_collection]
        found: dict[str, Any] | None = purchases.find_one({"_id": purchase_id})
        return found

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """The stored refund records, oldest first."""
        records = self.db[self._refunds.settings.refunds_collection]
        return list(records.find().sort([("createdAt", 1), ("_id", 1)]))

    def reconcile(self) -> ReconcileReport:
        """Make a whole reconcile pass now, also over what has just changed, and at no limited rate.

        :return: what it found. It is the result of ``flask refunds reconcile``.
        """
        with self.app.app_context():
            report = self._refunds.reconciler.run(self._refunds.reconciler.find(timedelta(0)))
            report.sweep = self._refunds.sweep.run(full=True)
            report.reviews = self._refunds.queue.find_needing_review()
        self.webhooks.deliver_if_automatic()
        return report

    # Cases

    def save(self, path: str | PathLike[str]) -> None:
        """Save all that the sandbox and the database hold to a file, with the time."""
        save_case(path, self.stripe, self.db, [asdict(purchase) for purchase in self.purchases])

    def load(self, path: str | PathLike[str]) -> list[Purchase]:
        """Replace all that the sandbox and the database hold by a saved case, and go back to its time.

        :return: the case's :attr:`purchases`.
        :raises ValueError: the file isn't a case, or was saved by another version.
        """
        self.purchases[:] = [Purchase(**each) for each in load_case(path, self.stripe, self.db)]
        process_time.move(self.stripe.now() - time.time())
        for name in ("admin_id", "_customer", "customer_id"):
            vars(self).pop(name, None)
        return list(self.purchases)

    # Time

    def travel(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move time forward: of this process, of the sandbox, and of what this library reads from MongoDB.

        Pending refunds settle, and their events are delivered. Tokens that were issued before can expire.
        """
        passed = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        process_time.move(passed)
        self.stripe.advance(passed)

    # Internals

    def _path(self, view: str, method: str = "POST", **values: str) -> str:
        """Return the path of one of this library's views, wherever the app has mounted it."""
        for rule in self.app.url_map.iter_rules():
            if rule.endpoint.rpartition(".")[2] == view and method in (rule.methods or ()):
                return self.app.url_map.bind("localhost").build(rule.endpoint, values, method=method)
        raise LookupError("The app has no refund endpoints: call app.register_blueprint(refunds_bp).")

    def _document(self, payment: str, amount: int, currency: str) -> dict[str, Any]:
        settings, shape = self._refunds.settings, self._refunds.settings.purchase_fields
        is_minor = shape.amount_in_minor_units
        values = {
            shape.payment: payment,
            shape.status: shape.completed_words[0],
            shape.user: self._customer[1],
            shape.amount: amount if is_minor else float(decimal_amount(amount, currency)),
            shape.currency: currency,
        }
        if shape.created:
            values[shape.created] = datetime.now(timezone.utc)
        document: dict[str, Any] = {}
        for path, value in values.items():
            if path.endswith(".$id"):
                path, value = path.removesuffix(".$id"), DBRef(settings.refunds_users_collection, value)
            document = with_field(document, path, value)
        return document

    def _add_user(self, role: str) -> tuple[str, Any]:
        """Store a user, and return the ID in tokens and the ID in other documents."""
        settings, name = self._refunds.settings, f"{role}-{new_id('test')}@shop.example"
        document: dict[str, Any] = {"role": role, "name": f"The {role} of the tests"}
        if settings.user_id_field != "_id":
            document = with_field(document, settings.user_id_field, name)
        stored = self.db[settings.refunds_users_collection].insert_one(document).inserted_id
        return (str(stored) if settings.user_id_field == "_id" else name), stored

    def _record(self, name: str) -> Callable[..., None]:
        def receive(sender: Flask, *, refund: Refund, **_: Any) -> None:
            self.signals.append(SentSignal(name, refund))

        getattr(signals, name).connect(receive, self.app, weak=False)
        return receive


@contextmanager
def open_client(
    create_app: Callable[[dict[str, Any]], Flask], *, mongo_uri: str | None = None
) -> Iterator[RefundsClient]:
    """Yield a client for an app, with a sandbox and an empty database of its own.

    The pytest plugin does this with fixtures. Use this function with unittest or in a script.

    :param create_app: called with the config of :func:`make_config`.
    :param mongo_uri: of a MongoDB server; by default, mongomock simulates one.
    :raises FaultNotUsed: a fault that was injected wasn't applied to any request.
    :raises ValueError: the app uses another Stripe or another database than this config names.
    """
    with StripeSandbox() as stripe, open_database(mongo_uri) as database:
        with RefundsClient(create_app(make_config(stripe, **database)), stripe) as client:
            check_database(client.db, database)
            yield client
        stripe.assert_faults_used()


def _id_of(purchase: Any) -> Any:
    return purchase.id if isinstance(purchase, Purchase) else purchase
