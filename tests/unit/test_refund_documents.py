"""Documents of the ledger: what they lack has a default, and what can't be read is logged."""

from __future__ import annotations

from typing import Any

import pytest

from flask_refunds.errors import RecordUnreadable
from flask_refunds.storage.refund_documents import read_payment, read_record, read_records
from tests.log_records import LogRecords
from tests.unit.refund_harness import START

DOCUMENT: dict[str, Any] = {
    "_id": "pi_1:re_1",
    "paymentIntent": "pi_1",
    "source": "external",
    "status": "succeeded",
    "createdAt": START,
    "updatedAt": START,
    "leaseExpiresAt": START,
    "signalsSent": True,
    "purchasesVerified": True,
    "history": [],
}


def test_document_with_only_the_required_fields_is_read() -> None:
    refund = read_record(DOCUMENT)
    assert (refund.purchase_ids, refund.request) == ([], {})
    assert (refund.attempts, refund.number, refund.review, refund.failure) == (0, None, None, None)


@pytest.mark.parametrize("change", [*sorted(DOCUMENT.keys() - {"_id"}), "type"])
def test_document_that_cannot_be_read_is_logged_and_bars_decisions(
    log_records: LogRecords, change: str
) -> None:
    odd = {**DOCUMENT, "_id": "x" * 101, "createdAt": "2024-03-15"}
    if change != "type":
        odd = {name: value for name, value in DOCUMENT.items() if name != change} | {"_id": odd["_id"]}
    assert [each.id for each in read_records([odd, DOCUMENT])] == ["pi_1:re_1"]
    [logged] = log_records()
    assert (logged["event"], logged["refund_id"]) == ("record_unreadable", "x" * 100)
    assert logged["error"] == ("TypeError" if change == "type" else "KeyError")
    with pytest.raises(RecordUnreadable):
        read_payment([DOCUMENT, odd])
