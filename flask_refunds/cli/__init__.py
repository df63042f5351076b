"""``flask refunds …``: what operators run. One module a command, or a family of them."""

from __future__ import annotations

from .check import check
from .export import export
from .init_db import init_db
from .listing import list_refunds
from .metrics import metrics
from .reconcile import reconcile
from .refund import refund
from .resolve import resolve
from .show import show
from .token import token

COMMANDS = (refund, show, list_refunds, metrics, export, reconcile, resolve, init_db, check, token)
"""Every command of the group, in the order in which its help lists them."""
