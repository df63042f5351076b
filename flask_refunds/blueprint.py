"""What ``app.register_blueprint(refunds_bp)`` attaches. The blueprint itself holds no state."""

from __future__ import annotations

from flask import Blueprint

from . import cli, console
from .web import openapi as contract
from .web import views, webhooks

refunds_bp = Blueprint("refunds", __name__, url_prefix="/api/payments", cli_group="refunds")
"""Mount it with ``app.register_blueprint(refunds_bp)``; pass ``url_prefix`` or ``name`` to change that."""

refunds_bp.add_url_rule("/admin/refund/<purchase_id>", view_func=views.refund_purchase, methods=["POST"])
refunds_bp.add_url_rule("/admin/refund/<purchase_id>", view_func=views.preview_refund)
refunds_bp.add_url_rule("/admin/all", view_func=views.list_purchases)
refunds_bp.add_url_rule("/status/<payment_intent_id>", view_func=views.show_purchase)
refunds_bp.add_url_rule("/admin/refunds", view_func=views.list_refunds)
refunds_bp.add_url_rule("/admin/refunds/<refund_id>", view_func=views.show_refund)
refunds_bp.add_url_rule("/admin/refunds/metrics", view_func=views.show_metrics)
refunds_bp.add_url_rule("/admin", view_func=console.show_page)
refunds_bp.add_url_rule("/admin/", view_func=console.show_page)
refunds_bp.add_url_rule("/admin/assets/<version>/<path:name>", view_func=console.send_asset)
refunds_bp.add_url_rule("/webhook/refunds", view_func=webhooks.receive_event, methods=["POST"])
refunds_bp.add_url_rule("/openapi.json", view_func=contract.show_contract)

refunds_bp.cli.help = "Make, follow and account for refunds."
for command in cli.COMMANDS:
    refunds_bp.cli.add_command(command)
