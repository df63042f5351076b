"""MetricsQuery for Prometheus, with the extra ``prometheus``: ``instrument(app)`` is the whole set-up.

Counters and latencies are kept where the work is done, also by several workers of gunicorn
(``PROMETHEUS_MULTIPROC_DIR``). What is open is asked of the database at each scrape.
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
    """Count what an app does for Prometheus. The host exposes the registry, see ``docs/metrics.md``.

    A registry shows one app's gauges: the last that it was instrumented with.

    :param registry: where the metrics go. With ``PROMETHEUS_MULTIPROC_DIR`` set, the one that the host has
        given a ``MultiProcessCollector``, and exposes: it reads the counters of all workers from their files.
    """
    shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ
    # In a registry of their own they would show a second time, with this worker's part.
    observe(app, _meters_in(None if shared else registry))
    _gauges_in(registry).app = app


class _Meters:
    """Observes what is done."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._refunds = Counter(
            "flask_refunds_refunds",
            "Refunds that came to this status.",
            ["status", "reason"],
            registry=registry,
        )
        self._stripe = Histogram(
            "flask_refunds_stripe_seconds",
            "How long Stripe took to answer one request.",
            ["request", "outcome"],
            registry=registry,
            buckets=_BUCKETS,
        )

    def refund_changed(self, refund: Refund) -> None:
        self._refunds.labels(refund.status.value, refund.reason or "none").inc()

    def stripe_request_finished(self, request: str, outcome: str, seconds: float) -> None:
        self._stripe.labels(request, outcome).observe(seconds)


class _Gauges(Collector):
    """Asks the database at each scrape. Where it does not answer, only that is told."""

    app: Flask

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        open_, review, readable = _families()
        try:
            with self.app.app_context():
                standing = get_refunds(self.app).metrics_query.current_backlog()
        except Exception as error:
            log_event(LogEvent.REQUEST_FAILED, error)
            readable.add_metric([], 0)
            return [readable]
        readable.add_metric([], 1)
        _fill(open_, review, standing)
        return [open_, review, readable]


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("flask_refunds_open", "Refunds that have not ended.", labels=["status", "age"]),
        GaugeMetricFamily("flask_refunds_review", "Refunds that ask for a person.", labels=["code"]),
        GaugeMetricFamily("flask_refunds_ledger_readable", "Whether the database answered this scrape."),
    )


def _fill(open_: GaugeMetricFamily, review: GaugeMetricFamily, standing: Backlog) -> None:
    for status, age in _OPEN:
        open_.add_metric([status, age], standing.open[status, age])
    by_code = {code.value: 0 for code in ReviewCode}
    for (code, _), count in standing.reviews.items():
        by_code[code] = by_code.get(code, 0) + count
    for code, count in by_code.items():
        review.add_metric([code], count)


@cache
def _meters_in(registry: CollectorRegistry | None) -> _Meters:
    """One set a registry: a second would be refused, or in shared files count over the first."""
    return _Meters(registry)


@cache
def _gauges_in(registry: CollectorRegistry) -> _Gauges:
    gauges = _Gauges()
    registry.register(gauges)
    return gauges
