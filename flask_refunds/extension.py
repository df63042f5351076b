"""One app's refunds: everything below HTTP, built from the app's config at first use in each process."""

from __future__ import annotations

import os
import threading
import weakref
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from flask import Flask, current_app

from .config import Settings, check_settings, read_settings, read_token_settings
from .config.tokens import TokenSettings
from .core.cancellation import Cancellation
from .core.payments import PaymentResolver
from .core.preview import Previewer
from .core.reconcile import Reconciler
from .core.resolution import ManualReview
from .core.service import RefundService
from .core.stripe_options import StripeOptions
from .core.stripe_sync import StripeSync
from .core.sweep import RefundSweep
from .core.transitions import RefundTransitions
from .core.webhook_events import EventHandler
from .identity.tokens import TokenVerifier
from .identity.users import Users
from .instrumentation import Observer, Observers
from .metrics.aggregation import MetricsQuery
from .metrics.days import StoredDays
from .signals import SignalSender
from .storage.connection import connect, majority_collection
from .storage.customers import Customers
from .storage.ledger import Ledger
from .storage.purchases import Purchases
from .storage.receiver_registry import ReceiverRegistry
from .storage.reconcile_queue import ReconcileQueue
from .storage.references import References
from .storage.search import PurchaseSearch, RefundSearch
from .storage.server_clock import ServerClock
from .storage.sweep_state import SweepState

if TYPE_CHECKING:
    from .bulk import Bulk
    from .bulk.reconcile_runner import ReconcileRunner
    from .stripe_client.gateway import Gateway
    from .stripe_client.rate_limit import RateLimiter

_KEY = "refunds"


class Refunds:
    """The components that work for one app in one process."""

    def __init__(self, app: Flask, settings: Settings, observers: Observers) -> None:
        self._app = app
        self._observers = observers
        self._lock = threading.Lock()
        self.settings = settings
        self.database = database = connect(settings, app.app_context)
        clock = ServerClock(database)
        records = majority_collection(database, settings.refunds_collection)
        users = majority_collection(database, settings.refunds_users_collection)
        contents = majority_collection(database, settings.refunds_contents_collection)
        purchases = majority_collection(database, settings.refunds_purchases_collection)
        lease = timedelta(seconds=settings.refunds_lease_seconds)
        signal_sender = SignalSender(app)
        self.users = Users(users, settings)
        state = majority_collection(database, f"{settings.refunds_collection}.state")
        registry = ReceiverRegistry(state, signal_sender.has_listeners, clock)
        self.ledger = Ledger(records, clock, lease, registry.must_send)
        self.queue = ReconcileQueue(records, clock)
        references = References(majority_collection(database, f"{settings.refunds_collection}.references"))
        self.purchases = Purchases(purchases, records, references, settings.purchase_fields)
        days = majority_collection(database, f"{settings.refunds_collection}.days")
        self.days = StoredDays(days, records, purchases, settings.purchase_fields, clock)
        self.metrics_query = MetricsQuery(records, purchases, clock, settings.purchase_fields, self.days)
        has_loader = settings.refunds_user_loader is not None
        id_fields = {"_id", *(() if has_loader else (settings.user_id_field,))}
        self.customers = Customers(users, settings.refunds_user_fields, id_fields)
        self.purchase_search = PurchaseSearch(
            purchases,
            users,
            contents,
            fields=settings.purchase_fields,
            user_fields=settings.refunds_user_fields,
            content_fields=settings.refunds_content_fields,
            references=references,
            customers=self.customers,
        )
        self.refund_search = RefundSearch(records, references, self.purchase_search.payments_of)
        self.transitions = RefundTransitions(self.ledger, self.purchases, signal_sender, observers)
        self.payments = PaymentResolver(self.purchases, self.gateway)
        self.stripe_sync = StripeSync(
            self.ledger, self.purchases, self.payments, self.gateway, self.transitions
        )
        self.service = RefundService(
            ledger=self.ledger,
            purchases=self.purchases,
            payments=self.payments,
            options=StripeOptions(settings.refunds_stripe_options, self.gateway),
            gateway=self.gateway,
            transitions=self.transitions,
            stripe_sync=self.stripe_sync,
            clock=clock,
        )
        self.previewer = Previewer(self.purchases, self.payments, self.gateway)
        self.events = EventHandler(self.stripe_sync, livemode=settings.livemode)
        self.reconciler = Reconciler(
            self.ledger, self.queue, self.transitions, self.service, clock, signal_sender.has_listeners
        )
        self.sweep = RefundSweep(
            state=SweepState(state, clock),
            stripe_sync=self.stripe_sync,
            gateway=self.gateway,
            clock=clock,
        )
        self.manual_review = ManualReview(self.ledger, self.purchases, self.transitions, self.service)
        self.cancellation = Cancellation(self.ledger, self.stripe_sync, self.gateway)

    @cached_property
    def verifier(self) -> TokenVerifier:
        """Verifies tokens. Its settings are read at first use, because commands need no tokens.

        :raises ConfigurationError: 500; nothing is kept, as in :func:`get_refunds`.
        """
        return TokenVerifier(token_settings_of(self._app))

    def gateway(self) -> Gateway:
        """Return the gateway to Stripe. The first call imports Stripe's library, which is slow."""
        with self._lock:
            return self._gateway

    @cached_property
    def _gateway(self) -> Gateway:
        from .stripe_client.gateway import Gateway

        return Gateway.connect(
            self.settings.stripe_secret_key,
            self.settings.stripe_api_base,
            timeout=self.settings.refunds_stripe_timeout,
            retries=self.settings.refunds_stripe_retries,
            observers=self._observers,
        )

    @cached_property
    def bulk(self) -> Bulk:
        """Bulk runs. A process that serves requests doesn't need them."""
        from .bulk import Bulk

        return Bulk(
            ledger=self.ledger,
            purchases=self.purchases,
            service=self.service,
            previewer=self.previewer,
            rate_limiter=self.rate_limiter,
            context=self._app.app_context,
            lease=timedelta(seconds=self.settings.refunds_lease_seconds),
        )

    @cached_property
    def reconcile_runner(self) -> ReconcileRunner:
        """Reconcile passes. A process that serves requests doesn't need them."""
        from .bulk.reconcile_runner import ReconcileRunner

        return ReconcileRunner(
            queue=self.queue,
            reconciler=self.reconciler,
            sweep=self.sweep,
            days=self.days,
            rate_limiter=self.rate_limiter,
            context=self._app.app_context,
        )

    def rate_limiter(self, rate: float | None = None) -> RateLimiter:
        """Return the rate limiter of bulk work, which all processes of this app share.

        :param rate: requests per second; by default 80 with a live key and 20 with a test key.
        """
        from .stripe_client.shared_rate_limit import make_rate_limiter

        return make_rate_limiter(self.database, self.settings, rate)


class _AppState:
    """What ``app.extensions`` keeps: the app's observers, and its components in this process."""

    def __init__(self) -> None:
        self.observers = Observers()
        self.refunds: Refunds | None = None
        self.lock = threading.Lock()
        self._inherited: list[Refunds | None] = []
        _states.add(self)

    def reset_after_fork(self) -> None:
        """Let a child build its own components: two processes on one connection would mix up their answers.

        The parent's are kept, because closing their connections would close them for the parent too.
        """
        self._inherited.append(self.refunds)
        self.refunds = None
        self.lock = threading.Lock()


_states: weakref.WeakSet[_AppState] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for state in list(_states):
        state.reset_after_fork()


os.register_at_fork(after_in_child=_reset_after_fork)


def get_refunds(app: Flask) -> Refunds:
    """Return the app's refunds; the first call in a process builds them.

    :raises ConfigurationError: 500; nothing is kept, so that a corrected config is read again.
    """
    state = _state_of(app)
    refunds = state.refunds
    if refunds is None:
        with state.lock:
            refunds = state.refunds or Refunds(app, read_settings(app.config), state.observers)
            state.refunds = refunds
    return refunds


def observe(app: Flask, observer: Observer) -> None:
    """Add an observer of what this app does, in this process and its forks."""
    _state_of(app).observers.add(observer)


def _state_of(app: Flask) -> _AppState:
    state: _AppState = app.extensions.get(_KEY) or app.extensions.setdefault(_KEY, _AppState())
    return state


def current_refunds() -> Refunds:
    """Return the refunds of the current app.

    :raises ConfigurationError: 500.
    """
    return get_refunds(current_app._get_current_object())  # type: ignore[attr-defined]


def check_config(app: Flask) -> None:
    """Raise an error for an invalid config now, rather than at the first request.

    This also imports Stripe's library.

    :raises ConfigurationError: names every invalid key, without its value.
    """
    from .stripe_client import gateway  # noqa: F401

    if _state_of(app).refunds is None:
        check_settings(app.config, with_flask_jwt=_has_flask_jwt(app))
    with app.app_context():
        get_refunds(app).verifier  # noqa: B018 - reads the settings for tokens


def token_settings_of(app: Flask) -> TokenSettings:
    """Read the settings for tokens.

    :raises ConfigurationError: names every invalid key, without its value.
    """
    return read_token_settings(app.config, with_flask_jwt=_has_flask_jwt(app))


def _has_flask_jwt(app: Flask) -> bool:
    return "flask-jwt-extended" in app.extensions
