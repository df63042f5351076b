"""Tests that use every fixture of the pytest plugin. mypy fails if a name has lost its type."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from typing_extensions import assert_type
from werkzeug.test import TestResponse

from flask_refunds import refunds_bp
from flask_refunds.testing import (
    OUTCOME_UNKNOWN,
    Cards,
    Fault,
    Injected,
    Purchase,
    ReceivedRequest,
    RefundsClient,
    StripeSandbox,
    make_config,
    open_client,
)


def create_app(config: dict[str, Any]) -> Flask:
    app = Flask(__name__)
    app.config.update(config)
    app.register_blueprint(refunds_bp)
    return app


@pytest.fixture
def app(refunds_config: dict[str, Any]) -> Flask:
    return create_app(refunds_config)


@pytest.mark.parametrize("fault", OUTCOME_UNKNOWN[:1])
def test_client(refunds: RefundsClient, fault: Fault) -> None:
    purchase = assert_type(refunds.purchase(1999, "usd", card=Cards.REFUND_PENDING, order=7), Purchase)
    with refunds.stripe.fault(assert_type(fault, Fault)) as injected:
        assert_type(refunds.refund(purchase, reason="duplicate"), TestResponse)
    assert_type(injected, Injected)
    assert_type(refunds.stripe.last_request, ReceivedRequest)
    assert_type(injected.hits, int)
    with refunds.webhooks.held() as events:
        refunds.stripe.dashboard_refund(purchase.payment)
        events.reverse()
        refunds.webhooks.drop("refund.updated")
    refunds.webhooks.redeliver()
    refunds.travel(hours=1)
    assert_type(refunds.reload(purchase), dict[str, Any])
    assert_type(refunds.reconcile().is_clean, bool)
    assert_type([signal.name for signal in refunds.signals], list[str])
    assert_type(refunds.headers(refunds.customer_id), dict[str, str])
    refunds.stripe.assert_refunded_once(purchase.payment)


def test_sandbox(stripe_sandbox: StripeSandbox, refunds_config: dict[str, Any]) -> None:
    assert_type(make_config(stripe_sandbox), dict[str, Any])
    assert_type(refunds_config, dict[str, Any])


def test_without_fixtures() -> None:
    with open_client(create_app) as client:
        assert_type(client, RefundsClient)
