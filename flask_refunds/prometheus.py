"""Metrics for Prometheus (the extra ``prometheus``): call ``instrument(app)``.

Counters and latencies are recorded where the work is done, also in several gunicorn workers
(``PROMETHEUS_MULTIPROC_DIR``). Open refunds are counted in the database at each scrape.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache

from flask import Flask
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .extension import get_refunds, observe
from .log import LogEvent, log_event
from .metrics.report import AGES, OLDER, Backlog
from .models import Refund, RefundStatus, ReviewCode

_BUCKETS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 18.0)
_OPEN = [(status.value, age) for status in RefundStatus if not status.is_settled for age in (*AGES, OLDER)]


def instrument(app: Flask, registry: CollectorRegistry = REGISTRY) -> None:
    """Record what an app does for Prometheus. Your app serves the registry, see ``docs/monitoring.md``.

    A registry shows the gauges of one app: the last one instrumented with it.

    :param registry: where the metrics are registered. With ``PROMETHEUS_MULTIPROC_DIR`` set, pass the
        registry with your ``MultiProcessCollector``, which reads all workers' counters from their files.
    """
    multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ
    # In multiprocess mode, registered counters would appear twice, the second time with this worker's part.
    observe(app, _counters_in(None if multiprocess else registry))
    _gauges_in(registry).app = app


class _Counters:
    """Observes refunds and requests to Stripe."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._refunds = Counter(
            "flask_refunds_refunds", "Refunds that got this status.", ["status", "reason"], registry=registry
        )
        self._stripe = Histogram(
            "flask_refunds_stripe_seconds",
            "How long Stripe took to answer a request.",
            ["request", "outcome"],
            registry=registry,
            buckets=_BUCKETS,
        )

    def refund_changed(self, refund: Refund) -> None:
        self._refunds.labels(refund.status.value, refund.reason or "none").inc()

    def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None:
        self._stripe.labels(request, outcome).observe(seconds)


class _Gauges(Collector):
    """Reads the database at each scrape. If it is unavailable, the scrape shows only that."""

    app: Flask

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        open_, needs_review, readable = _families()
        try:
            with self.app.app_context():
                backlog = get_refunds(self.app).metrics_query.current_backlog()
        except Exception as error:
            log_event(LogEvent.REQUEST_FAILED, error)
            readable.add_metric([], 0)
            return [readable]
        readable.add_metric([], 1)
        _add_samples(open_, needs_review, backlog)
        return [open_, needs_review, readable]


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("flask_refunds_open", "Refunds that haven't ended.", labels=["status", "age"]),
        GaugeMetricFamily("flask_refunds_needs_review", "Refunds that need a review.", labels=["code"]),
        GaugeMetricFamily("flask_refunds_ledger_readable", "Whether the database answered this scrape."),
    )


def _add_samples(open_: GaugeMetricFamily, needs_review: GaugeMetricFamily, backlog: Backlog) -> None:
    for status, age in _OPEN:
        open_.add_metric([status, age], backlog.open[status, age])
    by_code = {code.value: 0 for code in ReviewCode}
    for (code, _), count in backlog.reviews.items():
        by_code[code] = by_code.get(code, 0) + count
    for code, count in by_code.items():
        needs_review.add_metric([code], count)


@cache
def _counters_in(registry: CollectorRegistry | None) -> _Counters:
    """Return the counters of a registry: registering them twice fails, or counts twice in shared files."""
    return _Counters(registry)


@cache
def _gauges_in(registry: CollectorRegistry) -> _Gauges:
    gauges = _Gauges()
    registry.register(gauges)
    return gauges
