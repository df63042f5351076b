"""``flask refunds …``: what operators run. One module a command, or a family of them."""

from __future__ import annotations

from .reconcile import reconcile
from .resolve import resolve

COMMANDS = (reconcile, resolve)
"""Every command of the group, in the order in which its help lists them."""
