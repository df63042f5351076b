"""The sandbox's faults at every request, and workers that wait for Stripe."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import pytest

from flask_refunds.testing import Fault
from tests.faults.environments import REPLICA_SET, STANDALONE, EnvironmentPool
from tests.faults.invariants import format_table
from tests.faults.scenarios import CALL_SECONDS, SCENARIOS, perform_in_time
from tests.faults.stripe_faults import quick_plans, run_plans
from tests.faults.threads import run_in_threads
from tests.integration.workers import gunicorn
from tests.mongod import Mongod


def test_every_fault_at_every_request_violates_nothing(servers: Mapping[str, Mongod]) -> None:
    tally = run_plans(servers, quick_plans())
    assert not tally.violations, format_table([tally])
    assert tally.histories > 150


@pytest.mark.parametrize("server", [STANDALONE, REPLICA_SET])
def test_worker_killed_by_gunicorn_timeout_leaves_refund_for_reconcile(
    environments: EnvironmentPool, server: str
) -> None:
    """Gunicorn's timeout raises SystemExit in the view, which ``except Exception`` doesn't catch."""
    environment = environments.get(server, strict=False)
    purchase = environment.pay(random.Random(server))
    hanging = environment.sandbox.inject("timeout_after_refund")
    options = ("--workers", "1", "--worker-class", "sync", "--timeout", "2")
    with gunicorn(*options, MONGO_URI=environment.uri, STRIPE_API_BASE=environment.sandbox.url) as server_:
        began = time.monotonic()
        # The connection may end in different ways, but never with the library's response.
        with pytest.raises((OSError, ValueError)):
            server_.post(f"/api/payments/admin/refund/{purchase}", environment.headers)
        assert time.monotonic() - began < CALL_SECONDS
    assert hanging.hits == 1
    [record] = environment.records()
    assert record["status"] == "processing"
    environment.sandbox.clear_faults()
    environment.reconcile()
    assert environment.find_violations() == []
    assert [refund["status"] for refund in environment.refunds()] == ["succeeded"]


def test_hanging_stripe_is_answered_in_time_and_loses_nothing(servers: Mapping[str, Mongod]) -> None:
    """This test uses the default timeouts."""
    cases = (
        ("refund: first", Fault.TIMEOUT_BEFORE_REFUND),
        ("refund: first", Fault.TIMEOUT_AFTER_REFUND),
        ("refund: first", Fault.ENDLESS_RESPONSE),
        ("refund: resumed, was made", Fault.TIMEOUT_BEFORE_REFUND),
        ("webhook: Dashboard, charge.refunded", Fault.TIMEOUT_BEFORE_REFUND),
    )
    run_in_threads(cases, len(cases), lambda: EnvironmentPool(servers), _run_with_hanging_stripe)


def _run_with_hanging_stripe(environments: EnvironmentPool, case: tuple[str, Fault]) -> None:
    name, fault = case
    rng, scenario = random.Random(name), SCENARIOS[name]
    environment = environments.get(STANDALONE, strict=scenario.strict)
    action = scenario.prepare(environment, rng)
    environment.sandbox.inject(fault, method="*", path="/v1/", times=None)
    response = perform_in_time(environment.shop.app, environment.headers, action)
    assert response.status == (503 if action["do"] == "deliver" else 202), (case, response)
    environment.sandbox.clear_faults()
    if scenario.only_by_event:
        environment.deliver_all(rng)
    environment.reconcile()
    assert environment.find_violations() == [], case
