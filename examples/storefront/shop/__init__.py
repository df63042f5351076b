"""A shop for courses and ebooks, built with Flask, MongoDB, Stripe and flask_refunds."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask

from flask_refunds import RefundsError, check_config, refunds_bp

from . import access, database, emails, orders, settings
from .accounts import accounts_bp
from .admin import admin_bp
from .errors import ShopError, handle_refunds_error, handle_shop_error
from .pages import pages_bp
from .purchases import purchases_bp
from .webhooks import webhooks_bp

_MAX_BODY_BYTES = 1024 * 1024


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the shop's app.

    :param config: the config of the app and of flask_refunds; None reads it from the environment.
    :raises SettingsError: an environment variable is invalid.
    :raises flask_refunds.ConfigurationError: a config key is invalid.
    """
    # On Windows, .js may be registered as text/plain. Browsers don't load modules of that type.
    mimetypes.add_type("text/javascript", ".js")
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config.update(settings.from_environment(os.environ) if config is None else config)
    app.config.setdefault("REFUNDS_LOGIN_URL", "/sign-in")
    app.config.setdefault("REFUNDS_AMOUNT_UNIT", "minor")
    database.init_app(app)
    app.register_blueprint(refunds_bp)
    for blueprint in (pages_bp, accounts_bp, purchases_bp, admin_bp, webhooks_bp):
        app.register_blueprint(blueprint)
    app.register_error_handler(ShopError, handle_shop_error)
    app.register_error_handler(RefundsError, handle_refunds_error)
    check_config(app)
    orders.init_app(app)
    access.init_app(app)
    emails.init_app(app)
    return app
