"""Every schedule of concurrent calls keeps the promise."""

from __future__ import annotations

import pytest

from tests.faults.schedules import SHORT, Setting, explore


def named(setting: Setting) -> str:
    return setting.name


@pytest.mark.parametrize("setting", SHORT, ids=named)
def test_the_promise_holds_in_every_schedule(setting: Setting) -> None:
    explored = explore(setting)
    assert not explored.findings, str(explored.findings[0])
    assert explored.schedules > 100
