"""``flask refunds …``: what operators run. One module a command, or a family of them.

Each is imported when it is wanted: a worker that serves requests never needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class _Deferred(click.Command):
    """Stands in the group for a command whose module is not imported yet.

    :param place: ``module:name``.
    """

    def __init__(self, name: str, place: str) -> None:
        super().__init__(name)
        self._place = place

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """The context of the command itself, which click then runs."""
        return self._load().make_context(*args, **kwargs)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Its line in the group's help."""
        return self._load().get_short_help_str(limit)

    def _load(self) -> click.Command:
        module, _, name = self._place.partition(":")
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command


COMMANDS = tuple(
    _Deferred(name, place)
    for name, place in {
        "refund": "refund:refund",
        "bulk": "bulk:bulk",
        "show": "show:show",
        "list": "list_refunds:list_refunds",
        "metrics": "metrics:metrics",
        "export": "export:export",
        "reconcile": "reconcile:reconcile",
        "resolve": "resolve:resolve",
        "init-db": "init_db:init_db",
        "check": "check:check",
        "token": "token:token",
    }.items()
)
"""Every command of the group."""
