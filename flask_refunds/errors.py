"""Errors: one class per answer, with its HTTP status, code and message.

:class:`RefundsError` and its subclasses are public; each becomes one answer of the HTTP API.
:class:`StripeCallError` and its subclasses are internal: the gateway raises them, and the refund service
decides what they mean for a refund.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .models import Refund

RETRY_AFTER_SECONDS = 5
"""The ``Retry-After`` of a 409 or 503, in seconds: longer than a typical refund takes."""


class RefundsError(Exception):
    """The base of all errors that this library raises to its callers.

    :param message: replaces the class's default message.
    :param refund: the refund record that the error is about, if any.
    :param hint: what to do about it, if more is known than the message says.
    :param stripe_code: Stripe's code for it, or this library's where Stripe gave none.
    """

    status: ClassVar[int] = 500
    """The HTTP status of the answer."""
    code: ClassVar[str] = "internal_error"
    """The machine-readable code, stable across releases."""
    default_message: ClassVar[str] = (
        "Internal error. A refund that was started isn't lost and can't be made twice. It is safe to retry."
    )
    headers: ClassVar[Mapping[str, str]] = {}
    """Extra headers of the answer."""
    details: Mapping[str, int] = {}
    """Extra fields of the answer."""
    default_hint: ClassVar[str | None] = None
    """What the caller can do, for the answer."""

    def __init__(
        self,
        message: str | None = None,
        *,
        refund: Refund | None = None,
        hint: str | None = None,
        stripe_code: str | None = None,
    ) -> None:
        self.message: str = message or self.default_message
        self.refund = refund
        self.hint: str | None = hint or self.default_hint
        self.stripe_code = stripe_code
        super().__init__(self.message)


class InvalidRequest(RefundsError):
    """400: the request is invalid; the message says what is wrong with it."""

    status = 400
    code = "invalid_request"
    default_message = "Invalid request"


class NotAuthenticated(RefundsError):
    """401: no user is signed in, the token is invalid, or its user no longer exists.

    :param reason: which check failed, for the log; the answer doesn't tell.
    """

    status = 401
    code = "not_authenticated"
    default_message = "Not authenticated"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}

    def __init__(self, *, reason: str = "malformed") -> None:
        super().__init__()
        self.reason = reason


class AdminRequired(RefundsError):
    """403: the caller is authenticated and isn't an admin."""

    status = 403
    code = "admin_required"
    default_message = "Admin access required"


class CrossSiteRequest(RefundsError):
    """403: the caller is signed in by session, and another website may have made the request."""

    status = 403
    code = "cross_site_request"
    default_message = "Requests from other websites aren't allowed"
    default_hint: ClassVar[str | None] = (
        "Send the request from a page of this origin, or send a bearer token. A script with cookies must "
        "send this origin in the Origin header. Other origins can be allowed with REFUNDS_TRUSTED_ORIGINS. "
        "A proxy must forward the Host header."
    )


class PurchaseIdAmbiguous(RefundsError):
    """400: two purchases have this ID, for example one as text and one as an ObjectId."""

    status = 400
    code = "purchase_id_ambiguous"
    default_message = "Two purchases have this ID, as different types. Nothing was refunded."


class PurchaseNotFound(RefundsError):
    """404: no purchase has this ID."""

    status = 404
    code = "purchase_not_found"
    default_message = "Purchase not found"


class RefundNotFound(RefundsError):
    """404: the ledger has no refund with this ID."""

    status = 404
    code = "refund_not_found"
    default_message = "Refund not found"


class PurchaseNotRefundable(RefundsError):
    """400: the purchase is pending, failed, or already refunded, here or at Stripe."""

    status = 400
    code = "purchase_not_refundable"
    default_message = "Only completed purchases can be refunded"


class RefundInProgress(RefundsError):
    """409: another call is working on this refund."""

    status = 409
    code = "refund_in_progress"
    default_message = "Refund already in progress"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class AmountTooLarge(RefundsError):
    """400: the amount of a partial refund is larger than what its caller saw as refundable."""

    status = 400
    code = "amount_too_large"
    default_message = "amount is larger than refundable. Nothing was refunded."


class RefundableChanged(RefundsError):
    """409: a partial refund isn't based on the payment as it is now. Look at it again, then decide.

    :param refundable: what is left of the payment now, in minor units.
    :param number: the number that the next refund of the payment gets.
    """

    status = 409
    code = "refundable_changed"
    default_message = "The payment was refunded or changed meanwhile. This call refunded nothing."

    def __init__(self, *, refundable: int, number: int) -> None:
        super().__init__()
        self.details: Mapping[str, int] = {"refundable": refundable, "number": number}


class RefundAmbiguous(RefundsError):
    """409: it isn't certain whether a partial refund repeats an earlier call, or is meant as another one."""

    status = 409
    code = "refund_ambiguous"
    default_message = (
        "An equal refund was made before, and the same amount is refundable again. "
        "Send number to say which refund this is. This call refunded nothing."
    )


class RefundFailed(RefundsError):
    """400: Stripe rejected the refund, or it is ``failed`` or ``canceled``. It can be tried again."""

    status = 400
    code = "refund_failed"
    default_message = "Refund failed"


class PaymentIntentMissing(RefundFailed):
    """400: the purchase holds no payment, so there is nothing to refund at Stripe."""

    code = "payment_intent_missing"


class PaymentUnknown(RefundFailed):
    """400: Stripe doesn't know the purchase's payment: it belongs to another account or mode."""

    code = "payment_unknown"
    default_message = "Stripe doesn't know this purchase's payment. Nothing was refunded."
    default_hint: ClassVar[str | None] = (
        "It belongs to another Stripe account, or to the other mode (test or live), than the server's key. "
        'For direct charges of connected accounts, set REFUNDS_PURCHASE_FIELDS["stripe_account"]. '
        "For destination charges, that field must be empty."
    )


class StripeRateLimited(RefundsError):
    """503: Stripe answered every attempt with 429. Nothing was refunded."""

    status = 503
    code = "stripe_rate_limited"
    default_message = (
        "Stripe is receiving too many requests. Nothing was refunded. Try again in a few seconds."
    )
    lock_message: ClassVar[str] = (
        "Another request is changing this payment at Stripe. Nothing was refunded. "
        "Try again in a few seconds."
    )
    """The message for Stripe's code ``lock_timeout``, which isn't about the number of requests."""
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}

    @classmethod
    def by_code(cls, code: str, *, refund: Refund | None = None) -> StripeRateLimited:
        """Return the error with the message for Stripe's code."""
        message = cls.lock_message if code == "lock_timeout" else None
        return cls(message, refund=refund, stripe_code=code)


class StripeUnavailable(RefundsError):
    """503: Stripe couldn't be reached to process an event. Stripe will send the event again."""

    status = 503
    code = "stripe_unavailable"
    default_message = "Stripe couldn't be reached to process this event. Send it again."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class WebhookNotConfigured(RefundsError):
    """404: ``STRIPE_WEBHOOK_SECRET`` isn't set, so the webhook is disabled."""

    status = 404
    code = "webhook_not_configured"
    default_message = "Not found"


class StripeKeyRejected(RefundsError):
    """500: Stripe rejected the secret key, or the key lacks the permission to refund."""

    status = 500
    code = "stripe_key_rejected"
    default_message = "Stripe rejected this server's key for refunds. Nothing was refunded."


class DatabaseUnavailable(RefundsError):
    """500: MongoDB didn't answer in time, or returned an error."""

    status = 500
    code = "database_unavailable"
    default_message = "The database is unavailable. This call refunded nothing. It is safe to retry."


class RecordUnreadable(DatabaseUnavailable):
    """500: a record of this payment can't be read, so it isn't known whether it is refunded."""

    code = "record_unreadable"
    default_message = (
        "A refund record of this payment can't be read, so this call refunded nothing. "
        "A newer release of flask_refunds may have written it: upgrade this server."
    )


class IdentityProviderUnavailable(RefundsError):
    """500: the identity provider's keys (``JWT_JWKS_URL``) can't be fetched to verify tokens."""

    status = 500
    code = "identity_provider_unavailable"
    default_message = (
        "The identity provider's keys can't be fetched, so the caller can't be authenticated. "
        "Nothing was refunded."
    )


class ConfigurationError(RefundsError):
    """500: the app's config is invalid. ``str()`` names every invalid key; the answer doesn't.

    :param problems: key -> what is wrong with it, without its value.
    """

    status = 500
    code = "configuration_error"
    default_message = (
        "Refunds aren't configured correctly on this server. Nothing was refunded. "
        "The server's log names the invalid settings."
    )

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__()
        self.problems: dict[str, str] = dict(problems)

    def __str__(self) -> str:
        lines = (f"  {key}: {problem}" for key, problem in self.problems.items())
        return "Invalid config for flask_refunds:\n" + "\n".join(lines)


class NothingToResolve(RefundsError):
    """400: the refund doesn't exist, or this decision doesn't apply to it."""

    status = 400
    code = "nothing_to_resolve"
    default_message = "There is nothing to resolve."


class StripeCallError(Exception):
    """The base of what the gateway raises when a request to Stripe has no usable result.

    :param code: Stripe's error code, or one of this library where Stripe gave none.
    :param message: Stripe's message, or this library's. It never contains a key.
    :param request_id: Stripe's ``req_…``, for its support.
    """

    outcome: ClassVar[str] = "unknown"
    """The outcome's name in metrics."""

    def __init__(self, code: str, message: str, *, request_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id


class RequestRejected(StripeCallError):
    """Stripe rejected the request (400, 402, 404): it moved no money and won't."""

    outcome = "rejected"


class RateLimited(StripeCallError):
    """Stripe answered every attempt with 429: nothing was executed."""

    outcome = "rate_limited"


class KeyRejected(StripeCallError):
    """Stripe answered the only attempt with 401 or 403: nothing was executed."""

    outcome = "key_rejected"


class PermissionMissing(KeyRejected):
    """Stripe answered with 403: the key is valid and lacks a permission."""


class OutcomeUnknown(StripeCallError):
    """The response, or its absence, doesn't tell whether money moved."""
