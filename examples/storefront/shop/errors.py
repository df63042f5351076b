"""Error responses of the shop."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from flask_refunds import RefundsError


class ShopError(Exception):
    """An error with a JSON response, ``{"error": "<message>"}``.

    :param status: the HTTP status, 4xx or 5xx.
    :param message: the message for the customer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def handle_shop_error(error: ShopError) -> ResponseReturnValue:
    """Return the response for a :class:`ShopError`."""
    return {"error": error.message}, error.status


def handle_refunds_error(error: RefundsError) -> ResponseReturnValue:
    """Return the response for an error that flask_refunds raises in the shop's own views."""
    return {"error": error.message}, error.status
