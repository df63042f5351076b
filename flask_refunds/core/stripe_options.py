"""Decide which further parameters a refund's request has, once, before its record is created."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..clock import Deadline
from ..config import stripe_options_problem
from ..errors import ConfigurationError
from ..storage.purchases import Purchase
from .payments import payment_errors

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

_CONNECT_FLAGS = frozenset({"reverse_transfer", "refund_application_fee"})


class StripeOptions:
    """The app's ``REFUNDS_STRIPE_OPTIONS``.

    :param setting: the options, or a function that returns those of a purchase's document.
    :param gateway: returns the gateway, which is created when first needed.
    """

    def __init__(
        self,
        setting: Mapping[str, Any] | Callable[[Mapping[str, Any]], Any],
        gateway: Callable[[], Gateway],
    ) -> None:
        self._setting = setting
        self._gateway = gateway

    def evaluate(self, purchase: Purchase, deadline: Deadline) -> Mapping[str, Any]:
        """Return the options of a purchase with a payment.

        Stripe rejects a flag if the charge has no transfer or no fee, so the payment is read for a flag.

        :raises ConfigurationError: 500; the function returned something else than options.
        :raises PaymentUnknown: 400.
        :raises StripeUnavailable: 503.
        :raises StripeRateLimited: 503.
        :raises StripeKeyRejected: 500.
        """
        if not self._setting:
            return {}
        found = self._setting(purchase.document) if callable(self._setting) else self._setting
        problem = stripe_options_problem(found)
        if problem is not None:
            raise ConfigurationError({"REFUNDS_STRIPE_OPTIONS": f"returned a value that {problem}"})
        options = {name: value for name, value in found.items() if value not in (None, False, "")}
        flags = _CONNECT_FLAGS & options.keys()
        if not flags:
            return options
        payment = purchase.payment_intent or ""
        with payment_errors(payment):
            gateway = self._gateway().on(purchase.stripe_account)
            supported = gateway.find_connect_options(payment, deadline)
        return {name: value for name, value in options.items() if name not in flags - supported}
