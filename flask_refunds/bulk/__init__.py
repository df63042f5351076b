"""Many refunds in one run; imported when one is made, because a worker that serves requests never needs it.

``run`` makes the refunds and ``plan`` says what it would make; ``triage`` knows which of them the transitions
have already, ``crew`` is the threads, and ``outage`` what to do while the database does not answer.
"""

from __future__ import annotations

from .classify import BulkResult, Result
from .plan import BulkPlan
from .runner import Bulk, BulkSummary, check_name

__all__ = ["Bulk", "BulkPlan", "BulkResult", "BulkSummary", "Result", "check_name"]
