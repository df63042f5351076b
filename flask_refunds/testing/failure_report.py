"""What a test's report shows if it fails: what happened at Stripe, and what the ledger stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from .client import RefundsClient
from .sandbox import StripeSandbox

_MAX_LINES = 100


def describe(stripe: StripeSandbox, client: RefundsClient | None) -> Iterator[tuple[str, str]]:
    """Yield the titles and texts of a report's sections."""
    yield "Stripe sandbox: requests", _text(map(str, stripe.requests))
    deliveries = (
        {} if client is None else {event["id"]: status for event, status in client.webhooks.delivered}
    )
    yield "Stripe sandbox: events", _text(_event_line(each, deliveries) for each in stripe.events)
    if client is not None:
        yield "Refund ledger", _text(_ledger_lines(client))


def _event_line(event: dict[str, Any], deliveries: Mapping[str, int]) -> str:
    subject, moment = event["data"]["object"], datetime.fromtimestamp(event["created"], timezone.utc)
    delivery = deliveries.get(event["id"], "not delivered")
    return f"{moment:%H:%M:%S} {event['type']} {subject['id']} {subject.get('status', '')} -> {delivery}"


def _ledger_lines(client: RefundsClient) -> Iterator[str]:
    try:
        for record in client.ledger:
            yield from _record_lines(record)
    except Exception as error:  # such as a database that a test has stopped
        yield f"The ledger can't be read: {error!r}"


def _record_lines(record: dict[str, Any]) -> Iterator[str]:
    amount = "" if record.get("amount") is None else f"{record['amount']} {record['currency']} "
    review = f", needs review: {record['review']['code']}" if record.get("review") else ""
    yield f"{record['_id']}: {amount}{record['status']}{review}"
    for entry in record.get("history", ()):
        details = [f"{name}={value}" for name, value in entry.items() if name != "at" and value is not None]
        yield f"    {entry['at']:%H:%M:%S} {' '.join(details)}"


def _text(described: Iterable[str]) -> str:
    lines = list(described)
    left_out = [f"({len(lines) - _MAX_LINES} earlier lines left out)"] if len(lines) > _MAX_LINES else []
    return "\n".join(left_out + lines[-_MAX_LINES:]) or "none"
