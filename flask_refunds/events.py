"""What Stripe's events mean for our ledger. An event is news: it may come twice, late, or first."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from .deadline import Deadline
from .errors import InvalidRequest, StripeAnswer, StripeUnavailable
from .intake import Intake
from .models import StripeRefund
from .stripe_objects import expect, parse_refund

REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
"""Events that carry a refund. A canceled one comes as ``refund.updated``; older versions send the last."""

CHARGE_EVENTS = frozenset({"charge.refunded"})
"""Events that carry a charge. It no longer holds its refunds: they are listed by payment intent."""

EVENT_SECONDS = 15.0
"""How long one event may take: Stripe waits for some 20 s, and then sends it again."""

_log = logging.getLogger("flask_refunds")


class EventHandler:
    """Takes events into the ledger.

    :param livemode: whether our key moves real money; events of the other mode are refused.
    """

    def __init__(self, intake: Intake, *, livemode: bool) -> None:
        self._intake = intake
        self._livemode = livemode

    def handle(self, event: Mapping[str, Any]) -> bool:
        """Bring the ledger and the purchases up to an event that is known to be Stripe's.

        :param event: the event, as Stripe sends it.
        :return: whether it was about a payment of ours.
        :raises InvalidRequest: 400; it is no event, or one of the other mode.
        :raises StripeUnavailable: 503; it must be sent again.
        :raises DatabaseUnavailable: 500; it must be sent again.
        """
        kind, obj = self._read(event)
        deadline = Deadline.after(EVENT_SECONDS)
        try:
            if kind in REFUND_EVENTS:
                return self._take_in([_read_refund(obj, event)], deadline)
            if kind in CHARGE_EVENTS:
                return self._take_in_charge(obj, deadline)
        except StripeAnswer as answer:
            raise StripeUnavailable from answer
        return False

    def _read(self, event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        try:
            kind = expect(event["type"], str)
            livemode = expect(event["livemode"], bool)
            obj = expect(event["data"]["object"], dict)
        except (LookupError, TypeError):
            raise InvalidRequest("The event is not as Stripe sends them.") from None
        if livemode is not self._livemode:
            mode = "live" if livemode else "test"
            raise InvalidRequest(f"The event is of {mode} mode, and this server's key is not.")
        return kind, obj

    def _take_in_charge(self, charge: Mapping[str, Any], deadline: Deadline) -> bool:
        payment_intent = charge.get("payment_intent")
        if not isinstance(payment_intent, str) or not self._intake.knows(payment_intent):
            return False
        return self._take_in(self._intake.list(payment_intent, deadline), deadline)

    def _take_in(self, facts: Sequence[StripeRefund | None], deadline: Deadline) -> bool:
        ours = False
        for fact in facts:
            if fact is not None and self._intake.knows(fact.payment_intent):
                self._intake.take_in(fact, deadline, by="webhook")
                ours = True
        return ours


def _read_refund(obj: Mapping[str, Any], event: Mapping[str, Any]) -> StripeRefund | None:
    """The event's refund; ``None`` for one of a charge without a payment intent, which is none of ours."""
    if obj.get("payment_intent") is None:
        return None
    request = event.get("request")
    request_id = request.get("id") if isinstance(request, Mapping) else None
    try:
        return parse_refund(obj, request_id if isinstance(request_id, str) else None)
    except (LookupError, TypeError, ValueError) as error:
        _log.warning("An event's refund cannot be read (%s)", type(error).__name__)
        raise InvalidRequest("The event's refund is not as Stripe documents it.") from error
