"""The blueprint: routes and commands. It has no state."""

from __future__ import annotations

import sys
from typing import Any

from flask import Blueprint, current_app

from . import cli, console
from .web import openapi, views, webhooks


def make_blueprint() -> Blueprint:
    """Return a blueprint like :data:`refunds_bp`, for an app that adds hooks, views or limits to it.

    Each app must make its own. What is added to a shared one would work in every app of the process.
    """
    blueprint = Blueprint("refunds", __name__, url_prefix="/api/payments", cli_group="refunds")
    _add_routes(blueprint)
    blueprint.url_value_preprocessor(_exempt_from_csrf_protect)
    blueprint.cli.help = "Make, track and report refunds."
    for command in cli.COMMANDS:
        blueprint.cli.add_command(command)
    return blueprint


def _add_routes(blueprint: Blueprint) -> None:
    for rule in ("/admin/refund/<purchase_id>", "/admin/refund/<path:purchase_id>"):
        # An ID may contain slashes, or line breaks, which the second rule doesn't match. A redirect to a path
        # with merged slashes would name another purchase.
        blueprint.add_url_rule(rule, view_func=views.refund_purchase, methods=["POST"], merge_slashes=False)
        blueprint.add_url_rule(rule, view_func=views.preview_refund, merge_slashes=False)
    blueprint.add_url_rule("/admin/all", view_func=views.list_purchases)
    blueprint.add_url_rule("/admin/me", view_func=views.show_me)
    blueprint.add_url_rule("/status/<payment_intent_id>", view_func=views.show_purchase)
    blueprint.add_url_rule("/admin/refunds", view_func=views.list_refunds)
    blueprint.add_url_rule("/admin/refunds/<refund_id>", view_func=views.show_refund)
    resolve = "/admin/refunds/<refund_id>/resolve"
    blueprint.add_url_rule(resolve, view_func=views.resolve_refund, methods=["POST"])
    cancel = "/admin/refunds/<refund_id>/cancel"
    blueprint.add_url_rule(cancel, view_func=views.cancel_refund, methods=["POST"])
    blueprint.add_url_rule("/admin/refunds/metrics", view_func=views.show_metrics)
    blueprint.add_url_rule("/admin", view_func=console.show_page)
    blueprint.add_url_rule("/admin/", view_func=console.show_page)
    blueprint.add_url_rule("/admin/assets/<version>/<path:name>", view_func=console.send_asset)
    blueprint.add_url_rule("/webhook/refunds", view_func=webhooks.receive_event, methods=["POST"])
    blueprint.add_url_rule("/openapi.json", view_func=openapi.show_openapi)


def _exempt_from_csrf_protect(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Exempt our POST views from the app's ``CSRFProtect`` of Flask-WTF, if it has one.

    They check the origin of a request with a session themselves, and Stripe can't send a CSRF token. This
    runs before CSRFProtect, whether the app made it before or after registering the blueprint. Views that
    the app adds to the blueprint stay protected.
    """
    csrf, library = current_app.extensions.get("csrf"), sys.modules.get("flask_wtf.csrf")
    if csrf is not None and library is not None and isinstance(csrf, library.CSRFProtect):
        csrf.exempt(views.refund_purchase)
        csrf.exempt(views.resolve_refund)
        csrf.exempt(views.cancel_refund)
        csrf.exempt(webhooks.receive_event)


refunds_bp: Blueprint = make_blueprint()
"""Register it with ``app.register_blueprint(refunds_bp)``. ``url_prefix`` and ``name`` can be overridden."""
