"""What can go wrong between a caller and Stripe, and the plan of when it does."""

from __future__ import annotations

import enum
import fnmatch
from dataclasses import dataclass, field


class Fault(str, enum.Enum):
    """What a request suffers.

    *Executed* means that the endpoint ran: the money moved, the events went out, and the answer is
    stored under the idempotency key. A stored answer is the true one, unless said otherwise below.
    A request whose key was answered before gets that answer again, and only what is wrong with the
    connection can still happen to it.
    """

    DROP_BEFORE = "drop_before"
    """The connection is closed; nothing is executed, the key stays unused."""
    DROP_AFTER = "drop_after"
    """Executed; the connection is closed without an answer."""
    HANG_BEFORE = "hang_before"
    """No answer until the caller leaves, or :meth:`StripeSandbox.clear_faults`; not executed."""
    HANG_AFTER = "hang_after"
    """Executed; no answer until the caller leaves, or :meth:`StripeSandbox.clear_faults`."""
    LATE = "late"
    """The key is taken, and nothing else happens until :meth:`StripeSandbox.release`; then it is
    executed, even if the caller has left by then."""
    ERROR_500 = "error_500"
    """Nothing is executed; a 500 is answered and stored."""
    ERROR_500_AFTER = "error_500_after"
    """Executed, and yet a 500 is answered and stored."""
    ERROR_502_HTML = "error_502_html"
    """A gateway's HTML page; nothing is executed or stored."""
    ERROR_503 = "error_503"
    """Nothing is executed or stored."""
    RATE_LIMITED = "rate_limited"
    """429 ``rate_limit``; nothing is executed or stored."""
    LOCK_TIMEOUT = "lock_timeout"
    """429 ``lock_timeout``; nothing is executed or stored. Stripe's own client retries it once it
    has any retries, as the answer asks it to."""
    CONFLICT = "conflict"
    """409 ``idempotency_key_in_use``; nothing is executed or stored."""
    GARBAGE = "garbage"
    """Executed; a 200 whose body is no JSON."""
    TRUNCATED = "truncated"
    """Executed; a 200 that ends before its Content-Length."""
    EMPTY = "empty"
    """Executed; a 200 without a body."""
    WRONG_OBJECT = "wrong_object"
    """Executed; a 200 with a customer in place of the object asked for."""
    SLOW_DRIP = "slow_drip"
    """Executed; the body comes one byte at a time and never ends."""
    KEY_REJECTED = "key_rejected"
    """401: the API key is unknown; nothing is executed or stored."""
    KEY_FORBIDDEN = "key_forbidden"
    """403: the API key lacks the permission; nothing is executed or stored."""
    CARD_ERROR = "card_error"
    """402 ``card_declined``; nothing is executed, the answer is stored."""
    INSUFFICIENT_BALANCE = "insufficient_balance"
    """400 ``balance_insufficient``; nothing is executed, the answer is stored."""
    PENDING = "pending"
    """Executed, but the refund is pending for lack of funds; it succeeds later."""
    REQUIRES_ACTION = "requires_action"
    """Executed, but the refund waits for the customer."""
    FAILED = "failed"
    """Executed, but the refund comes back failed: no money moved."""
    CANCELED = "canceled"
    """Executed, but the refund comes back canceled: no money moved."""


FORCED_STATUSES = frozenset({Fault.PENDING, Fault.REQUIRES_ACTION, Fault.FAILED, Fault.CANCELED})


@dataclass
class Injected:
    """A fault that waits for its requests.

    ``times`` is how many it still hits (None: all), ``after`` how many it still lets pass, and
    ``hits`` how many it has hit.
    """

    fault: Fault
    method: str
    path: str
    times: int | None = 1
    after: int = 0
    hits: int = field(default=0, init=False)

    def matches(self, method: str, path: str) -> bool:
        """Whether this request counts: ``path`` is a prefix, or a pattern if it has a ``*``."""
        if self.method not in ("*", method) or self.times == 0:
            return False
        return fnmatch.fnmatchcase(path, self.path if "*" in self.path else self.path + "*")


class FaultPlan:
    """The injected faults, oldest first: one request suffers one of them at most."""

    def __init__(self) -> None:
        self._injected: list[Injected] = []

    def inject(self, injected: Injected) -> Injected:
        """:raises ValueError: for a refund's status where no refund is made."""
        makes_refund = injected.method in ("POST", "*") and injected.matches("POST", "/v1/refunds")
        if injected.fault in FORCED_STATUSES and not makes_refund:
            raise ValueError(f"{injected.fault.value} is about POST /v1/refunds")
        self._injected.append(injected)
        return injected

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault that this request suffers."""
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

    def clear(self) -> None:
        """Forget all faults that did not happen yet."""
        self._injected.clear()

    def _hit(self, chosen: Injected) -> Fault:
        chosen.hits += 1
        if chosen.times is not None:
            chosen.times -= 1
        if chosen.times == 0:
            self._injected.remove(chosen)
        return chosen.fault
