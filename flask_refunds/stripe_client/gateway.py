"""Requests to Stripe. Only this module, its transport and its failures import Stripe's library.

Methods return what Stripe answered. Errors tell what follows: that no money moved, or that the outcome is
unknown.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import stripe

from ..clock import Deadline
from ..errors import (
    KeyRejected,
    OutcomeUnknown,
    PermissionMissing,
    RateLimited,
    RequestRejected,
    StripeCallError,
)
from ..instrumentation import Observers
from ..log import LogEvent, log_event
from ..models import Dispute, Payment, StripeRefund, UnreadableRefund, payment_parameter
from .failures import interpret
from .parsing import (
    RefundPage,
    ReleasedAuthorization,
    WebhookEndpoint,
    parse_amount_received,
    parse_connect_options,
    parse_disputes,
    parse_ids,
    parse_payment,
    parse_referenced_payment,
    parse_refund,
    parse_refund_page,
    parse_reporting_category,
    parse_webhook_endpoints,
)
from .rate_limit import rate_limit_slot
from .transport import Transport, request_deadline

_REFUNDS = "/v1/refunds"
_PAYMENT_INTENTS = "/v1/payment_intents"
_CHARGES = "/v1/charges"
_SESSIONS = "/v1/checkout/sessions"
_NO_MONEY_MOVED = ("resource_missing", "No money moved by this refund.")
_PAUSE_SECONDS = 0.5
_PAGE = 100
_EXPAND_CHARGE = {"expand": ["charge"]}
_NO_PAYMENT = "pi_flask_refunds_check"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """The permissions of the secret key.

    :param missing: required permissions that the key lacks.
    :param date: Stripe's time, in whole seconds; ``None`` if no answer had it.
    """

    missing: Sequence[str]
    date: datetime | None


class Gateway:
    """Sends requests to Stripe and parses the answers.

    It uses raw requests, because creating the objects of Stripe's library would cost more than the rest of
    its work. A gateway belongs to one process: a forked child on the same connections would read answers
    meant for its siblings.

    :param api_key: the secret key.
    :param api_base: ``https://api.stripe.com``, or a sandbox's URL.
    :param retries: how often to retry without an answer or after a 429.
    :param transport: sends the requests.
    :param sleep: waits between two attempts; tests pass their own.
    :param observers: notified of the end of each request.
    """

    def __init__(
        self,
        api_key: str,
        api_base: str,
        *,
        retries: int,
        transport: stripe.HTTPClient,
        sleep: Callable[[float], None] = time.sleep,
        observers: Observers | None = None,
    ) -> None:
        self._transport = transport
        self._retries = retries
        self._sleep = sleep
        self._observers = observers or Observers()
        self._account: str | None = None
        self._last_date: list[tuple[str, float]] = []
        self._client = stripe.StripeClient(
            api_key, http_client=transport, base_addresses={"api": api_base}, max_network_retries=0
        )

    @classmethod
    def connect(
        cls, api_key: str, api_base: str, *, timeout: float, retries: int, observers: Observers | None = None
    ) -> Gateway:
        """Return a gateway with its own transport. It connects at the first request."""
        transport = Transport(api_base, timeout)
        return cls(api_key, api_base, retries=retries, transport=transport, observers=observers)

    def on(self, account: str | None) -> Gateway:
        """Return a gateway to a connected account's objects, or for ``None``, to those of the key's account.

        It shares this one's connections (https://docs.stripe.com/connect/authentication).
        """
        if account is None:
            return self
        connected = copy.copy(self)
        connected._account = account
        return connected

    def stripe_time(self) -> datetime | None:
        """Return the time by Stripe's clock, within a few seconds, or ``None`` before its first answer."""
        if not self._last_date:
            return None
        [(date, answered_at)] = self._last_date
        return _read_date(date, time.monotonic() - answered_at)

    def create_refund(
        self, request: Mapping[str, Any], key: str, deadline: Deadline, *, in_doubt: bool
    ) -> StripeRefund:
        """Create a refund. Without an answer, retry with the same key until the deadline.

        :param request: the parameters, exactly the same in every attempt with this key.
        :param key: the idempotency key (https://docs.stripe.com/api/idempotent_requests).
        :param deadline: for all attempts together.
        :param in_doubt: whether an earlier attempt with this key may have been executed.
        :raises RequestRejected: Stripe didn't make this refund, and won't.
        :raises RateLimited: every attempt was answered with 429, and no earlier attempt is in doubt.
        :raises KeyRejected: 401 or 403, and no earlier attempt is in doubt.
        :raises OutcomeUnknown: it may have been made, or may still be.
        """
        answer: StripeCallError = OutcomeUnknown(
            "no_time_left", "There was no time left for the request to Stripe."
        )
        for attempt in range(self._retries + 1):
            if attempt:
                self._sleep(_PAUSE_SECONDS * attempt)
            if deadline.remaining() <= 0:
                break
            try:
                created = self._create_once(request, key, deadline)
                return self._read_again(created, deadline) if in_doubt else created
            except OutcomeUnknown as unknown:
                answer, in_doubt = unknown, True
            except RateLimited as throttled:
                answer = throttled
            except KeyRejected as rejected:
                answer = rejected
                break
        if in_doubt and not isinstance(answer, OutcomeUnknown):
            # A 429 or a rejected key says nothing about the earlier attempt.
            raise OutcomeUnknown(answer.code, answer.message, request_id=answer.request_id) from answer
        raise answer

    def _read_again(self, created: StripeRefund, deadline: Deadline) -> StripeRefund:
        """Return a refund as it is now: Stripe may have replayed its answer to an earlier attempt."""
        try:
            return self.retrieve_refund(created.id, deadline)
        except StripeCallError as error:
            raise OutcomeUnknown(error.code, error.message, request_id=error.request_id) from error

    def _create_once(self, request: Mapping[str, Any], key: str, deadline: Deadline) -> StripeRefund:
        keyed = {**request, "idempotency_key": key}
        refund = self._with_account(
            self._request("create_refund", "post", _REFUNDS, keyed, deadline, parse_refund)
        )
        payment = request.get("payment_intent") or request["charge"]
        requested = (key, payment, request.get("amount", refund.amount))
        if (refund.refund_id, refund.payment_intent, refund.amount) != requested:
            raise OutcomeUnknown(
                "answer_mismatch", "Stripe answered with a different refund than the requested one."
            )
        return refund

    def retrieve_refund(self, stripe_refund_id: str, deadline: Deadline) -> StripeRefund:
        """Return a refund as it is now.

        :raises StripeCallError: it isn't available.
        """
        refund = self._request(
            "retrieve_refund", "get", _at(_REFUNDS, stripe_refund_id), _EXPAND_CHARGE, deadline, parse_refund
        )
        if self._is_release(refund, deadline):
            raise RequestRejected(*_NO_MONEY_MOVED)
        return self._with_account(refund)

    def cancel_refund(self, stripe_refund_id: str, deadline: Deadline) -> None:
        """Cancel a refund that waits for the customer (https://docs.stripe.com/api/refunds/cancel).

        :raises RequestRejected: it has another status, or Stripe doesn't know it.
        :raises RateLimited: 429; nothing was executed.
        :raises KeyRejected: 401 or 403; nothing was executed.
        :raises OutcomeUnknown: it may be canceled.
        """
        path = f"{_at(_REFUNDS, stripe_refund_id)}/cancel"
        self._request("cancel_refund", "post", path, _EXPAND_CHARGE, deadline, parse_refund)

    def list_refunds(
        self, payment_intent: str, deadline: Deadline
    ) -> tuple[list[StripeRefund], list[UnreadableRefund]]:
        """Return every refund of a payment, oldest first, external ones included.

        :return: the refunds, and those in a form that this library doesn't know.
        :raises StripeCallError: the list isn't available, or not completely.
        """
        refunds: list[StripeRefund] = []
        unreadable: list[UnreadableRefund] = []
        after: str | None = None
        filters = {payment_parameter(payment_intent): payment_intent}
        while True:
            page = self._list_page(filters, after, deadline)
            refunds += page.refunds
            unreadable += page.unreadable
            if any(each.id is None for each in page.unreadable):
                raise OutcomeUnknown("unreadable_answer", "Stripe lists a refund that may be any.")
            if not page.has_more or page.last_id is None:
                return refunds[::-1], unreadable
            after = page.last_id

    def list_recent_refunds(self, since: datetime, after: str | None, deadline: Deadline) -> RefundPage:
        """Return one page of the account's refunds created since a time, newest first.

        Stripe documents this order, and that ``created`` and a cursor can be combined
        (https://docs.stripe.com/api/refunds/list, https://docs.stripe.com/api/pagination).

        :param after: the ID of the last refund of the previous page.
        :raises StripeCallError: the page isn't available.
        """
        return self._list_page({"created": {"gte": int(since.timestamp())}}, after, deadline)

    def _list_page(self, filters: Mapping[str, Any], after: str | None, deadline: Deadline) -> RefundPage:
        params = {**filters, "limit": _PAGE, "expand": ["data.charge"]}
        if after is not None:
            params["starting_after"] = after
        page = self._request("list_refunds", "get", _REFUNDS, params, deadline, parse_refund_page)
        found = [self._with_account(it) for it in page.refunds if not self._is_release(it, deadline)]
        return replace(page, refunds=found)

    def _with_account(self, refund: StripeRefund) -> StripeRefund:
        return refund if self._account is None else replace(refund, stripe_account=self._account)

    def _is_release(self, refund: StripeRefund, deadline: Deadline) -> bool:
        """Return whether a refund is a released authorization. Most objects tell it without a request.

        A restricted key needs to read balance transactions for this. Without that permission, it counts as a
        refund (https://docs.stripe.com/reports/reporting-categories).
        """
        if refund.deciding_transaction is None:
            return False
        path = _at("/v1/balance_transactions", refund.deciding_transaction)
        try:
            category = self._request(
                "retrieve_balance_transaction", "get", path, {}, deadline, parse_reporting_category
            )
        except PermissionMissing:
            return False
        return category == "partial_capture_reversal"

    def find_payment(self, reference: str, deadline: Deadline) -> str | None:
        """Return the payment of a charge or Checkout session: its payment intent, or the charge itself.

        :return: ``None`` if a session has no payment intent.
        :raises StripeCallError: it isn't available.
        """
        is_session = reference.startswith("cs_")
        name, path = ("retrieve_checkout_session", _SESSIONS) if is_session else ("retrieve_charge", _CHARGES)
        return self._request(name, "get", _at(path, reference), {}, deadline, parse_referenced_payment)

    def list_sessions(self, payment_intent: str, deadline: Deadline) -> list[str]:
        """Return the IDs of the Checkout sessions of a payment intent; there is at most one.

        :raises StripeCallError: they aren't available.
        """
        params = {"payment_intent": payment_intent}
        return self._request("list_checkout_sessions", "get", _SESSIONS, params, deadline, parse_ids)

    def find_connect_options(self, payment: str, deadline: Deadline) -> frozenset[str]:
        """Return which options of refunds a payment supports: a charge may have no fee, or no transfer.

        :raises StripeCallError: the payment isn't available.
        """
        name, path, params = _read_of(payment)
        return self._request(name, "get", path, params, deadline, parse_connect_options)

    def retrieve_amount_received(self, payment_intent: str, deadline: Deadline) -> int:
        """Return what a payment intent received, in minor units, before any refund.

        :raises StripeCallError: it isn't available.
        """
        return self._request(
            "retrieve_payment_intent",
            "get",
            _at(_PAYMENT_INTENTS, payment_intent),
            {},
            deadline,
            parse_amount_received,
        )

    def check_key(self, deadline: Deadline) -> KeyPermissions:
        """Check the permissions that refunds need, with a payment that can't exist, so that no money moves.

        :raises KeyRejected: 401; Stripe doesn't know the key.
        :raises StripeCallError: Stripe didn't answer.
        """
        checks: Mapping[str, Callable[[], Any]] = {
            "make refunds": lambda: self._request(
                "create_refund", "post", _REFUNDS, {"payment_intent": _NO_PAYMENT}, deadline, parse_refund
            ),
            "read refunds": lambda: self._list_page({"payment_intent": _NO_PAYMENT}, None, deadline),
            "read payments": lambda: self.retrieve_amount_received(_NO_PAYMENT, deadline),
        }
        missing, date = [], None
        for permission, check in checks.items():
            try:
                check()
            except PermissionMissing:
                missing.append(permission)
            except RequestRejected as refusal:
                date = date or _date_of(refusal)
        return KeyPermissions(missing, date)

    def list_webhook_endpoints(self, deadline: Deadline) -> list[WebhookEndpoint]:
        """Return the account's webhook endpoints, in the key's mode.

        :raises PermissionMissing: 403; a restricted key needn't have this permission.
        :raises StripeCallError: they aren't available.
        """
        # An account can have 16 (https://docs.stripe.com/webhooks), which fit on one page.
        params = {"limit": _PAGE}
        return self._request(
            "list_webhook_endpoints",
            "get",
            "/v1/webhook_endpoints",
            params,
            deadline,
            parse_webhook_endpoints,
        )

    def retrieve_payment(self, payment_intent: str, deadline: Deadline) -> Payment:
        """Return a payment as it is now, with its card.

        :raises StripeCallError: it isn't available.
        """
        name, path, params = _read_of(payment_intent)
        payment = self._request(name, "get", path, params, deadline, parse_payment)
        if not payment.released or not payment.refunded:
            return payment
        # The charge may count the uncaptured part of the authorization as refunded, so the list decides.
        refunds, _ = self.list_refunds(payment_intent, deadline)
        amounts = (each.amount for each in refunds if not each.status.is_failed_or_canceled)
        return replace(payment, refunded=sum(amounts))

    def find_dispute(self, payment: str, deadline: Deadline) -> Dispute | None:
        """Return what the disputes of a payment mean; ``None`` if there are none.

        :raises StripeCallError: they aren't available. A restricted key needs a permission to read disputes.
        """
        params = {payment_parameter(payment): payment, "limit": _PAGE}
        return self._request("list_disputes", "get", "/v1/disputes", params, deadline, parse_disputes)

    def _request(
        self,
        name: str,
        method: str,
        path: str,
        params: Mapping[str, Any],
        deadline: Deadline,
        parse: Callable[[Mapping[str, Any], str | None], _T],
    ) -> _T:
        """Send one request when the rate limit allows it, and parse its answer.

        :param params: the parameters, and ``idempotency_key``, which is sent as a header.
        """
        if self._account is not None:
            params = {**params, "stripe_account": self._account}  # sent as a header, too

        def send() -> Any:
            response = self._client.raw_request(method, path, **params)
            if date := _date_header(response.headers):
                self._last_date[:] = [(date, time.monotonic())]
            return response

        with rate_limit_slot(), self._observed(name):
            return _read(send, deadline, parse)

    @contextmanager
    def _observed(self, request: str) -> Iterator[None]:
        began, outcome = time.monotonic(), OutcomeUnknown.outcome
        try:
            yield
            outcome = "ok"
        except StripeCallError as answer:
            outcome = answer.outcome
            raise
        finally:
            # Also when the server ends the call: then the outcome is unknown.
            self._observers.stripe_request_finished(request, outcome, time.monotonic() - began)


def _read(
    call: Callable[[], Any], deadline: Deadline, parse: Callable[[Mapping[str, Any], str | None], _T]
) -> _T:
    """Return the answer of one request. If it can't be parsed, the outcome is unknown."""
    try:
        with request_deadline(deadline):
            response = call()
        return parse(response.data, response.request_id)
    except ReleasedAuthorization as error:
        # As newer API versions answer.
        raise RequestRejected(*_NO_MONEY_MOVED) from error
    except stripe.StripeError as error:
        raise interpret(error) from error
    except Exception as error:
        log_event(LogEvent.STRIPE_RESPONSE_INVALID, error)
        raise OutcomeUnknown("unreadable_answer", "Stripe's answer can't be parsed.") from error


def _at(path: str, object_id: str) -> str:
    """Return the path of one object. Its ID is always a single path segment."""
    return f"{path}/{quote(object_id, safe='')}"


def _read_of(payment: str) -> tuple[str, str, Mapping[str, Any]]:
    """Return the name, path and parameters of the request that reads a payment with its charge."""
    if payment.startswith("pi_"):
        return "retrieve_payment_intent", _at(_PAYMENT_INTENTS, payment), {"expand": ["latest_charge"]}
    return "retrieve_charge", _at(_CHARGES, payment), {}


def _date_of(answer: StripeCallError) -> datetime | None:
    """Return the time of an answer by Stripe's clock."""
    error = answer.__cause__
    return _read_date(_date_header(error.headers)) if isinstance(error, stripe.StripeError) else None


def _date_header(headers: Mapping[str, str] | None) -> str | None:
    headers = headers or {}
    return headers.get("date") or headers.get("Date")  # a transport's dict may distinguish case


def _read_date(date: str | None, seconds_ago: float = 0.0) -> datetime | None:
    try:
        return parsedate_to_datetime(date) + timedelta(seconds=seconds_ago) if date else None
    except ValueError:
        return None
