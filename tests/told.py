"""What the library tells its log, as a JSON formatter gets it."""

from __future__ import annotations

from typing import Any

import pytest


class Told:
    """The facts of the decisions that were told since the last look."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "flask_refunds")
        self._caplog = caplog
        self._seen = 0

    def __call__(self) -> list[dict[str, Any]]:
        records = [each for each in self._caplog.records if each.name == "flask_refunds"]
        facts = [vars(record)["refunds"] for record in records[self._seen :]]
        self._seen = len(records)
        return facts
