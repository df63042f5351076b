"""The ``flask refunds`` commands. A command's module is imported at first use: web workers don't need it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class _LazyCommand(click.Command):
    """A command that is imported when it is used.

    :param location: ``module:name``.
    """

    def __init__(self, name: str, location: str) -> None:
        super().__init__(name)
        self._location = location

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Return the context of the imported command, which click then runs."""
        return self._load().make_context(*args, **kwargs)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the command's line in the group's help."""
        return self._load().get_short_help_str(limit)

    def _load(self) -> click.Command:
        module, _, name = self._location.partition(":")
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command


COMMANDS = tuple(
    _LazyCommand(name, location)
    for name, location in {
        "refund": "refund:refund",
        "bulk": "bulk:bulk",
        "show": "show:show",
        "list": "list_refunds:list_refunds",
        "metrics": "metrics:metrics",
        "export": "export:export",
        "reconcile": "reconcile:reconcile",
        "resolve": "resolve:resolve",
        "cancel": "cancel:cancel",
        "init-db": "init_db:init_db",
        "check": "check:check",
        "config": "config:config",
        "token": "token:token",
    }.items()
)
"""Every command of the group."""
