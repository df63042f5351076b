"""The page for Prometheus with several workers, as in ``docs/monitoring.md``."""

from __future__ import annotations

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from flask_refunds.prometheus import instrument


def add_metrics_page(app: Flask) -> None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    instrument(app, registry)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
