"""How the shop says no."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from flask_refunds import RefundsError


class Refusal(Exception):
    """A request that the shop does not do, answered as ``{"error": "<words>"}``.

    :param status: the HTTP status, 4xx or 5xx.
    :param message: words for the customer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def answer_refusal(refusal: Refusal) -> ResponseReturnValue:
    """The app's error handler for :class:`Refusal`."""
    return {"error": refusal.message}, refusal.status


def answer_refunds_error(error: RefundsError) -> ResponseReturnValue:
    """The app's error handler for what flask_refunds raises in our own views."""
    return {"error": error.message}, error.status
