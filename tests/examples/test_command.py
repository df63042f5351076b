"""Starting and stopping ``python examples/storefront``."""

from __future__ import annotations

import re
import signal
import socket

import pytest
from shop.settings import SettingsError, from_environment

from tests.examples.storefront import READY_WITHIN_SECONDS, Storefront, call, launch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_port_in_use_is_replaced_and_signal_stops_without_output(number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        storefront = Storefront("--port", str(taken))
        try:
            assert f"Port {taken} is in use" in storefront.printed
            assert not storefront.url.endswith(f":{taken}")
            assert storefront.stop(number) == (0, "")
        finally:
            storefront.kill()


def test_emails_are_printed_without_mail_server() -> None:
    storefront = Storefront("--port", "0")
    try:
        url, authorization = storefront.curl
        assert call("POST", url, headers={"Authorization": authorization})[0] == 200
        status, logged = storefront.stop()
    finally:
        storefront.kill()
    assert status == 0
    assert re.match(
        r"INFO shop.emails: To \w+@shop.example: Your refund is on its way\n\nDear \w+ \w+,\n", logged
    )


def test_command_with_live_key_exits_without_showing_it() -> None:
    with launch("--port", "0", STRIPE_SECRET_KEY="sk_live_x1x2x3x4x5x6x7x8") as process:
        output, errors = process.communicate(timeout=READY_WITHIN_SECONDS)
    assert (process.returncode, output) == (2, "")
    assert "live key" in errors
    assert "x1x2" not in errors


@pytest.mark.parametrize("key", ["sk_live_x", "rk_live_x", " sk_live_x"])
def test_live_key_is_settings_error(key: str) -> None:
    with pytest.raises(SettingsError, match="live key"):
        from_environment({"STRIPE_SECRET_KEY": key, "STRIPE_WEBHOOK_SECRET": "whsec_x"})


def test_missing_webhook_secret_error_has_stripe_listen_command() -> None:
    with pytest.raises(
        SettingsError, match=r"stripe listen .* --forward-to http://127.0.0.1:81/webhooks/stripe"
    ):
        from_environment({"STRIPE_SECRET_KEY": "sk_test_x"}, "http://127.0.0.1:81")


def test_blank_variables_are_ignored() -> None:
    config = from_environment({"STRIPE_SECRET_KEY": "", "MONGO_URI": " "})
    assert set(config) == {"JWT_SECRET_KEY"}


def test_mail_settings_are_converted() -> None:
    config = from_environment({"MAIL_SERVER": "mail.example", "MAIL_PORT": "587", "MAIL_USE_TLS": "true"})
    assert (config["MAIL_SERVER"], config["MAIL_PORT"], config["MAIL_USE_TLS"]) == ("mail.example", 587, True)
    assert from_environment({"MAIL_USE_TLS": "0"})["MAIL_USE_TLS"] is False
    with pytest.raises(SettingsError, match="MAIL_PORT"):
        from_environment({"MAIL_PORT": "smtp"})
