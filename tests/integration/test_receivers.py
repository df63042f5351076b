"""A receiver that ends the process: the customer is notified after all."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from typing import Any

import pytest

from flask_refunds.testing import StripeSandbox
from tests.faults.replica_set import wait_until
from tests.integration.workers import ROOT, gunicorn
from tests.shop import Shop

APP = "tests.integration.notifying_app"


@pytest.mark.parametrize("exit_by", ["os._exit", "SystemExit"])
@pytest.mark.parametrize(("exit_when", "notifications"), [("before", 1), ("after", 2)])
def test_receiver_that_exits_is_called_again_by_reconcile(
    shop: Shop, sandbox: StripeSandbox, mongo_uri: str, exit_when: str, notifications: int, exit_by: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    environment = {
        "MONGO_URI": mongo_uri,
        "STRIPE_API_BASE": sandbox.url,
        "EXIT_WHEN": exit_when,
        "EXIT_BY": exit_by,
    }
    with gunicorn(app=f"{APP}:app", **environment) as server:
        path, headers = f"/api/payments/admin/refund/{purchase}", shop.headers()
        # gunicorn answers SystemExit with a page of its own, which isn't JSON.
        with pytest.raises((http.client.HTTPException, OSError, ValueError)):
            server.post(path, headers)
        assert shop.db.exits.count_documents({}) == 1
        [record] = shop.records()
        assert (record["status"], record["signalsSent"]) == ("succeeded", False)
        # gunicorn has started another worker, which reports that the purchase is refunded.
        wait_until(lambda: _is_refunded(server, path, headers))

    for _ in range(2):
        _reconcile(environment)
    expected = [{"refundId": f"{payment}:1", "status": "succeeded"}] * notifications
    assert list(shop.db.notifications.find({}, {"_id": 0})) == expected
    assert shop.records()[0]["signalsSent"]
    assert len(sandbox.refunds(payment)) == 1


def _is_refunded(server: Any, path: str, headers: dict[str, str]) -> bool:
    try:
        return bool(server.post(path, headers).status == 400)
    except OSError:
        return False


def _reconcile(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", APP, "refunds", "reconcile", "--older-than", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
