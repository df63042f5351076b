"""A bar on stderr for who waits: how far, how fast, how long still. On a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

_REDRAWN = 500
"""How often the bar is drawn at most, however many steps there are."""


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[], None]]:
    """Draw a bar.

    :param length: how many steps there are.
    :return: what to call at each step.
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
        update_min_steps=max(1, length // _REDRAWN),
        item_show_func=lambda _: f"{bar.pos / max(0.001, time.monotonic() - began):.1f}/s",
    )
    with bar:
        yield lambda: bar.update(1)
