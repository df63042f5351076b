"""The pytest plugin, in a project that has nothing but a conftest.py."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pymongo
import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = """
import pytest
from flask import Flask
from flask_refunds import refunds_bp

@pytest.fixture
def app(refunds_config):
    app = Flask("shop")
    app.config.update(refunds_config)
    app.register_blueprint(refunds_bp)
    return app
"""


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    """Run a test in a project of its own, in this process."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test)
    return pytester.runpytest_inprocess("-p", "pytest_flask_refunds", "-p", "no:cacheprovider", *arguments)


def test_failed_test_shows_stripe_and_the_ledger(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(refunds):
            purchase = refunds.purchase(1999)
            with refunds.stripe.fault("response_lost"):
                refunds.refund(purchase)
            assert refunds.reload(purchase)["status"] == "lost"
        """,
    )
    result.stdout.fnmatch_lines(
        [
            "*Stripe sandbox: requests*",
            "POST /v1/refunds *payment_intent=pi_* -> no answer*response_lost*",
            "*Stripe sandbox: events*",
            "* refund.created re_* succeeded -> 200",
            "*Refund ledger*",
            "pi_*:1: 1999 usd succeeded",
            "*status=processing actor=api:*",
            "*status=succeeded actor=webhook*",
        ]
    )
    result.assert_outcomes(failed=1)


def test_passed_test_shows_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(refunds): refunds.purchase(1)", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Stripe sandbox*")


def test_failure_without_a_readable_ledger_is_still_reported(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(refunds):
            refunds.db = None
            assert "the test's own failure" == ""
        """,
    )
    result.stdout.fnmatch_lines(["*the test's own failure*", "The ledger can't be read: TypeError*"])
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    "inject", ['stripe_sandbox.inject("card_error")', 'stripe_sandbox.fault("card_error")']
)
def test_fault_that_was_never_used_fails_the_test(pytester: pytest.Pytester, inject: str) -> None:
    result = run(pytester, f"def test_it(stripe_sandbox): {inject}")
    result.stdout.fnmatch_lines(["*No request got the injected fault: card_error (POST /v1/refunds)"])
    result.assert_outcomes(failed=1)


def test_unused_fault_does_not_hide_a_failure(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(stripe_sandbox):
            stripe_sandbox.inject("card_error")
            raise ValueError("the test's own")
        """,
    )
    result.stdout.fnmatch_lines(["*ValueError: the test's own"])
    result.stdout.no_fnmatch_line("*No request got*")


def test_fixtures_of_the_same_names_are_left_alone(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.fixture
        def stripe_sandbox(): return "mine"

        @pytest.fixture
        def refunds(): return ["mine"]

        def test_it(stripe_sandbox, refunds): assert not refunds
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_missing_mongomock_is_explained(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import sys

        def test_it(monkeypatch, request):
            monkeypatch.setitem(sys.modules, "mongomock", None)
            request.getfixturevalue("refunds_config")
        """,
    )
    result.stdout.fnmatch_lines(["*Install mongomock, or use a MongoDB server: pytest --refunds-mongo *"])


def test_app_that_keeps_its_own_database_is_rejected(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import mongomock
        import pytest

        @pytest.fixture
        def app(app):
            app.config["REFUNDS_MONGO"] = mongomock.MongoClient().production
            return app

        def test_it(refunds):
            refunds.purchase(1999)
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*uses the database production instead of refunds_test*"])


def test_config_of_the_tests_may_have_another_database(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import mongomock
        import pytest

        @pytest.fixture
        def refunds_config(refunds_config):
            return refunds_config | {"REFUNDS_MONGO": mongomock.MongoClient(tz_aware=True).mine}

        def test_it(refunds):
            assert refunds.refund(refunds.purchase(1999)).status_code == 200
        """,
    )
    result.assert_outcomes(passed=1)


def test_server_that_does_not_answer_is_reported_soon(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_refunds.testing.app_config.SERVER_TIMEOUT_SECONDS", 0.2)
    result = run(
        pytester, "def test_it(refunds): refunds.purchase(1999)", "--refunds-mongo=mongodb://127.0.0.1:1"
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*The MongoDB server for the tests doesn't answer: *"])


def test_option_chooses_a_server_and_drops_the_database(pytester: pytest.Pytester, mongo_uri: str) -> None:
    result = run(
        pytester,
        """
        import pathlib
        import pymongo

        def test_it(refunds, refunds_config):
            assert isinstance(refunds.db, pymongo.database.Database)
            purchase = refunds.purchase(700, card="4000000000007726")
            assert refunds.refund(purchase).status_code == 202
            refunds.travel(hours=2)
            assert refunds.reload(purchase)["status"] == "refunded"
            [record] = refunds.ledger
            assert (record["settledAt"] - record["createdAt"]).total_seconds() > 7100
            with pymongo.MongoClient(refunds_config["MONGO_URI"]) as client:
                assert client.get_default_database().purchases.count_documents({}) == 1
            pathlib.Path("name").write_text(refunds.db.name)
        """,
        f"--refunds-mongo={mongo_uri}",
    )
    result.assert_outcomes(passed=1)
    with pymongo.MongoClient[dict[str, object]](mongo_uri) as client:
        assert (pytester.path / "name").read_text() not in client.list_database_names()


def test_entry_point_names_the_plugin() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser["options"]["py_modules"] == "pytest_flask_refunds"
    assert parser["options.entry_points"]["pytest11"].strip() == "pytest_flask_refunds = pytest_flask_refunds"


def test_plugin_imports_nothing_until_a_fixture_is_used() -> None:
    script = (
        "import pytest, sys; before = set(sys.modules); import pytest_flask_refunds; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["pytest_flask_refunds"]
