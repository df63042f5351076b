"""The errors of Stripe's API, as its answers carry them.

Shapes and statuses: https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes
"""

from __future__ import annotations

from typing import Any

RATE_LIMITS_PAGE = "https://stripe.com/docs/rate-limits"


class ApiError(Exception):
    """An answer that is no success.

    :param status: HTTP status.
    :param message: words for a developer.
    :param fields: further fields of the error object: ``type``, ``code``, ``param``, …
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
    """400: the request itself is wrong."""
    return ApiError(400, message, **fields)


def missing(kind: str, identifier: str, *, param: str = "id", hint: str = "") -> ApiError:
    """404: no object of this kind has this id."""
    message = f"No such {kind}: '{identifier}'{hint}"
    return ApiError(404, message, code="resource_missing", param=param)


def unauthorized(message: str, **fields: Any) -> ApiError:
    """401: no key, or none that Stripe knows."""
    challenge = (("WWW-Authenticate", 'Basic realm="Stripe"'),)
    return ApiError(401, message, headers=challenge, **fields)


def key_missing() -> ApiError:
    """401: the request has no key at all."""
    return unauthorized(
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
        "https://stripe.com/docs/api#authentication for details, or we can help at "
        "https://support.stripe.com/."
    )


def key_rejected(key: str) -> ApiError:
    """401: the key is none of this account's; it is shown masked."""
    return unauthorized(f"Invalid API Key provided: {masked(key)}")


def key_forbidden(key: str) -> ApiError:
    """403: a restricted key that lacks the permission."""
    return ApiError(
        403,
        f"The provided key '{masked(key)}' does not have the required permissions for this "
        "endpoint. Having the 'rak_charge_write' permission would allow this request to continue.",
    )


def masked(key: str) -> str:
    """A key's kind and its last four characters, the rest starred out."""
    kind = key[:8] if key[:3] in ("sk_", "rk_", "pk_") else ""
    secret = key.removeprefix(kind)
    shown = secret[-4:] if len(secret) > 8 else ""
    return f"{kind}{'*' * 8}{shown}"


def rate_limited(livemode: bool) -> ApiError:
    """429: too many requests a second (Stripe sends no ``Retry-After``)."""
    message = (
        f"Request rate limit exceeded. You can learn more about rate limits here {RATE_LIMITS_PAGE}."
        if livemode
        else "Testmode request rate limit exceeded, the rate limits in testmode are lower than "
        f"livemode. You can learn more about rate limits here {RATE_LIMITS_PAGE}."
    )
    reason = (("Stripe-Rate-Limited-Reason", "global-rate"),)
    return ApiError(429, message, code="rate_limit", headers=reason)


def lock_timeout() -> ApiError:
    """429 without a rate-limited reason: another request holds the object."""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process "
        "is currently accessing it. If you see this error intermittently, retry the request. If "
        "you see this error frequently and are making multiple concurrent requests to a single "
        "object, make your requests serially or at a lower rate.",
        code="lock_timeout",
        headers=(("Stripe-Should-Retry", "true"),),
    )


def key_in_use(key: str | None) -> ApiError:
    """409: the first request with this idempotency key still runs."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably "
        f"means you submitted twice, and the other request is still going through): {key}. "
        "Please try again later.",
        code="idempotency_key_in_use",
    )


def server_error(status: int = 500, *, retry: bool | None = None) -> ApiError:
    """5xx: Stripe itself is broken.

    :param retry: what ``Stripe-Should-Retry`` says: false where the idempotency layer would only
        replay this very answer.
    """
    headers = () if retry is None else (("Stripe-Should-Retry", str(retry).lower()),)
    return ApiError(status, "An unknown error occurred", type="api_error", headers=headers)


def card_declined(decline_code: str, **fields: Any) -> ApiError:
    """402: the issuer said no."""
    messages = {
        "insufficient_funds": "Your card has insufficient funds.",
        "test_mode_live_card": "Your card was declined. Your request was in test mode, but used a "
        "non test (live) card. For a list of valid test cards, visit: "
        "https://stripe.com/docs/testing.",
    }
    return ApiError(
        402,
        messages.get(decline_code, "Your card was declined."),
        type="card_error",
        code="card_declined",
        decline_code=decline_code,
        **fields,
    )


def balance_insufficient() -> ApiError:
    """400: the account's balance does not cover the refund."""
    return invalid(
        "Insufficient funds in your Stripe balance to refund this amount.",
        code="balance_insufficient",
    )
