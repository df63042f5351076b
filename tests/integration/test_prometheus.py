"""What a scrape of Prometheus shows."""

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


class Samples:
    """The samples in the text of a scrape."""

    def __init__(self, text: str) -> None:
        self._lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]

    def __getitem__(self, sample: str) -> float | None:
        found = [float(value) for name, value in self._lines if name == sample]
        assert len(found) < 2, f"{sample} appears twice"
        return found[0] if found else None


def scrape(registry: CollectorRegistry) -> Samples:
    return Samples(prometheus_client.generate_latest(registry).decode())


def refunds_in(samples: Samples, status: str, reason: str = "none") -> float | None:
    return samples[f'flask_refunds_refunds_total{{reason="{reason}",status="{status}"}}']


def requests_in(samples: Samples, outcome: str, request: str = "create_refund") -> float | None:
    return samples[f'flask_refunds_stripe_seconds_count{{outcome="{outcome}",request="{request}"}}']


@pytest.fixture
def registry(mock_shop: Shop) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    instrument(mock_shop.app, registry)
    return registry


def test_refunds_are_counted_by_status_and_reason(
    mock_shop: Shop, sandbox: StripeSandbox, registry: CollectorRegistry
) -> None:
    for body in ({"reason": "duplicate"}, {"reason": "duplicate"}, {}):
        purchase = mock_shop.add_purchase(sandbox.create_payment(1999))
        assert mock_shop.refund(purchase, json=body).status_code == 200
        assert mock_shop.refund(purchase).status_code == 400  # not counted again
    mock_shop.refund(mock_shop.add_purchase("pi_unknown"))

    samples = scrape(registry)
    assert refunds_in(samples, "succeeded", "duplicate") == 2
    assert refunds_in(samples, "succeeded") == 1
    assert refunds_in(samples, "failed") == 1
    assert requests_in(samples, "ok") == 3
    assert requests_in(samples, "rejected") == 1


def test_lost_response_counts_as_unknown_with_its_duration(
    mock_shop: Shop, sandbox: StripeSandbox, registry: CollectorRegistry
) -> None:
    sandbox.latency = 0.35
    sandbox.inject("response_lost", times=1)
    mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))

    samples = scrape(registry)
    assert requests_in(samples, "unknown") == 1
    assert requests_in(samples, "ok") == 1
    bucket = 'flask_refunds_stripe_seconds_bucket{le="0.3",outcome="ok",request="create_refund"}'
    assert samples[bucket] == 0


def test_open_refunds_and_reviews_are_counted_by_age_and_code(
    mock_shop: Shop, registry: CollectorRegistry
) -> None:
    now = datetime.now(timezone.utc)
    review = {"code": "unknown_too_long", "since": now}
    for number, hours in enumerate((0, 2, 200)):
        record = {"status": "processing", "createdAt": now - timedelta(hours=hours), "review": None}
        mock_shop.db.flask_refunds.insert_one({"_id": f"pi_{number}:1", **record})
    mock_shop.db.flask_refunds.update_one({"_id": "pi_2:1"}, {"$set": {"review": review}})

    samples = scrape(registry)
    for age, count in (("under_1h", 1), ("under_1d", 1), ("under_7d", 0), ("older", 1)):
        assert samples[f'flask_refunds_open{{age="{age}",status="processing"}}'] == count
        assert samples[f'flask_refunds_open{{age="{age}",status="pending"}}'] == 0
    assert samples['flask_refunds_needs_review{code="unknown_too_long"}'] == 1
    assert samples['flask_refunds_needs_review{code="failed_after_success"}'] == 0
    assert samples["flask_refunds_ledger_readable"] == 1


def test_unavailable_database_does_not_fail_the_scrape(shop: Shop) -> None:
    registry = CollectorRegistry(auto_describe=True)
    prometheus_client.Counter("of_the_app", "Something else.", registry=registry)
    instrument(shop.app, registry)
    with failing(shop.db, "aggregate"):
        samples = scrape(registry)
    assert samples["flask_refunds_ledger_readable"] == 0
    assert samples['flask_refunds_needs_review{code="unknown_too_long"}'] is None
    assert samples["of_the_app_total"] == 0


def test_observer_that_raises_does_not_affect_refunds_or_other_observers(
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


def test_app_can_be_instrumented_again(sandbox: StripeSandbox, mock_shop: Shop) -> None:
    registry = CollectorRegistry(auto_describe=True)
    for app in (make_app(), mock_shop.app, mock_shop.app):
        instrument(app, registry)
    mock_shop.refund(mock_shop.add_purchase(sandbox.create_payment(1999)))
    samples = scrape(registry)
    assert refunds_in(samples, "succeeded") == 1
    assert samples["flask_refunds_ledger_readable"] == 1


def test_library_does_not_import_prometheus_client() -> None:
    check = "import sys, flask_refunds; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_each_gunicorn_worker_shows_the_counts_of_all(
    database: Any, mongo_uri: str, sandbox: StripeSandbox, tmp_path: Path
) -> None:
    """Each worker counts in its own files and reads those of all workers."""
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
            assert made < 60, "one worker handles every call"
            purchase = shop.add_purchase(sandbox.create_payment(1999))
            answer = server.post(f"/api/payments/admin/refund/{purchase}", shop.headers())
            assert answer.status == 200
            workers.add(answer.worker)
            made += 1
        samples = Samples(server.get_text("/metrics"))
    assert refunds_in(samples, "succeeded") == made
    assert requests_in(samples, "ok") == made
    assert samples["flask_refunds_ledger_readable"] == 1
