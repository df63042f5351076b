"""``flask refunds config``, and which settings the other commands need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mongomock
import pytest
from flask_login import current_user

from flask_refunds import ConfigurationError, check_config
from flask_refunds.testing import StripeSandbox
from tests.shop import JWT_SECRET, STRIPE_KEY, Shop, make_app

SECRET = "whsec_of_the_tests_0123456789"


def is_admin(user: Any) -> bool:
    return False


class Check:
    """An object that is called like a function."""

    def __call__(self, user: Any) -> bool:
        return False


@pytest.fixture
def printed() -> Any:
    """Return a function that returns what is printed for a config, as text or as JSON."""

    def run(*options: str, **config: Any) -> str:
        app = make_app(**{"REFUNDS_MONGO": mongomock.MongoClient().shop, **config})
        result = app.test_cli_runner().invoke(args=["refunds", "config", *options])
        assert result.exit_code == 0, result.output
        for secret in (STRIPE_KEY, JWT_SECRET, SECRET, "pa55word"):
            assert secret not in result.output
        return result.stdout

    return run


def test_every_setting_is_printed_with_its_effective_value(printed: Any) -> None:
    lines = dict(
        line.split(maxsplit=1)
        for line in printed(
            REFUNDS_PURCHASE_FIELDS={"payment": "paid.by"},
            REFUNDS_IS_ADMIN="tests.integration.test_cli_config:is_admin",
            REFUNDS_STRIPE_TIMEOUT=4,
            STRIPE_WEBHOOK_SECRET=[SECRET],
            JWT_HEADER_TYPE="JWT",
        ).splitlines()
    )
    assert lines["REFUNDS_IS_ADMIN"] == "tests.integration.test_cli_config:is_admin"
    assert json.loads(lines["REFUNDS_PURCHASE_FIELDS"])["payment"] == "paid.by"
    assert (lines["REFUNDS_STRIPE_TIMEOUT"], lines["REFUNDS_LEASE_SECONDS"]) == ("4", "60.0")
    assert lines["STRIPE_SECRET_KEY"] == lines["STRIPE_WEBHOOK_SECRET"] == lines["JWT_SECRET_KEY"] == "set"
    assert lines["MONGO_URI"] == lines["REFUNDS_USER_LOADER"] == "not set"
    assert (lines["JWT_HEADER_TYPE"], lines["JWT_IDENTITY_CLAIM"]) == ("JWT", "sub")
    assert "JWT_DECODE_KEYS" not in lines


def test_settings_are_printed_as_json(printed: Any) -> None:
    values = json.loads(
        printed(
            "--json",
            MONGO_URI="mongodb://ann:pa55word@localhost/shop",
            REFUNDS_MONGO=None,
            REFUNDS_IS_ADMIN=Check(),
            JWT_DECODE_AUDIENCE=["shop", "admin"],
        )
    )
    assert (values["MONGO_URI"], values["REFUNDS_MONGO"], values["REFUNDS_ADMIN_PAGE"]) == ("set", None, True)
    assert values["REFUNDS_IS_ADMIN"] == "tests.integration.test_cli_config:Check"
    assert (values["JWT_DECODE_AUDIENCE"], values["JWT_DECODE_ALGORITHMS"]) == (["shop", "admin"], ["HS256"])


def test_only_keys_that_apps_can_set_are_printed(printed: Any) -> None:
    values = json.loads(printed("--json"))
    documented = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")
    assert [key for key in values if f"| `{key}` |" not in documented] == []
    assert values["JWT_ACCESS_TOKEN_EXPIRES"] is None
    assert json.loads(printed("--json", JWT_ACCESS_TOKEN_EXPIRES=False))["JWT_ACCESS_TOKEN_EXPIRES"] is False


def test_settings_of_sessions_are_printed(printed: Any) -> None:
    origins = ["https://Admin.example:443", "http://[::1]:3000"]
    values = json.loads(
        printed(
            "--json", JWT_SECRET_KEY=None, REFUNDS_CURRENT_USER=current_user, REFUNDS_TRUSTED_ORIGINS=origins
        )
    )
    assert values["REFUNDS_CURRENT_USER"] == "LocalProxy"
    assert values["REFUNDS_TRUSTED_ORIGINS"] == ["https://admin.example", "http://[::1]:3000"]
    assert values["JWT_SECRET_KEY"] is None


def test_problem_of_a_setting_for_tokens_is_printed_in_its_place(printed: Any) -> None:
    values = json.loads(printed("--json", JWT_SECRET_KEY=None))
    assert values["JWT_SECRET_KEY"].startswith("isn't set")
    assert "JWT_HEADER_NAME" not in values


def test_invalid_config_is_rejected_by_name() -> None:
    result = make_app(MONGO_URI=None).test_cli_runner().invoke(args=["refunds", "config"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "MONGO_URI: isn't set" in result.stderr


# Commands validate what they use


@pytest.fixture
def cron_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop in a container that has no key for tokens."""
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, JWT_SECRET_KEY=None)
    return Shop(app, database)


@pytest.mark.parametrize(
    "command", ["reconcile", "list", "metrics", "export", "init-db", "reconcile --dry-run", "config"]
)
def test_command_in_a_cron_container_needs_no_key_for_tokens(cron_shop: Shop, command: str) -> None:
    result = cron_shop.flask(*command.split())
    assert (result.exit_code, "Error" in result.output) == (0, False), result.output


def test_refund_needs_no_key_for_tokens_and_the_endpoint_does(
    cron_shop: Shop, sandbox: StripeSandbox
) -> None:
    purchase = cron_shop.add_purchase(sandbox.create_payment(4900, "eur"))
    assert cron_shop.flask("refund", str(purchase), "--yes").exit_code == 0
    assert cron_shop.status_of(purchase) == "refunded"
    for path in ("/api/payments/admin/all", "/api/payments/admin/"):
        response = cron_shop.client.get(path)
        assert (response.status_code, response.json["code"]) == (500, "configuration_error")
    cron_shop.app.config["JWT_SECRET_KEY"] = JWT_SECRET
    response = cron_shop.client.get("/api/payments/admin/all", headers=cron_shop.headers())
    assert response.status_code == 200


def test_check_config_reports_a_missing_key_after_a_command_that_needed_none(cron_shop: Shop) -> None:
    assert cron_shop.flask("list").exit_code == 0
    with pytest.raises(ConfigurationError, match="JWT_SECRET_KEY"):
        check_config(cron_shop.app)


def test_token_command_needs_the_key(mock_shop: Shop) -> None:
    mock_shop.app.config["JWT_SECRET_KEY"] = None
    result = mock_shop.flask("token", "--user", "ann")
    assert (result.exit_code, "JWT_SECRET_KEY: isn't set" in result.stderr) == (2, True)
