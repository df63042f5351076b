from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flask_refunds.testing import StripeSandbox
from tests.shop import make_app
from tests.testing.http_client import HttpClient
from tests.testing.webhook_server import WebhookServer


@pytest.fixture
def sandbox() -> Iterator[StripeSandbox]:
    with StripeSandbox() as running:
        yield running


@pytest.fixture
def stripe_api(sandbox: StripeSandbox) -> Iterator[HttpClient]:
    with contextlib.closing(HttpClient(sandbox.url)) as client:
        yield client


@pytest.fixture
def payment(sandbox: StripeSandbox) -> str:
    """The ID of a payment intent of 20 USD."""
    return sandbox.create_payment(2000)


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    webhook = WebhookServer()
    webhook.thread.start()
    yield webhook
    webhook.may_respond.set()
    webhook.server.shutdown()
    webhook.thread.join()
    webhook.server.server_close()


@pytest.fixture
def app(refunds_config: dict[str, Any]) -> Flask:
    """The app under test, for the fixture ``refunds``."""
    return make_app(**refunds_config)
