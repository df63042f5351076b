"""What an error of Stripe's library means for the money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe

from ..errors import (
    KeyRejected,
    OutcomeUnknown,
    PermissionMissing,
    RateLimited,
    RequestRejected,
    StripeCallError,
)

_MAX_TEXT = 500


def interpret(error: stripe.StripeError) -> StripeCallError:
    """Return what an error of Stripe's library means for the money.

    Only an error in Stripe's own format counts as Stripe's answer. A proxy's 403 page doesn't.
    """
    answer: type[StripeCallError] = OutcomeUnknown
    if error.error is not None and not isinstance(
        error, (stripe.IdempotencyError, stripe.APIConnectionError)
    ):
        answer = _MEANING.get(error.http_status or 0, OutcomeUnknown)
    if str(getattr(error.error, "param", "")).startswith("expand"):
        answer = OutcomeUnknown  # whether the request itself was executed isn't documented
    code = _short_text(getattr(error.error, "code", None)) or _OWN_CODES.get(type(error), "unknown_error")
    # Stripe quotes the end of a rejected key, so that message isn't kept.
    message = "Stripe doesn't accept the key." if issubclass(answer, KeyRejected) else error.user_message
    return answer(
        code, _short_text(message) or "Stripe gave no reason.", request_id=_short_text(error.request_id)
    )


def _short_text(value: Any) -> str | None:
    """Return text that MongoDB can store, at most 500 characters; ``None`` for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return value[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


_OWN_CODES: Mapping[type[stripe.StripeError], str] = {
    stripe.APIConnectionError: "connection_failed",
    stripe.APIError: "api_error",
    stripe.AuthenticationError: "authentication_failed",
    stripe.CardError: "card_error",
    stripe.IdempotencyError: "idempotency_error",
    stripe.InvalidRequestError: "invalid_request",
    stripe.PermissionError: "permission_denied",
    stripe.RateLimitError: "rate_limit",
}
"""The codes of errors for which Stripe gives none."""

_MEANING: Mapping[int, type[StripeCallError]] = {
    400: RequestRejected,
    401: KeyRejected,
    402: RequestRejected,
    403: PermissionMissing,
    404: RequestRejected,
    429: RateLimited,
}
