"""Where figures are taken while the work goes on: whoever observes sees each change, and can spoil nothing.

Apart from the signals: a receiver is told at least once, which costs a refund one more write. An observer is
told at most once, and that costs nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

from .log import Decision, decided
from .models import Refund


class Observer(Protocol):
    """What an observer is told, in the thread that does the work; it must be quick."""

    def refund_changed(self, refund: Refund) -> None:
        """A refund's status moved to what the row now shows, and that is durably written."""

    def stripe_answered(self, request: str, outcome: str, seconds: float) -> None:
        """One request to Stripe is over.

        :param request: ``create``, ``retrieve``, ``list``, ``captured`` or ``webhook_endpoints``.
        :param outcome: ``answered``, ``refused``, ``throttled``, ``key_rejected`` or ``unknown``.
        """


class Observers:
    """All observers of one app; to tell them is to tell each."""

    def __init__(self) -> None:
        self._all: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Tell this one, too; once, however often it is added."""
        if observer not in self._all:
            self._all.append(observer)

    def refund_changed(self, refund: Refund) -> None:
        """A refund's status moved."""
        self._tell("refund_changed", refund)

    def stripe_answered(self, request: str, outcome: str, seconds: float) -> None:
        """One request to Stripe is over."""
        self._tell("stripe_answered", request, outcome, seconds)

    def _tell(self, what: str, *facts: Any) -> None:
        for observer in self._all:
            try:
                getattr(observer, what)(*facts)
            except Exception as error:
                decided(Decision.OBSERVER_FAILED, error)
