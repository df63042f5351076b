"""Refund completed purchases through Stripe from a Flask app: never twice, never lost.

``app.register_blueprint(refunds_bp)`` is the whole set-up; the app's config says the rest.
"""

from .api import bulk_refund, plan_bulk_refund
from .blueprint import refunds_bp
from .errors import (
    AdminRequired,
    ConfigurationError,
    DatabaseUnavailable,
    IdentityProviderUnavailable,
    InvalidRequest,
    NotAuthenticated,
    PaymentIntentMissing,
    PurchaseNotFound,
    PurchaseNotRefundable,
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
    "ConfigurationError",
    "DatabaseUnavailable",
    "IdentityProviderUnavailable",
    "InvalidRequest",
    "NotAuthenticated",
    "PaymentIntentMissing",
    "PurchaseNotFound",
    "PurchaseNotRefundable",
    "RefundFailed",
    "RefundInProgress",
    "RefundNotFound",
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
    "plan_bulk_refund",
    "refund_needs_review",
    "refund_failed",
    "refund_pending",
    "refund_succeeded",
    "refunds_bp",
    "require_admin",
]
