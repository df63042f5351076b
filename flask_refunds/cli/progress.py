"""A progress bar on stderr, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

_MAX_REDRAWS = 500
"""How often the bar is drawn at most, to keep long runs fast."""


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[], None]]:
    """Draw a progress bar.

    :param length: the number of steps.
    :return: a function to call at each step.
    """
    if not length or not sys.stderr.isatty():
        yield lambda: None
        return
    began = time.monotonic()
    bar: Any = click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        show_percent=True,
        show_pos=True,
        show_eta=True,
        update_min_steps=max(1, length // _MAX_REDRAWS),
        item_show_func=lambda _: f"{bar.pos / max(0.001, time.monotonic() - began):.1f}/s",
    )
    with bar:
        yield lambda: bar.update(1)
