"""Refund Stripe payments from a Flask app, each at most once.

Add it to an app with ``app.register_blueprint(refunds_bp)``, and configure it in ``app.config``.
"""

from .api import bulk_refund, plan_bulk_refund, refund_purchase
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
from .signals import refund_failed, refund_needs_review, refund_pending, refund_succeeded
from .web.auth import authenticate, current_user, require_admin
from .web.webhooks import handle_event

__version__ = "0.1.0"

__all__ = [
    "AdminRequired",
    "AmountTooLarge",
    "ConfigurationError",
    "CrossSiteRequest",
    "DatabaseUnavailable",
    "IdentityProviderUnavailable",
    "InvalidRequest",
    "NotAuthenticated",
    "PaymentIntentMissing",
    "PurchaseIdAmbiguous",
    "PurchaseNotFound",
    "PurchaseNotRefundable",
    "RecordUnreadable",
    "RefundAmbiguous",
    "RefundFailed",
    "RefundInProgress",
    "RefundNotFound",
    "RefundableChanged",
    "RefundsError",
    "StripeKeyRejected",
    "StripeRateLimited",
    "StripeUnavailable",
    "WebhookNotConfigured",
    "authenticate",
    "bulk_refund",
    "check_config",
    "current_user",
    "handle_event",
    "make_blueprint",
    "plan_bulk_refund",
    "refund_failed",
    "refund_needs_review",
    "refund_pending",
    "refund_purchase",
    "refund_succeeded",
    "refunds_bp",
    "require_admin",
]
