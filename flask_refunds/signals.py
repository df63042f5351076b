"""Signals for the app's receivers. Each is sent after the durable write, with the app as sender.

Receivers are called with ``refund`` (a :class:`~flask_refunds.models.Refund`) and ``refund_id`` (its ID), at
least once per change. After a crash they may be called again, so deduplicate on ``refund_id`` and
``refund.status``.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable
from inspect import isawaitable, iscoroutine
from typing import Any

from blinker import NamedSignal, Namespace

from .log import LogEvent, log_event
from .models import Refund, RefundStatus

_signals = Namespace()

refund_succeeded: NamedSignal = _signals.signal("refund-succeeded", doc="Stripe made the refund.")
refund_pending: NamedSignal = _signals.signal(
    "refund-pending", doc="Stripe accepted the refund and hasn't completed it yet."
)
refund_failed: NamedSignal = _signals.signal(
    "refund-failed", doc="The customer receives nothing from this refund. It may have succeeded before."
)
refund_needs_review: NamedSignal = _signals.signal(
    "refund-needs-review", doc="A person must review this refund."
)

_BY_STATUS = {
    RefundStatus.REQUIRES_ACTION: refund_pending,
    RefundStatus.PENDING: refund_pending,
    RefundStatus.SUCCEEDED: refund_succeeded,
    RefundStatus.FAILED: refund_failed,
    RefundStatus.CANCELED: refund_failed,
}


class SignalSender:
    """Sends signals to one app's receivers.

    :param app: the sender.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def has_listeners(self) -> bool:
        """Return whether any receiver is connected. Without one, no signal remains to be sent."""
        signals = {*_BY_STATUS.values(), refund_needs_review}
        return any(signal.has_receivers_for(self._app) for signal in signals)

    def send(self, refund: Refund) -> bool:
        """Send the signals of a refund's current state.

        :return: whether every receiver returned; ``False`` in a process without receivers, which leaves the
            signals to another one. A receiver that raises is logged and doesn't affect the others.
        """
        if not self.has_listeners():
            return False
        signals = [_BY_STATUS.get(refund.status), refund_needs_review if refund.review else None]
        succeeded = [self._send(signal, refund) for signal in signals if signal is not None]
        return all(succeeded)

    def _send(self, signal: NamedSignal, refund: Refund) -> bool:
        succeeded = True
        for receiver in signal.receivers_for(self._app):
            try:
                self._wait_for(receiver(self._app, refund=refund, refund_id=refund.id))
            except (Exception, CancelledError) as error:
                # SystemExit and KeyboardInterrupt end the process like a crash; reconcile recovers from both.
                log_event(LogEvent.RECEIVER_FAILED, error, refund_id=refund.id, signal=signal.name)
                succeeded = False
        return succeeded

    def _wait_for(self, result: Any) -> None:
        """Wait for an async receiver.

        :raises RuntimeError: waiting isn't possible: ``flask[async]`` is missing, or a loop is running.
        """
        if not isawaitable(result):
            return
        try:
            self._app.ensure_sync(_wait)(result)
        finally:
            if iscoroutine(result):
                result.close()


async def _wait(result: Awaitable[Any]) -> None:
    await result
