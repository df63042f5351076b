"""A shop for courses and e-books on Flask, MongoDB and Stripe, with flask_refunds mounted."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask

from flask_refunds import RefundsError, check_config, refunds_bp

from . import access, database, mails, orders, settings
from .accounts import accounts_bp
from .admin import admin_bp
from .errors import Refusal, answer_refunds_error, answer_refusal
from .pages import pages_bp
from .purchases import purchases_bp
from .webhooks import webhooks_bp

_MAX_BODY_BYTES = 1024 * 1024


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The shop.

    :param config: the config of the app and of flask_refunds; ``None`` reads it from the environment.
    :raises SettingsError: the environment cannot be used.
    :raises flask_refunds.ConfigurationError: names every bad key.
    """
    # Windows may know .js as text/plain, and a browser loads no module of that type.
    mimetypes.add_type("text/javascript", ".js")
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.config.update(settings.from_environment(os.environ) if config is None else config)
    app.config.setdefault("REFUNDS_CONSOLE_LOGIN_URL", "/sign-in")
    database.init_app(app)
    app.register_blueprint(refunds_bp)
    for blueprint in (pages_bp, accounts_bp, purchases_bp, admin_bp, webhooks_bp):
        app.register_blueprint(blueprint)
    app.register_error_handler(Refusal, answer_refusal)
    app.register_error_handler(RefundsError, answer_refunds_error)
    check_config(app)
    orders.init_app(app)
    access.init_app(app)
    mails.init_app(app)
    return app
