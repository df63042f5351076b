"""What can go wrong, as exceptions: one class per answer, with its HTTP status, machine code and words.

Two families. :class:`RefundsError` and its subclasses are public: each becomes one answer of the HTTP
contract. :class:`StripeAnswer` and its subclasses stay inside: they are what the gateway makes of Stripe's
words, and the service decides what they mean for a refund.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .models import Refund

RETRY_AFTER_SECONDS = 5
"""What a caller is told to wait on a 409 or a 503: longer than a usual refund, shorter than patience."""


class RefundsError(Exception):
    """The base of everything that this library raises at its callers.

    :param message: words for the reader, in place of the class's own.
    :param refund: the ledger row that the error is about, where there is one.
    """

    status: ClassVar[int] = 500
    """The HTTP status of the answer."""
    code: ClassVar[str] = "internal_error"
    """The machine's word for it, stable across releases."""
    default_message: ClassVar[str] = (
        "Internal error. A refund that was begun is not lost and cannot be made twice; "
        "it is safe to call again."
    )
    headers: ClassVar[Mapping[str, str]] = {}
    """Extra headers of the answer."""

    def __init__(self, message: str | None = None, *, refund: Refund | None = None) -> None:
        self.message = message or self.default_message
        self.refund = refund
        super().__init__(self.message)


class InvalidRequest(RefundsError):
    """400: the request is not in the contract; the message says what is wrong with it."""

    status = 400
    code = "invalid_request"
    default_message = "Invalid request"


class NotAuthenticated(RefundsError):
    """401: there is no token, or none that proves who is calling, or that user is gone.

    :param why: which check failed, for the log; the caller is not told.
    """

    status = 401
    code = "not_authenticated"
    default_message = "Not authenticated"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}

    def __init__(
        self, message: str | None = None, *, refund: Refund | None = None, why: str = "malformed"
    ) -> None:
        super().__init__(message, refund=refund)
        self.why = why


class AdminRequired(RefundsError):
    """403: the caller is known, and is no admin."""

    status = 403
    code = "admin_required"
    default_message = "Admin access required"


class PurchaseNotFound(RefundsError):
    """404: no purchase has this id, or it is no ObjectId at all."""

    status = 404
    code = "purchase_not_found"
    default_message = "Purchase not found"


class RefundNotFound(RefundsError):
    """404: the ledger has no refund with this id."""

    status = 404
    code = "refund_not_found"
    default_message = "Refund not found"


class PurchaseNotRefundable(RefundsError):
    """400: the purchase is pending, failed, or refunded already (here or at Stripe)."""

    status = 400
    code = "purchase_not_refundable"
    default_message = "Only completed purchases can be refunded"


class RefundInProgress(RefundsError):
    """409: another call holds this refund right now."""

    status = 409
    code = "refund_in_progress"
    default_message = "Refund already in progress"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class RefundFailed(RefundsError):
    """400: Stripe refused the refund, or it ended as ``failed`` or ``canceled``. It may be tried again."""

    status = 400
    code = "refund_failed"
    default_message = "Refund failed"


class PaymentIntentMissing(RefundFailed):
    """400: the purchase names no payment intent, so there is nothing at Stripe to refund."""

    code = "payment_intent_missing"


class PaymentUnknown(RefundFailed):
    """400: Stripe does not know the purchase's payment: it was made in another account or mode."""

    code = "payment_unknown"
    default_message = "Stripe does not know this purchase's payment. Nothing was refunded."


class StripeRateLimited(RefundsError):
    """503: Stripe answered 429 to the end. Nothing was refunded."""

    status = 503
    code = "stripe_rate_limited"
    default_message = (
        "Stripe is receiving too many requests. Nothing was refunded; try again in a few seconds."
    )
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class StripeUnavailable(RefundsError):
    """503: Stripe could not be asked what an event is about. Stripe will send the event again."""

    status = 503
    code = "stripe_unavailable"
    default_message = "Stripe could not be asked about this event; it must be sent again."
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_SECONDS)}


class WebhookNotConfigured(RefundsError):
    """404: there is no ``STRIPE_WEBHOOK_SECRET``, so there is no webhook."""

    status = 404
    code = "webhook_not_configured"
    default_message = "Not found"


class StripeKeyRejected(RefundsError):
    """500: Stripe does not accept our key, or it lacks the permission to refund."""

    status = 500
    code = "stripe_key_rejected"
    default_message = (
        "Stripe does not accept this server's key for refunds. Nothing was refunded; "
        "check STRIPE_SECRET_KEY and its permissions."
    )


class DatabaseUnavailable(RefundsError):
    """500: MongoDB did not answer in time, or refused."""

    status = 500
    code = "database_unavailable"
    default_message = (
        "The database is unavailable. Nothing was refunded by this call; it is safe to call again."
    )


class IdentityProviderUnavailable(RefundsError):
    """500: the identity provider's keys (``JWT_JWKS_URL``) cannot be fetched, so no token can be checked."""

    status = 500
    code = "identity_provider_unavailable"
    default_message = (
        "The identity provider's keys cannot be fetched, so nobody can be authenticated. "
        "Nothing was refunded."
    )


class ConfigurationError(RefundsError):
    """500: the app's config cannot be used. ``str()`` names every bad key; the answer names none.

    :param problems: key -> what is wrong with it, in words and without its value.
    """

    status = 500
    code = "configuration_error"
    default_message = (
        "Refunds are not configured correctly on this server. Nothing was refunded; "
        "the server's log says which settings are wrong."
    )

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__()
        self.problems = dict(problems)

    def __str__(self) -> str:
        lines = (f"  {key}: {problem}" for key, problem in self.problems.items())
        return "flask_refunds cannot work with this app's config:\n" + "\n".join(lines)


class StripeAnswer(Exception):
    """The base of what the gateway raises when it has no refund to return.

    Each kind has its word, ``outcome``, for whoever counts.

    :param code: Stripe's error code, or our own word where Stripe gave none.
    :param message: Stripe's words, or ours. Never holds a key.
    :param request_id: Stripe's ``req_…``, to quote to its support.
    """

    outcome: ClassVar[str] = "unknown"

    def __init__(self, code: str, message: str, *, request_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id


class Refused(StripeAnswer):
    """Stripe said no (400, 402, 404): this request moved no money, and will not."""

    outcome = "refused"


class Throttled(StripeAnswer):
    """Stripe said 429 to every try: nothing was executed."""

    outcome = "throttled"


class KeyRejected(StripeAnswer):
    """Stripe said 401 or 403 to the only try: nothing was executed."""

    outcome = "key_rejected"


class PermissionMissing(KeyRejected):
    """Stripe said 403: the key is good, and may not do this."""


class OutcomeUnknown(StripeAnswer):
    """Nobody can tell from this answer, or from its absence, whether money moved."""


class NothingToResolve(RefundsError):
    """400: there is no such refund, or it does not ask for this decision."""

    status = 400
    code = "nothing_to_resolve"
    default_message = "There is nothing to resolve."
