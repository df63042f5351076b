"""The storefront's emails to customers, received by a local mail server."""

from __future__ import annotations

import email
import email.policy
import logging
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from shop import demo

from flask_refunds.testing import Cards
from tests.examples.shop_harness import ShopHarness, open_shop
from tests.mongod import free_port


class MailServer:
    """A mail server that records emails."""

    def __init__(self) -> None:
        self.port = free_port()
        self.emails: list[EmailMessage] = []
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert envelope.rcpt_tos == [message["To"]]
        self.emails.append(message)  # type: ignore[arg-type]
        return "250 OK"

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @property
    def subjects(self) -> list[str]:
        return [message["Subject"] for message in self.emails]

    def text(self, number: int = -1) -> str:
        """Return an email's text on one line."""
        return " ".join(self.emails[number].get_content().split())


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def shop(server: MailServer) -> Iterator[ShopHarness]:
    with open_shop(MAIL_SERVER="127.0.0.1", MAIL_PORT=server.port, MAIL_SUPPRESS_SEND=False) as shop:
        yield shop


def test_refund_is_emailed_once_when_signal_is_sent_again(shop: ShopHarness, server: MailServer) -> None:
    assert shop.refunds.refund(shop.buy_and_complete()).status_code == 200
    assert server.subjects == ["Your refund is on its way"]
    assert server.emails[0]["To"] == demo.BEN.email
    assert "Dear Ben Sato, We have refunded 19.50 EUR for The Compost Handbook" in server.text()

    shop.db.flask_refunds.update_many({}, {"$set": {"signalsSent": False}})
    shop.refunds.reconcile()
    assert shop.find("flask_refunds")["signalsSent"]
    assert server.subjects == ["Your refund is on its way"]


def test_pending_refund_is_emailed_as_submitted_and_then_as_complete(
    shop: ShopHarness, server: MailServer
) -> None:
    assert shop.refunds.refund(shop.buy_and_complete(Cards.REFUND_PENDING)).status_code == 202
    assert server.subjects == ["Your refund was submitted"]
    assert "until the refund is complete" in server.text()
    assert shop.has_access()

    shop.refunds.travel(hours=1)
    assert server.subjects == ["Your refund was submitted", "Your refund is on its way"]
    assert not shop.has_access()


def test_refund_that_fails_after_success_is_emailed_and_restores_access(
    shop: ShopHarness, server: MailServer
) -> None:
    assert shop.refunds.refund(shop.buy_and_complete(Cards.REFUND_FAILS)).status_code == 200
    assert not shop.has_access()

    shop.refunds.travel(hours=1)
    assert server.subjects == ["Your refund is on its way", "Your refund failed"]
    assert "You have not received the money. You can open what you bought again." in server.text()
    assert shop.has_access()


def test_rejected_refund_is_not_emailed(shop: ShopHarness, server: MailServer) -> None:
    assert shop.refunds.refund(shop.buy_and_complete(Cards.DISPUTED)).status_code == 400
    assert server.subjects == []
    assert shop.find("flask_refunds")["signalsSent"]


def test_refund_of_two_purchases_is_one_email(shop: ShopHarness, server: MailServer) -> None:
    content = shop.find("contents", title="Pruning Fruit Trees")
    cart = shop.find("purchases", content=content["_id"], cardLast4="4242")
    assert shop.refunds.refund(cart["_id"]).status_code == 200
    [message] = server.emails
    assert message["To"] == demo.ADA.email
    assert "60.50 USD for Pruning Fruit Trees and Saving Your Own Seed" in server.text()


def test_yen_amount_has_no_decimals(shop: ShopHarness, server: MailServer) -> None:
    shop.refunds.refund(shop.find("purchases", currency="jpy")["_id"])
    assert "6,800 JPY for Bonsai for Beginners" in server.text()


def test_email_is_sent_later_if_mail_server_was_down(shop: ShopHarness, server: MailServer) -> None:
    purchase_id = shop.buy_and_complete()
    server.stop()
    response: Any = shop.refunds.refund(purchase_id)
    assert (response.status_code, response.json["refund"]["status"]) == (200, "succeeded")
    assert not shop.has_access()
    shop.refunds.reconcile()

    server.start()
    for _ in range(2):
        shop.refunds.reconcile()
    assert server.subjects == ["Your refund is on its way"]


def test_silent_mail_server_does_not_block_refund() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        open_shop(
            MAIL_SERVER="127.0.0.1",
            MAIL_PORT=silent.getsockname()[1],
            MAIL_TIMEOUT=0.1,
            MAIL_SUPPRESS_SEND=False,
        ) as shop,
    ):
        assert shop.refunds.refund(shop.buy_and_complete()).status_code == 200


def test_email_is_logged_without_mail_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shop.emails")
    with open_shop() as shop:
        assert shop.refunds.refund(shop.buy_and_complete()).status_code == 200
    [record] = [record for record in caplog.records if record.name == "shop.emails"]
    assert f"To {demo.BEN.email}: Your refund is on its way" in record.getMessage()
    assert "19.50 EUR" in record.getMessage()
