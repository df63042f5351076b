"""The library's log records, as a JSON formatter gets them."""

from __future__ import annotations

from typing import Any

import pytest


class LogRecords:
    """Returns the fields of the records since the last call."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "flask_refunds")
        self._caplog = caplog
        self._returned = 0

    def __call__(self) -> list[dict[str, Any]]:
        records = [each for each in self._caplog.records if each.name == "flask_refunds"]
        fields = [vars(record)["refunds"] for record in records[self._returned :]]
        self._returned = len(records)
        return fields
