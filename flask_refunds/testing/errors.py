"""The errors of Stripe's API (https://docs.stripe.com/api/errors, https://docs.stripe.com/error-codes)."""

from __future__ import annotations

from typing import Any

RATE_LIMITS_PAGE = "https://stripe.com/docs/rate-limits"
_DECLINE_MESSAGES = {
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "insufficient_funds": "Your card has insufficient funds.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}


class ApiError(Exception):
    """An error response.

    :param status: the HTTP status.
    :param message: the message for developers.
    :param headers: more headers of the response.
    :param fields: more fields of the error object: ``type``, ``code``, ``param``, …
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.error: dict[str, Any] = {"type": "invalid_request_error", **fields, "message": message}
        if "code" in fields:
            page = fields["code"].replace("_", "-")
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{page}"


def invalid(message: str, **fields: Any) -> ApiError:
    """Return a 400 error."""
    return ApiError(400, message, **fields)


def missing(kind: str, identifier: str, *, param: str = "id", hint: str = "") -> ApiError:
    """Return a 404 error for an unknown ID."""
    message = f"No such {kind}: '{identifier}'{hint}"
    return ApiError(404, message, code="resource_missing", param=param)


def unauthorized(message: str, **fields: Any) -> ApiError:
    """Return a 401 error."""
    challenge = (("WWW-Authenticate", 'Basic realm="Stripe"'),)
    return ApiError(401, message, headers=challenge, **fields)


def key_missing() -> ApiError:
    """Return a 401 error for a request without an API key."""
    return unauthorized(
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
        "https://stripe.com/docs/api#authentication for details, or we can help at "
        "https://support.stripe.com/."
    )


def key_rejected(key: str) -> ApiError:
    """Return a 401 error for an unknown API key, with the key masked."""
    return unauthorized(f"Invalid API Key provided: {mask_key(key)}")


def key_expired(key: str) -> ApiError:
    """Return a 401 error for an API key that was replaced, with the key masked."""
    return unauthorized(f"Expired API Key provided: {mask_key(key)}", code="api_key_expired")


def key_forbidden(key: str) -> ApiError:
    """Return a 403 error for a restricted API key without permission."""
    return ApiError(
        403,
        f"The provided key '{mask_key(key)}' does not have the required permissions for this "
        "endpoint. Having the 'rak_charge_write' permission would allow this request to continue.",
    )


def account_forbidden(key: str, account: str) -> ApiError:
    """Return a 403 error for an account that isn't connected to the key's account."""
    return ApiError(
        403,
        f"The provided key '{mask_key(key)}' does not have access to account '{account}' (or that account "
        "does not exist). Application access may have been revoked.",
        code="account_invalid",
    )


def mask_key(key: str) -> str:
    """Return an API key's prefix and last four characters, with the rest replaced by asterisks."""
    prefix = key[:8] if key[:3] in ("sk_", "rk_", "pk_") else ""
    secret = key.removeprefix(prefix)
    suffix = secret[-4:] if len(secret) > 8 else ""
    return f"{prefix}{'*' * 8}{suffix}"


def rate_limited(livemode: bool) -> ApiError:
    """Return a 429 error for too many requests. Stripe doesn't send ``Retry-After``."""
    message = (
        f"Request rate limit exceeded. You can learn more about rate limits here {RATE_LIMITS_PAGE}."
        if livemode
        else "Testmode request rate limit exceeded, the rate limits in testmode are lower than "
        f"livemode. You can learn more about rate limits here {RATE_LIMITS_PAGE}."
    )
    headers = (("Stripe-Rate-Limited-Reason", "global-rate"),)
    return ApiError(429, message, code="rate_limit", headers=headers)


def lock_timeout() -> ApiError:
    """Return a 429 error for an object that another request has locked."""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process "
        "is currently accessing it. If you see this error intermittently, retry the request. If "
        "you see this error frequently and are making multiple concurrent requests to a single "
        "object, make your requests serially or at a lower rate.",
        code="lock_timeout",
        headers=(("Stripe-Should-Retry", "true"),),
    )


def idempotency_key_in_use(key: str | None) -> ApiError:
    """Return a 409 error: the first request with this idempotency key is still running."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably "
        f"means you submitted twice, and the other request is still going through): {key}. "
        "Please try again later.",
        code="idempotency_key_in_use",
    )


def server_error(status: int = 500, *, retry: bool | None = None) -> ApiError:
    """Return a 5xx error.

    :param retry: the value of ``Stripe-Should-Retry``. Stripe sends false if a retry would only replay
        this response.
    """
    headers = () if retry is None else (("Stripe-Should-Retry", str(retry).lower()),)
    return ApiError(status, "An unknown error occurred", type="api_error", headers=headers)


def card_declined(decline_code: str, **fields: Any) -> ApiError:
    """Return a 402 error for a declined card (https://docs.stripe.com/testing#declined-payments)."""
    has_own_code = decline_code in ("expired_card", "incorrect_cvc", "processing_error")
    param = {"expired_card": "exp_month", "incorrect_cvc": "cvc"}.get(decline_code)
    if param is not None:
        fields["param"] = param
    return ApiError(
        402,
        _DECLINE_MESSAGES.get(decline_code, "Your card was declined."),
        type="card_error",
        code=decline_code if has_own_code else "card_declined",
        decline_code=decline_code,
        **fields,
    )


def balance_insufficient() -> ApiError:
    """Return a 400 error: the account's balance is too low for the refund."""
    return invalid(
        "Insufficient funds in your Stripe balance to refund this amount.",
        code="balance_insufficient",
    )
