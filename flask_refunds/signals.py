"""What a host can listen to. Each is sent after the durable write, with the app as sender.

Receivers are called with ``refund`` (a :class:`~flask_refunds.models.Refund`) and ``refund_id`` (its id), at
least once for each change: after a crash they may be called again, so they deduplicate on ``refund_id`` and
``refund.status``.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable
from inspect import isawaitable, iscoroutine
from typing import Any

from blinker import NamedSignal, Namespace

from .log import Decision, decided
from .models import Refund, RefundStatus

_signals = Namespace()

refund_succeeded = _signals.signal("refund-succeeded", doc="The money is on its way to the customer.")
refund_pending = _signals.signal(
    "refund-pending", doc="Stripe has accepted the refund and has not made it yet."
)
refund_failed = _signals.signal(
    "refund-failed", doc="The customer gets no money from this refund; it may have succeeded before."
)
refund_attention = _signals.signal("refund-attention", doc="A person must look at this refund.")

_BY_STATUS = {
    RefundStatus.REQUIRES_ACTION: refund_pending,
    RefundStatus.PENDING: refund_pending,
    RefundStatus.SUCCEEDED: refund_succeeded,
    RefundStatus.FAILED: refund_failed,
    RefundStatus.CANCELED: refund_failed,
}


class Announcer:
    """Tells one app's receivers what became of a refund.

    :param app: the sender.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def has_listeners(self) -> bool:
        """Whether anybody would hear. Where nobody would, nothing is left unsaid."""
        signals = {*_BY_STATUS.values(), refund_attention}
        return any(signal.has_receivers_for(self._app) for signal in signals)

    def announce(self, refund: Refund) -> bool:
        """Send the signals of a row's present state.

        :return: whether every receiver ran to its end. One that raises is logged, and spoils nothing.
        """
        signals = [_BY_STATUS.get(refund.status), refund_attention if refund.attention else None]
        done = [self._send(signal, refund) for signal in signals if signal is not None]
        return all(done)

    def _send(self, signal: NamedSignal, refund: Refund) -> bool:
        done = True
        for receiver in signal.receivers_for(self._app):
            try:
                self._finish(receiver(self._app, refund=refund, refund_id=refund.id))
            except (Exception, CancelledError) as error:
                # SystemExit and KeyboardInterrupt end the process, as a crash would; reconcile heals both.
                decided(Decision.RECEIVER_FAILED, error, refund_id=refund.id, signal=signal.name)
                done = False
        return done

    def _finish(self, result: Any) -> None:
        """Wait for what a receiver returned, if that is how it does its work.

        :raises RuntimeError: there is no waiting here: ``flask[async]`` is missing, or a loop is running.
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
