"""Bulk runs: many refunds in one run.

Imported when a run starts, because a worker that serves requests never needs it.
"""

from __future__ import annotations

from .classify import BulkResult, Result
from .plan import BulkPlan
from .runner import Bulk, BulkSummary, check_name

__all__ = ["Bulk", "BulkPlan", "BulkResult", "BulkSummary", "Result", "check_name"]
