"""One app's refunds: everything below HTTP, built from the app's config at first use."""

from __future__ import annotations

import os
import threading
import weakref
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from flask import Flask, current_app

from .clock import now
from .config import Settings, read_settings
from .core.preview import Previewer
from .core.reconcile import Reconciler
from .core.resolution import AttentionDesk
from .core.service import RefundService
from .core.stripe_sync import Intake
from .core.transitions import Books
from .core.webhook_events import EventHandler
from .identity.tokens import TokenVerifier
from .identity.users import Users
from .instrumentation import Observer, Observers
from .metrics.aggregation import Figures
from .signals import Announcer
from .storage.connection import connect, durable
from .storage.ledger import Ledger
from .storage.purchases import Purchases
from .storage.search import PurchaseSearch, RefundSearch

if TYPE_CHECKING:
    from .bulk import Bulk
    from .stripe_client.gateway import Gateway
    from .stripe_client.rate_limit import Pace

_KEY = "refunds"
_slots: weakref.WeakSet[_Slot] = weakref.WeakSet()


def _renew_locks() -> None:
    """A child must not inherit a lock that a thread of its parent held at the fork."""
    for slot in _slots:
        slot.lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


class Refunds:
    """The parts that work for one app in one process.

    A forked child builds its own: connections that two processes share give each the other's answers.
    """

    def __init__(self, app: Flask, settings: Settings, observers: Observers) -> None:
        self.database = database = connect(settings)
        self.settings = settings
        self.verifier = TokenVerifier(settings)
        self.users = Users(durable(database, settings.refunds_users_collection), settings)
        rows = durable(database, settings.refunds_collection)
        self.ledger = Ledger(rows, now, timedelta(seconds=settings.refunds_lease))
        purchases = durable(database, settings.refunds_purchases_collection)
        self.purchases = Purchases(purchases, settings.refunds_payment_intent_field)
        self.figures = Figures(rows, purchases, now)
        self.purchase_search = PurchaseSearch(
            purchases,
            durable(database, settings.refunds_users_collection),
            durable(database, settings.refunds_contents_collection),
            settings.refunds_payment_intent_field,
        )
        self.refund_search = RefundSearch(rows)
        self.books = Books(self.ledger, self.purchases, Announcer(app), observers)
        self.gateway = gateway = _GatewayOnDemand(settings, observers)
        self.intake = Intake(self.ledger, self.purchases, gateway, self.books)
        self.service = RefundService(
            ledger=self.ledger,
            purchases=self.purchases,
            gateway=gateway,
            books=self.books,
            intake=self.intake,
            clock=now,
        )
        self.previewer = Previewer(self.ledger, self.purchases, gateway)
        self.events = EventHandler(self.intake, livemode=settings.livemode)
        self.reconciler = Reconciler(self.ledger, self.books, self.service, now)
        self.attention = AttentionDesk(self.ledger, self.books, self.service)
        self._app = app

    @cached_property
    def bulk(self) -> Bulk:
        """Bulk runs; a worker that serves requests never needs them."""
        from .bulk import Bulk

        return Bulk(
            ledger=self.ledger,
            purchases=self.purchases,
            service=self.service,
            previewer=self.previewer,
            pace=self.pace,
            context=self._app.app_context,
            lease=timedelta(seconds=self.settings.refunds_lease),
        )

    def pace(self, rate: float | None = None) -> Pace:
        """The pace of work in bulk, which this app's processes share.

        :param rate: requests a second; by default 80 with a live key and 20 with a test key.
        """
        from .stripe_client.shared_rate_limit import make_pace

        return make_pace(self.database, self.settings, rate)


class _Slot:
    """The app's place for its :class:`Refunds`, one for each process id."""

    def __init__(self) -> None:
        # An older process's parts are kept: closing what it still uses would close it for that process too.
        self.by_process: dict[int, Refunds] = {}
        self.observers = Observers()
        self.lock = threading.Lock()
        _slots.add(self)


def get_refunds(app: Flask) -> Refunds:
    """The app's refunds, built at the first call in this process.

    :raises ConfigurationError: 500; nothing is kept, so that a mended config is read again.
    """
    slot = _slot_of(app)
    pid = os.getpid()
    refunds = slot.by_process.get(pid)
    if refunds is None:
        with slot.lock:
            refunds = slot.by_process.get(pid)
            if refunds is None:
                refunds = slot.by_process[pid] = Refunds(app, read_settings(app.config), slot.observers)
    return refunds


def observe(app: Flask, observer: Observer) -> None:
    """Tell an observer of what this app does from now on, in this process and those that it forks."""
    _slot_of(app).observers.add(observer)


def _slot_of(app: Flask) -> _Slot:
    slot: _Slot = app.extensions.get(_KEY) or app.extensions.setdefault(_KEY, _Slot())
    return slot


def current_refunds() -> Refunds:
    """The refunds of the app whose context this is.

    :raises ConfigurationError: 500.
    """
    return get_refunds(current_app._get_current_object())  # type: ignore[attr-defined]


def check_config(app: Flask) -> None:
    """Refuse a bad config now, rather than at the first request. Also loads Stripe's library.

    :raises ConfigurationError: names every bad key, and shows no value.
    """
    from .stripe_client import gateway  # noqa: F401

    with app.app_context():
        get_refunds(app)


class _GatewayOnDemand:
    """Connects to Stripe when the first refund needs it: importing its library takes 0.2 s."""

    def __init__(self, settings: Settings, observers: Observers) -> None:
        self._settings = settings
        self._observers = observers
        self._lock = threading.Lock()
        self._gateway: Gateway | None = None

    def __call__(self) -> Gateway:
        if self._gateway is None:
            with self._lock:
                if self._gateway is None:
                    self._gateway = self._connect()
        return self._gateway

    def _connect(self) -> Gateway:
        from .stripe_client.gateway import Gateway

        settings = self._settings
        return Gateway.connect(
            settings.stripe_secret_key,
            settings.stripe_api_base,
            timeout=settings.refunds_stripe_timeout,
            retries=settings.refunds_stripe_retries,
            observers=self._observers,
        )
