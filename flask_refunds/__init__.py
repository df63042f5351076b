"""Refund Stripe payments from a Flask app, each at most once.

Add it to an app with ``app.register_blueprint(refunds_bp)``, and configure it in ``app.config``.
"""

from .advice import Advice, advise, customer_message
from .api import (
    bulk_refund,
    get_refund,
    list_refunds,
    plan_bulk_refund,
    preview_refund,
    reconcile,
    refund_purchase,
)
from .blueprint import make_blueprint, refunds_bp
from .errors import (
    AdminRequired,
    AmountTooLarge,
    ConfigurationError,
    CrossSiteRequest,
    DatabaseUnavailable,
    IdentityProviderUnavailable,
    InvalidRequest,
    NotAuthenticated,
    PaymentIntentMissing,
    PurchaseIdAmbiguous,
    PurchaseNotFound,
    PurchaseNotRefundable,
    RecordUnreadable,
    RefundableChanged,
    RefundAmbiguous,
    RefundFailed,
    RefundInProgress,
    RefundNotFound,
    RefundsError,
    StripeKeyRejected,
    StripeRateLimited,
    StripeUnavailable,
    WebhookNotConfigured,
)
from .extension import check_config
from .models import Failure, Payment, Reason, Refund, RefundStatus, Review, ReviewCode
from .refund_details import RefundDetails
from .signals import refund_failed, refund_needs_review, refund_pending, refund_succeeded
from .web.auth import authenticate, current_user, require_admin
from .web.webhooks import handle_event

__version__ = "0.1.0"

__all__ = [
    "AdminRequired",
    "Advice",
    "AmountTooLarge",
    "ConfigurationError",
    "CrossSiteRequest",
    "DatabaseUnavailable",
    "Failure",
    "IdentityProviderUnavailable",
    "InvalidRequest",
    "NotAuthenticated",
    "Payment",
    "PaymentIntentMissing",
    "PurchaseIdAmbiguous",
    "PurchaseNotFound",
    "PurchaseNotRefundable",
    "Reason",
    "RecordUnreadable",
    "Refund",
    "RefundAmbiguous",
    "RefundDetails",
    "RefundFailed",
    "RefundInProgress",
    "RefundNotFound",
    "RefundStatus",
    "RefundableChanged",
    "RefundsError",
    "ReviewCode",
    "Review",
    "StripeKeyRejected",
    "StripeRateLimited",
    "StripeUnavailable",
    "WebhookNotConfigured",
    "advise",
    "authenticate",
    "bulk_refund",
    "check_config",
    "current_user",
    "customer_message",
    "get_refund",
    "handle_event",
    "list_refunds",
    "make_blueprint",
    "plan_bulk_refund",
    "preview_refund",
    "reconcile",
    "refund_failed",
    "refund_needs_review",
    "refund_pending",
    "refund_purchase",
    "refund_succeeded",
    "refunds_bp",
    "require_admin",
]
