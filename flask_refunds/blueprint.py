"""The blueprint: routes and commands. It has no state."""

from __future__ import annotations

from flask import Blueprint

from . import cli, console
from .web import openapi, views, webhooks

refunds_bp = Blueprint("refunds", __name__, url_prefix="/api/payments", cli_group="refunds")
"""Register it with ``app.register_blueprint(refunds_bp)``. ``url_prefix`` and ``name`` can be overridden."""

for rule in ("/admin/refund/<purchase_id>", "/admin/refund/<path:purchase_id>"):
    # An ID may contain slashes, or line breaks, which the second rule doesn't match. A redirect to a path
    # with merged slashes would name another purchase.
    refunds_bp.add_url_rule(rule, view_func=views.refund_purchase, methods=["POST"], merge_slashes=False)
    refunds_bp.add_url_rule(rule, view_func=views.preview_refund, merge_slashes=False)
refunds_bp.add_url_rule("/admin/all", view_func=views.list_purchases)
refunds_bp.add_url_rule("/status/<payment_intent_id>", view_func=views.show_purchase)
refunds_bp.add_url_rule("/admin/refunds", view_func=views.list_refunds)
refunds_bp.add_url_rule("/admin/refunds/<refund_id>", view_func=views.show_refund)
refunds_bp.add_url_rule("/admin/refunds/metrics", view_func=views.show_metrics)
refunds_bp.add_url_rule("/admin", view_func=console.show_page)
refunds_bp.add_url_rule("/admin/", view_func=console.show_page)
refunds_bp.add_url_rule("/admin/assets/<version>/<path:name>", view_func=console.send_asset)
refunds_bp.add_url_rule("/webhook/refunds", view_func=webhooks.receive_event, methods=["POST"])
refunds_bp.add_url_rule("/openapi.json", view_func=openapi.show_openapi)

refunds_bp.cli.help = "Make, track and report refunds."
for command in cli.COMMANDS:
    refunds_bp.cli.add_command(command)
