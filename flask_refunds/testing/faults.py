"""Faults that the sandbox can inject, and the plan of which requests they hit."""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType


class Fault(str, enum.Enum):
    """A fault that is applied to a request.

    *Executed* means that the endpoint ran: the refund was made, its events were sent, and the response
    was stored under the idempotency key. Unless noted below, the stored response is the correct one.

    A request whose key already has a response gets that response again. Only faults of the connection
    still apply to it.
    """

    REQUEST_LOST = "request_lost"
    """Not executed; the connection is closed and the key stays unused."""
    RESPONSE_LOST = "response_lost"
    """Executed; the connection is closed without a response."""
    TIMEOUT_BEFORE_REFUND = "timeout_before_refund"
    """Not executed; no response until the client disconnects or :meth:`StripeSandbox.clear_faults`."""
    TIMEOUT_AFTER_REFUND = "timeout_after_refund"
    """Executed; no response until the client disconnects or :meth:`StripeSandbox.clear_faults`."""
    LATE = "late"
    """The key is reserved and the request waits for :meth:`StripeSandbox.release`. Then it is executed,
    even if the client has disconnected."""
    SERVER_ERROR_BEFORE = "server_error_before"
    """Not executed; a 500 response is sent and stored."""
    SERVER_ERROR_AFTER = "server_error_after"
    """Executed, but a 500 response is sent and stored."""
    BAD_GATEWAY = "bad_gateway"
    """Not executed; a gateway's HTML error page is sent and not stored."""
    SERVICE_UNAVAILABLE = "service_unavailable"
    """Not executed; a 503 response is sent and not stored."""
    RATE_LIMITED = "rate_limited"
    """Not executed; 429 ``rate_limit`` is sent and not stored."""
    LOCK_TIMEOUT = "lock_timeout"
    """Not executed; 429 ``lock_timeout`` is sent and not stored. stripe-python retries it if retries are
    enabled, because of the ``Stripe-Should-Retry`` header."""
    CONFLICT = "conflict"
    """Not executed; 409 ``idempotency_key_in_use`` is sent and not stored."""
    UNREADABLE_RESPONSE = "unreadable_response"
    """Executed; a 200 response with a body that isn't JSON."""
    TRUNCATED_RESPONSE = "truncated_response"
    """Executed; a 200 response that is shorter than its Content-Length."""
    EMPTY_RESPONSE = "empty_response"
    """Executed; a 200 response without a body."""
    WRONG_OBJECT = "wrong_object"
    """Executed; a 200 response with a customer instead of the requested object."""
    ENDLESS_RESPONSE = "endless_response"
    """Executed; the body is sent one byte at a time and never ends."""
    KEY_REJECTED = "key_rejected"
    """Not executed; 401 for an unknown API key is sent and not stored."""
    KEY_EXPIRED = "key_expired"
    """Not executed; 401 ``api_key_expired`` is sent and not stored."""
    KEY_FORBIDDEN = "key_forbidden"
    """Not executed; 403 for an API key without permission is sent and not stored."""
    CARD_ERROR = "card_error"
    """Not executed; 402 ``card_declined`` is sent and stored."""
    INSUFFICIENT_BALANCE = "insufficient_balance"
    """Not executed; 400 ``balance_insufficient`` is sent and stored."""
    PENDING = "pending"
    """Executed; the refund is pending because of insufficient funds and succeeds later."""
    REQUIRES_ACTION = "requires_action"
    """Executed; the refund waits for the customer."""
    FAILED = "failed"
    """Executed; the refund is created as failed and no money moves."""
    CANCELED = "canceled"
    """Executed; the refund is created as canceled and no money moves."""

    __str__ = str.__str__

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"Unknown fault {value!r}. Valid faults: {', '.join(cls)}")


OUTCOME_UNKNOWN = (
    Fault.REQUEST_LOST,
    Fault.RESPONSE_LOST,
    Fault.TIMEOUT_BEFORE_REFUND,
    Fault.TIMEOUT_AFTER_REFUND,
    Fault.SERVER_ERROR_BEFORE,
    Fault.SERVER_ERROR_AFTER,
    Fault.BAD_GATEWAY,
    Fault.SERVICE_UNAVAILABLE,
    Fault.CONFLICT,
    Fault.UNREADABLE_RESPONSE,
    Fault.TRUNCATED_RESPONSE,
    Fault.EMPTY_RESPONSE,
    Fault.WRONG_OBJECT,
    Fault.ENDLESS_RESPONSE,
)
"""After these, your app can't know whether the refund was made. It answers 202, and resumes the refund."""

REFUSED = (Fault.CARD_ERROR, Fault.INSUFFICIENT_BALANCE)
"""Stripe refuses the refund. Your app answers 400 ``refund_failed``."""

RETRYABLE = (
    Fault.RATE_LIMITED,
    Fault.LOCK_TIMEOUT,
    Fault.KEY_REJECTED,
    Fault.KEY_EXPIRED,
    Fault.KEY_FORBIDDEN,
)
"""Nothing was refunded. Your app answers 5xx, and the same request can succeed later."""

FORCED_STATUSES = frozenset({Fault.PENDING, Fault.REQUIRES_ACTION, Fault.FAILED, Fault.CANCELED})


class FaultNotUsed(AssertionError):
    """A test injected a fault, and no request matched it. Otherwise the test would pass without it."""

    def __init__(self, unused: Iterable[Injected]) -> None:
        faults = ", ".join(f"{each.fault} ({each.method} {each.path})" for each in unused)
        super().__init__(f"No request got the injected fault: {faults}")


@dataclass(eq=False)
class Injected:
    """A fault that was injected, and its counters.

    ``times`` is the number of requests that it still applies to (None: all). ``after`` is the number of
    matching requests that still pass first. ``hits`` is the number of requests that it was applied to.

    In a ``with`` statement, it applies until the end of the block, which fails if there were no hits.
    """

    fault: Fault
    method: str
    path: str
    times: int | None = 1
    after: int = 0
    hits: int = field(default=0, init=False)
    remove: Callable[[], None] = field(default=lambda: None, init=False, repr=False)
    """Ends the fault."""

    def __enter__(self) -> Injected:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()
        if kind is None and not self.hits:
            raise FaultNotUsed([self])

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault applies to this method and path.

        ``self.path`` is a pattern if it contains ``*``, otherwise a prefix.
        """
        if self.method not in ("*", method) or self.times == 0:
            return False
        return fnmatch.fnmatchcase(path, self.path if "*" in self.path else self.path + "*")


class FaultPlan:
    """The injected faults, oldest first. At most one applies to a request."""

    def __init__(self) -> None:
        self._injected: list[Injected] = []

    def inject(self, injected: Injected) -> Injected:
        """Add a fault.

        :raises ValueError: the fault sets a refund's status but can't match a request that creates one.
        """
        creates_refund = injected.method in ("POST", "*") and injected.matches("POST", "/v1/refunds")
        if injected.fault in FORCED_STATUSES and not creates_refund:
            raise ValueError(f"Fault {injected.fault.value!r} applies to POST /v1/refunds only.")
        self._injected.append(injected)
        return injected

    def pick(self, method: str, path: str) -> Fault | None:
        """Return the fault to apply to this request, and update the counters."""
        if not self._injected:
            return None
        chosen = None
        for injected in self._injected:
            if injected.matches(method, path):
                if injected.after:
                    injected.after -= 1
                elif chosen is None:
                    chosen = injected
        return None if chosen is None else self._hit(chosen)

    def remove(self, injected: Injected) -> None:
        """Remove a fault, if it is still there."""
        if injected in self._injected:
            self._injected.remove(injected)

    def unused(self) -> list[Injected]:
        """Return the faults that weren't applied to any request."""
        return [injected for injected in self._injected if not injected.hits]

    def clear(self) -> None:
        """Remove all faults."""
        self._injected.clear()

    def _hit(self, chosen: Injected) -> Fault:
        chosen.hits += 1
        if chosen.times is not None:
            chosen.times -= 1
        if chosen.times == 0:
            self._injected.remove(chosen)
        return chosen.fault
