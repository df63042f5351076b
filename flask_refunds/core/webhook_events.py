"""What Stripe's events mean for our ledger. An event is news: it may come twice, late, or first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..clock import Deadline
from ..errors import InvalidRequest, StripeAnswer, StripeUnavailable
from ..log import Decision, decided
from ..models import StripeRefund
from ..stripe_client.parsing import expect, parse_refund
from .stripe_sync import Intake

REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})
"""Events that carry a refund. A canceled one comes as ``refund.updated``; older versions send the last."""

CHARGE_EVENTS = frozenset({"charge.refunded"})
"""Events that carry a charge. It no longer holds its refunds: they are listed by payment intent."""

WANTED_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed"}) | CHARGE_EVENTS
"""What an endpoint at Stripe should be subscribed to."""

EVENT_SECONDS = 15.0
"""How long one event may take: Stripe waits for some 20 s, and then sends it again."""

_EVENT_ID = re.compile(r"evt_[0-9A-Za-z_]{1,100}", re.ASCII)
_EVENT_TYPE = re.compile(r"[a-z0-9_.]{1,100}", re.ASCII)


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
        taken = self._handle(kind, obj, event)
        decided(Decision.EVENT_TAKEN if taken else Decision.EVENT_IGNORED, **_name(event))
        return taken

    def _handle(self, kind: str, obj: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
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
            raise refused("malformed", "The event is not as Stripe sends them.", event) from None
        if livemode is not self._livemode:
            mode = "live" if livemode else "test"
            raise refused("mode", f"The event is of {mode} mode, and this server's key is not.", event)
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
        raise refused("malformed", "The event's refund is not as Stripe documents it.", event) from error


def refused(why: str, message: str, event: Mapping[str, Any] | None = None) -> InvalidRequest:
    """The answer for a call that is no event for us, which is logged.

    :param why: ``signature``, ``malformed`` or ``mode``.
    :param event: what it claims to be, once it is known to be Stripe's.
    """
    decided(Decision.EVENT_REFUSED, why=why, **_name(event or {}))
    return InvalidRequest(message)


def _name(event: Mapping[str, Any]) -> dict[str, str | None]:
    """What the log calls an event: its id and type, if they look like an id and a type of Stripe's."""
    event_id, kind = str(event.get("id")), str(event.get("type"))
    return {
        "event_id": event_id if _EVENT_ID.fullmatch(event_id) else None,
        "event_type": kind if "type" in event and _EVENT_TYPE.fullmatch(kind) else None,
    }
