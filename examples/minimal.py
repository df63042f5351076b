"""An app that registers the blueprint and has one view of its own for admins.

    MONGO_URI=mongodb://localhost/shop STRIPE_SECRET_KEY=sk_test_… JWT_SECRET_KEY=… \\
        flask --app examples/minimal.py run
"""

from __future__ import annotations

import os

from flask import Flask

from flask_refunds import current_user, refunds_bp, require_admin

app = Flask(__name__)
app.config.update({key: os.environ[key] for key in ("MONGO_URI", "STRIPE_SECRET_KEY", "JWT_SECRET_KEY")})
app.register_blueprint(refunds_bp)


@app.get("/admin/me")
@require_admin
def show_me() -> dict[str, str]:
    return {"id": str(current_user["_id"]), "name": current_user["name"]}
