"""A receiver that ends the process: the customer is told nevertheless."""

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


@pytest.mark.parametrize("ends_by", ["os._exit", "SystemExit"])
@pytest.mark.parametrize(("ends", "told"), [("before", 1), ("after", 2)])
def test_a_receiver_that_ends_the_process(
    shop: Shop, sandbox: StripeSandbox, mongo_uri: str, ends: str, told: int, ends_by: str
) -> None:
    payment = sandbox.create_payment(1999)
    purchase = shop.add_purchase(payment)
    environment = {
        "MONGO_URI": mongo_uri,
        "STRIPE_API_BASE": sandbox.url,
        "ENDS": ends,
        "ENDS_BY": ends_by,
    }
    with gunicorn(app=f"{APP}:app", **environment) as server:
        path, headers = f"/api/payments/admin/refund/{purchase}", shop.headers()
        # gunicorn makes a page of its own of SystemExit, which is no JSON.
        with pytest.raises((http.client.HTTPException, OSError, ValueError)):
            server.post(path, headers)
        assert shop.db.crashes.count_documents({}) == 1
        [row] = shop.records()
        assert (row["status"], row["signals_sent"]) == ("succeeded", False)
        # The server has begun another worker, and a call tells that the purchase is refunded.
        wait_until(lambda: _answers(server, path, headers))

    for _ in range(2):
        _reconcile(environment)
    assert (
        list(shop.db.told.find({}, {"_id": 0}))
        == [{"refundId": f"{payment}:1", "status": "succeeded"}] * told
    )
    assert shop.records()[0]["signals_sent"]
    assert len(sandbox.refunds(payment)) == 1


def _answers(server: Any, path: str, headers: dict[str, str]) -> bool:
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
