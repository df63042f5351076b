"""What Prometheus scrapes."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from flask_refunds.extension import observe
from flask_refunds.prometheus import instrument
from flask_refunds.testing import StripeSandbox
from tests.integration.workers import gunicorn
from tests.mongod import failing
from tests.shop import Shop, make_app


class Scraped:
    """The samples of a text that Prometheus would read."""

    def __init__(self, text: str) -> None:
        self._lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]

    def __getitem__(self, sample: str) -> float | None:
        found = [float(value) for name, value in self._lines if name == sample]
        assert len(found) < 2, f"{sample} stands twice"
        return found[0] if found else None


def scrape(registry: CollectorRegistry) -> Scraped:
    return Scraped(prometheus_client.generate_latest(registry).decode())


def refunds_in(scraped: Scraped, status: str, reason: str = "none") -> float | None:
    return scraped[f'flask_refunds_refunds_total{{reason="{reason}",status="{status}"}}']


def answers_in(scraped: Scraped, outcome: str, request: str = "create") -> float | None:
    return scraped[f'flask_refunds_stripe_seconds_count{{outcome="{outcome}",request="{request}"}}']


@pytest.fixture
def registry(mock_shop: Shop) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    instrument(mock_shop.app, registry)
    return registry


def test_refunds_by_status_and_reason(
    mock_shop: Shop, sandbox: StripeSandbox, registry: CollectorRegistry
) -> None:
    for body in ({"reason": "duplicate"}, {"reason": "duplicate"}, {}):
        purchase = mock_shop.add_purchase(sandbox.create_payment(1999))
        assert mock_shop.refund(purchase, json=body).status_code == 200
        assert mock_shop.refund(purchase).status_code == 400  # is nothing new
    mock_shop.refund(mock_shop.add_purchase("pi_nobody"))

    scraped = scrape(registry)
    assert refunds_in(scraped, "succeeded", "duplicate") == 2
    assert refunds_in(scraped, "succeeded") == 1
    assert refunds_in(scraped, "failed") == 1
    assert answers_in(scraped, "answered") == 3
    assert answers_in(scraped, "refused") == 1


def test_a_lost_answer_is_unknown_and_as_slow_as_it_was(
    mock_shop: Shop, sandbox: StripeSandbox, registry: CollectorRegistry
) -> None:
    sandbox.latency = 0.35
    sandbox.inject("drop_after", times=1)
    mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))

    scraped = scrape(registry)
    assert answers_in(scraped, "unknown") == 1
    assert answers_in(scraped, "answered") == 1
    within = 'flask_refunds_stripe_seconds_bucket{le="0.3",outcome="answered",request="create"}'
    assert scraped[within] == 0


def test_what_is_open_and_what_asks_for_a_person(mock_shop: Shop, registry: CollectorRegistry) -> None:
    now = datetime.now(timezone.utc)
    review = {"why": "unknown_too_long", "recommendedAction": "Look.", "since": now}
    for number, hours in enumerate((0, 2, 200)):
        row = {"status": "processing", "createdAt": now - timedelta(hours=hours), "review": None}
        mock_shop.db.flask_refunds.insert_one({"_id": f"pi_{number}:1", **row})
    mock_shop.db.flask_refunds.update_one({"_id": "pi_2:1"}, {"$set": {"review": review}})

    scraped = scrape(registry)
    for age, count in (("under_1h", 1), ("under_1d", 1), ("under_7d", 0), ("older", 1)):
        assert scraped[f'flask_refunds_open{{age="{age}",status="processing"}}'] == count
        assert scraped[f'flask_refunds_open{{age="{age}",status="pending"}}'] == 0
    assert scraped['flask_refunds_review{why="unknown_too_long"}'] == 1
    assert scraped['flask_refunds_review{why="failed_after_success"}'] == 0
    assert scraped["flask_refunds_ledger_readable"] == 1


def test_a_database_that_is_down_fails_no_scrape(shop: Shop) -> None:
    registry = CollectorRegistry(auto_describe=True)
    prometheus_client.Counter("of_the_host", "Something else.", registry=registry)
    instrument(shop.app, registry)
    with failing(shop.db, "aggregate"):
        scraped = scrape(registry)
    assert scraped["flask_refunds_ledger_readable"] == 0
    assert scraped['flask_refunds_review{why="unknown_too_long"}'] is None
    assert scraped["of_the_host_total"] == 0


def test_an_observer_that_raises_spoils_nothing(
    mock_shop: Shop, sandbox: StripeSandbox, registry: CollectorRegistry
) -> None:
    class Broken:
        def refund_changed(self, refund: Any) -> None:
            raise RuntimeError

        def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None:
            raise RuntimeError

    app = mock_shop.app
    observe(app, Broken())
    late = CollectorRegistry(auto_describe=True)
    instrument(app, late)
    assert mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999))).status_code == 200
    assert refunds_in(scrape(registry), "succeeded") == 1
    assert refunds_in(scrape(late), "succeeded") == 1


def test_an_app_factory_may_run_again(sandbox: StripeSandbox, mock_shop: Shop) -> None:
    registry = CollectorRegistry(auto_describe=True)
    for app in (make_app(), mock_shop.app, mock_shop.app):
        instrument(app, registry)
    mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))
    scraped = scrape(registry)
    assert refunds_in(scraped, "succeeded") == 1
    assert scraped["flask_refunds_ledger_readable"] == 1


def test_the_library_does_not_need_it() -> None:
    check = "import sys, flask_refunds; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_two_workers_count_together(
    database: Any, mongo_uri: str, sandbox: StripeSandbox, tmp_path: Path
) -> None:
    """As under gunicorn: each worker counts in its files, and any of them answers for all."""
    shop = Shop(make_app(REFUNDS_MONGO=database), database)
    environment = {
        "MONGO_URI": mongo_uri,
        "STRIPE_API_BASE": sandbox.url,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    workers: set[str | None] = set()
    with gunicorn("--workers", "2", **environment) as server:
        made = 0
        while len(workers) < 2 or made < 4:
            assert made < 60, "one worker takes every call"
            purchase = shop.add_purchase(sandbox.create_payment(1999))
            answer = server.post(f"/api/payments/admin/refund/{purchase}", shop.headers())
            assert answer.status == 200
            workers.add(answer.worker)
            made += 1
        scraped = Scraped(server.get_text("/metrics"))
    assert refunds_in(scraped, "succeeded") == made
    assert answers_in(scraped, "answered") == made
    assert scraped["flask_refunds_ledger_readable"] == 1
