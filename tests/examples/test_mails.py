"""What the storefront's customers are told by mail, from a mail server of the test's."""

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
from shop.database import db

from tests.examples.storefront import CARD_PAYS
from tests.examples.test_shop import CARD_PENDING_REFUND, CARD_REFUND_FAILS, OpenShop, open_shop
from tests.mongod import free_port

CARD_DISPUTED = "4000000000000259"


class MailServer:
    """Keeps what it takes."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert envelope.rcpt_tos == [mail["To"]]
        self.mails.append(mail)  # type: ignore[arg-type]
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
        return [mail["Subject"] for mail in self.mails]

    def text(self, number: int = -1) -> str:
        """A mail's words on one line."""
        return " ".join(self.mails[number].get_content().split())


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def shop(server: MailServer) -> Iterator[OpenShop]:
    with open_shop(MAIL_SERVER="127.0.0.1", MAIL_PORT=server.port) as shop:
        yield shop


def reconcile(shop: OpenShop) -> str:
    """One pass, as cron makes it."""
    command = ["refunds", "reconcile", "--older-than", "0", "--rate", "1000"]
    return shop.app.test_cli_runner().invoke(args=command).output


def test_a_refund_is_told_once(shop: OpenShop, server: MailServer) -> None:
    assert shop.refund(shop.bought(CARD_PAYS))[0] == 200
    assert server.subjects == ["You are refunded"]
    assert server.mails[0]["To"] == demo.BEN.email
    assert "Dear Ben Sato, 19.50 EUR for The Compost Handbook is on its way" in server.text()

    with shop.app.app_context():
        db().refunds.update_many({}, {"$set": {"announced": False}})
    reconcile(shop)
    with shop.app.app_context():
        assert db().refunds.find_one({})["announced"]  # type: ignore[index]
    assert server.subjects == ["You are refunded"]


def test_a_pending_refund_is_submitted_and_not_more(shop: OpenShop, server: MailServer) -> None:
    assert shop.refund(shop.bought(CARD_PENDING_REFUND))[0] == 202
    assert server.subjects == ["Your refund was submitted"]
    assert "It is not made yet" in server.text()
    assert shop.may_open()

    shop.pass_time()
    assert server.subjects == ["Your refund was submitted", "You are refunded"]
    assert not shop.may_open()


def test_a_refund_that_fails_after_it_succeeded(shop: OpenShop, server: MailServer) -> None:
    assert shop.refund(shop.bought(CARD_REFUND_FAILS))[0] == 200
    assert not shop.may_open()

    shop.pass_time()
    assert server.subjects == ["You are refunded", "Your refund failed"]
    assert "You have not got the money back. What you bought can be opened again." in server.text()
    assert shop.may_open()


def test_a_refusal_is_the_admins_affair(shop: OpenShop, server: MailServer) -> None:
    assert shop.refund(shop.bought(CARD_DISPUTED))[0] == 400
    assert server.subjects == []
    with shop.app.app_context():
        assert db().refunds.find_one({})["announced"]  # type: ignore[index]


def test_one_mail_for_a_cart(shop: OpenShop, server: MailServer) -> None:
    with shop.app.app_context():
        title = {"title": "Pruning Fruit Trees"}
        cart: Any = db().purchases.find_one(
            {"content": db().contents.find_one(title)["_id"], "cardLast4": "4242"}
        )  # type: ignore[index]
    assert shop.refund(str(cart["_id"]))[0] == 200
    [mail] = server.mails
    assert mail["To"] == demo.ADA.email
    assert "60.50 USD for Pruning Fruit Trees and Saving Your Own Seed" in server.text()


def test_yen_have_no_decimals(shop: OpenShop, server: MailServer) -> None:
    with shop.app.app_context():
        purchase: Any = db().purchases.find_one({"currency": "jpy"})
    shop.refund(str(purchase["_id"]))
    assert "6,800 JPY for Bonsai for Beginners" in server.text()


def test_a_mail_server_that_is_down(shop: OpenShop, server: MailServer) -> None:
    """The refund is made and answered, access ends, and the mail is sent when the server is back."""
    purchase_id = shop.bought(CARD_PAYS)
    server.stop()
    status, body = shop.refund(purchase_id)
    assert (status, body["message"]) == (200, "Refund successful")
    assert not shop.may_open()
    reconcile(shop)

    server.start()
    for _ in range(2):
        reconcile(shop)
    assert server.subjects == ["You are refunded"]


def test_a_mail_server_that_says_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        open_shop(MAIL_SERVER="127.0.0.1", MAIL_PORT=silent.getsockname()[1], MAIL_TIMEOUT=0.1) as shop,
    ):
        assert shop.refund(shop.bought(CARD_PAYS))[0] == 200


def test_without_a_mail_server_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shop.mails")
    with open_shop() as shop:
        assert shop.refund(shop.bought(CARD_PAYS))[0] == 200
    [record] = [record for record in caplog.records if record.name == "shop.mails"]
    assert f"To {demo.BEN.email}: You are refunded" in record.getMessage()
    assert "19.50 EUR" in record.getMessage()
