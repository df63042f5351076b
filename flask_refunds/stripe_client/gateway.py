"""Stripe: the only module that imports its library, and the only one that reads its answers.

What it returns is what Stripe said. What it raises says how much can be concluded: that nothing moved, or
that nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import stripe

from ..clock import Deadline
from ..errors import KeyRejected, OutcomeUnknown, PermissionMissing, Refused, StripeAnswer, Throttled
from ..instrumentation import Observers
from ..log import Decision, decided
from ..models import Payment, StripeRefund
from .parsing import (
    WebhookEndpoint,
    parse_captured,
    parse_payment,
    parse_refund,
    parse_refund_page,
    parse_webhook_endpoints,
)
from .rate_limit import in_turn
from .transport import Transport, until

ALREADY_REFUNDED = "charge_already_refunded"
"""Stripe's code for a payment of which nothing is left to refund."""

_REFUNDS = "/v1/refunds"
_PAYMENT_INTENTS = "/v1/payment_intents"
_PAUSE_SECONDS = 0.5
_PAGE = 100
_NO_PAYMENT = "pi_flask_refunds_check"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KeyTrial:
    """What the key may do.

    :param lacking: what refunds need and it may not.
    :param date: the time at Stripe, to the second; ``None`` where no answer told it.
    """

    lacking: Sequence[str]
    date: datetime | None


class Gateway:
    """Asks Stripe, by raw requests: turning answers into the library's objects would cost more than the rest
    of its work, and we read them ourselves.

    Belongs to one process: a forked child that shared its connections would read its
    siblings' answers.

    :param api_key: the secret key.
    :param api_base: ``https://api.stripe.com``, or a sandbox's.
    :param retries: how often to try again when an answer is missing or means "later".
    :param transport: what carries the requests.
    :param sleep: waits between two tries; a test passes its own.
    :param observers: who is told of each request's end.
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
        self._client = stripe.StripeClient(
            api_key, http_client=transport, base_addresses={"api": api_base}, max_network_retries=0
        )

    @classmethod
    def connect(
        cls, api_key: str, api_base: str, *, timeout: float, retries: int, observers: Observers | None = None
    ) -> Gateway:
        """A gateway on a transport of its own. Opens no connection yet."""
        transport = Transport(api_base, timeout)
        return cls(api_key, api_base, retries=retries, transport=transport, observers=observers)

    def create(
        self, request: Mapping[str, Any], key: str, deadline: Deadline, *, in_doubt: bool
    ) -> StripeRefund:
        """Ask for a refund; ask again with the same key while the answer is missing and there is time.

        :param request: the parameters, the same to the letter at every try of this key.
        :param key: the idempotency key (https://docs.stripe.com/api/idempotent_requests).
        :param deadline: when the answer must be there.
        :param in_doubt: whether an earlier try of this key may have been executed.
        :raises Refused: Stripe will not make this refund, and did not.
        :raises Throttled: 429 to every try, and no earlier try is in doubt.
        :raises KeyRejected: 401 or 403, and no earlier try is in doubt.
        :raises OutcomeUnknown: it may have been made, or may yet be.
        """
        answer: StripeAnswer = OutcomeUnknown("no_time_left", "There was no time left to ask Stripe.")
        for attempt in range(self._retries + 1):
            if attempt:
                self._sleep(_PAUSE_SECONDS * attempt)
            if deadline.left() <= 0:
                break
            try:
                return self._create_once(request, key, deadline)
            except OutcomeUnknown as unknown:
                answer, in_doubt = unknown, True
            except Throttled as throttled:
                answer = throttled
            except KeyRejected as rejected:
                answer = rejected
                break
        if in_doubt and not isinstance(answer, OutcomeUnknown):
            # "Not now" and "not with this key" say nothing of the earlier try.
            raise OutcomeUnknown(answer.code, answer.message, request_id=answer.request_id) from answer
        raise answer

    def _create_once(self, request: Mapping[str, Any], key: str, deadline: Deadline) -> StripeRefund:
        keyed = {**request, "idempotency_key": key}
        refund = self._ask("create", "post", _REFUNDS, keyed, deadline, parse_refund)
        if refund.refund_id != key or refund.payment_intent != request["payment_intent"]:
            raise OutcomeUnknown("answer_mismatch", "Stripe answered with a refund that was not asked for.")
        return refund

    def retrieve(self, stripe_refund_id: str, deadline: Deadline) -> StripeRefund:
        """The refund as it is now.

        :raises StripeAnswer: it could not be had.
        """
        return self._ask("retrieve", "get", _at(_REFUNDS, stripe_refund_id), {}, deadline, parse_refund)

    def list_refunds(self, payment_intent: str, deadline: Deadline) -> list[StripeRefund]:
        """Every refund of a payment intent, oldest first, whoever made it.

        :raises StripeAnswer: they could not be had, all of them.
        """
        found: list[StripeRefund] = []
        after: str | None = None
        while True:
            page, has_more = self._list_page(payment_intent, after, deadline)
            found += page
            if not has_more or not page:
                return found[::-1]
            after = page[-1].id

    def _list_page(
        self, payment_intent: str, after: str | None, deadline: Deadline
    ) -> tuple[list[StripeRefund], bool]:
        params: dict[str, Any] = {"payment_intent": payment_intent, "limit": _PAGE}
        if after is not None:
            params["starting_after"] = after
        return self._ask("list", "get", _REFUNDS, params, deadline, parse_refund_page)

    def captured(self, payment_intent: str, deadline: Deadline) -> int:
        """What a payment intent has received, in minor units, before any refund.

        :raises StripeAnswer: it could not be had.
        """
        return self._ask(
            "captured", "get", _at(_PAYMENT_INTENTS, payment_intent), {}, deadline, parse_captured
        )

    def try_key(self, deadline: Deadline) -> KeyTrial:
        """Ask for all that a refund needs, of a payment that cannot exist: no money can move by it.

        :raises KeyRejected: 401; Stripe does not know the key.
        :raises StripeAnswer: Stripe did not say.
        """
        trials: Mapping[str, Callable[[], Any]] = {
            "make refunds": lambda: self._ask(
                "create", "post", _REFUNDS, {"payment_intent": _NO_PAYMENT}, deadline, parse_refund
            ),
            "read refunds": lambda: self._list_page(_NO_PAYMENT, None, deadline),
            "read payments": lambda: self.captured(_NO_PAYMENT, deadline),
        }
        lacking, date = [], None
        for permission, trial in trials.items():
            try:
                trial()
            except PermissionMissing:
                lacking.append(permission)
            except Refused as refusal:
                date = date or _date_of(refusal)
        return KeyTrial(lacking, date)

    def list_webhook_endpoints(self, deadline: Deadline) -> list[WebhookEndpoint]:
        """Where the account's events go, in the key's mode.

        :raises PermissionMissing: 403; a restricted key need not see them.
        :raises StripeAnswer: they could not be had.
        """
        # An account can have 16 (https://docs.stripe.com/webhooks), so they fit one page.
        params = {"limit": _PAGE}
        return self._ask(
            "webhook_endpoints", "get", "/v1/webhook_endpoints", params, deadline, parse_webhook_endpoints
        )

    def payment(self, payment_intent: str, deadline: Deadline) -> Payment:
        """The payment as it is now, with the card that paid it.

        :raises StripeAnswer: it could not be had.
        """
        params = {"expand": ["latest_charge"]}
        return self._ask(
            "payment", "get", _at(_PAYMENT_INTENTS, payment_intent), params, deadline, parse_payment
        )

    def _ask(
        self,
        name: str,
        method: str,
        path: str,
        params: Mapping[str, Any],
        deadline: Deadline,
        parse: Callable[[Mapping[str, Any], str | None], _T],
    ) -> _T:
        """Make one request, in its turn, and read its answer; each is told to the observers.

        :param params: what is asked, and ``idempotency_key``, which travels in a header.
        """
        with in_turn(), self._observed(name):
            return _read(lambda: self._client.raw_request(method, path, **params), deadline, parse)

    @contextmanager
    def _observed(self, request: str) -> Iterator[None]:
        began, outcome = time.monotonic(), OutcomeUnknown.outcome
        try:
            yield
            outcome = "answered"
        except StripeAnswer as answer:
            outcome = answer.outcome
            raise
        finally:
            # Also where the server kills the call: then nobody knows.
            self._observers.stripe_answered(request, outcome, time.monotonic() - began)


def _read(
    call: Callable[[], Any],
    deadline: Deadline,
    parse: Callable[[Mapping[str, Any], str | None], _T],
) -> _T:
    """What one request was answered; whatever cannot be read is an unknown outcome."""
    try:
        with until(deadline):
            response = call()
        return parse(response.data, response.request_id)
    except stripe.StripeError as error:
        raise _understand(error) from error
    except Exception as error:
        decided(Decision.UNREADABLE, error)
        raise OutcomeUnknown("unreadable_answer", "Stripe's answer could not be read.") from error


def _at(path: str, object_id: str) -> str:
    """The path of one object. Whatever its id holds, it stays one step of the path."""
    return f"{path}/{quote(object_id, safe='')}"


def _date_of(answer: StripeAnswer) -> datetime | None:
    """When Stripe gave an answer, by its own clock."""
    error = answer.__cause__
    date = (error.headers or {}).get("date") if isinstance(error, stripe.StripeError) else None
    try:
        return parsedate_to_datetime(date) if date else None
    except ValueError:
        return None


def _understand(error: stripe.StripeError) -> StripeAnswer:
    """What an error of stripe-python's says about money.

    Only an error in Stripe's own format counts as its word: a proxy's 403 page is none.
    """
    answer: type[StripeAnswer] = OutcomeUnknown
    if error.error is not None and not isinstance(
        error, (stripe.IdempotencyError, stripe.APIConnectionError)
    ):
        answer = _MEANING.get(error.http_status or 0, OutcomeUnknown)
    code = getattr(error.error, "code", None) or type(error).__name__
    # Stripe quotes the end of a rejected key, so those words are not kept.
    message = "Stripe does not accept the key." if issubclass(answer, KeyRejected) else error.user_message
    return answer(code, message or "Stripe gave no reason.", request_id=error.request_id)


_MEANING: Mapping[int, type[StripeAnswer]] = {
    400: Refused,
    401: KeyRejected,
    402: Refused,
    403: PermissionMissing,
    404: Refused,
    429: Throttled,
}
