"""Make a refund with the installed package: ``python smoke.py``."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import mongomock
from bson import ObjectId
from flask import Flask

import flask_refunds
from flask_refunds import check_config, refunds_bp
from flask_refunds.testing import StripeSandbox, make_token

SECRET = "a-secret-that-is-long-enough-for-hs256"


def main() -> None:
    """Register the blueprint, make a refund, open the admin page and run a command."""
    shop = mongomock.MongoClient(tz_aware=True).shop
    admin = shop.users.insert_one({"role": "admin"}).inserted_id
    with StripeSandbox() as stripe:
        purchase = {"status": "completed", "stripePaymentIntentId": stripe.create_payment(1999)}
        purchase_id: ObjectId = shop.purchases.insert_one(purchase).inserted_id
        app = Flask("smoke")
        app.config.update(
            JWT_SECRET_KEY=SECRET,
            STRIPE_SECRET_KEY="sk_test_smoke",
            STRIPE_API_BASE=stripe.url,
            REFUNDS_MONGO=shop,
        )
        app.register_blueprint(refunds_bp)
        check_config(app)
        client = app.test_client()
        headers = {"Authorization": f"Bearer {make_token(str(admin), secret=SECRET)}"}
        answer = client.post(f"/api/payments/admin/refund/{purchase_id}", headers=headers)
        assert (answer.status_code, answer.json["message"]) == (200, "Refund successful"), answer.text
        assert shop.purchases.find_one()["status"] == "refunded"
        page = client.get("/api/payments/admin/")
        assert page.status_code == 200, page.text
        script = page.text.split('src="')[1].split('"')[0]
        assert client.get(f"/api/payments/admin/{script}").status_code == 200, script
        shown = app.test_cli_runner().invoke(args=["refunds", "list"])
        assert shown.exit_code == 0, shown.output
    [plugin] = importlib.metadata.entry_points(group="pytest11", name="pytest_flask_refunds")
    assert importlib.util.find_spec(plugin.value) is not None
    version = importlib.metadata.version("flask-refunds")
    assert version == flask_refunds.__version__
    print(f"flask-refunds {version}: installed in {flask_refunds.__path__[0]}, makes refunds.")


if __name__ == "__main__":
    main()
