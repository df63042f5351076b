"""Stripe's API versions, as far as they change what this sandbox plays.

Before ``2025-03-31.basil``, Stripe showed the part of an authorization that it released (by a partial
capture, a cancellation or expiry) as a refund
(https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow).
"""

from __future__ import annotations

import re

from .errors import invalid

API_VERSION = "2026-10-28.endive"
LAST_WITH_RELEASES = "2025-02-24.acacia"
"""The last version that shows released authorizations as refunds."""

_FIRST_WITHOUT_RELEASES = "2025-03-31"
_VERSION = re.compile(r"\d{4}-\d\d-\d\d(\.\w+)?(;.*)?", re.ASCII)


def check_version(version: str) -> str:
    """Return the version if it has the form of one.

    :raises ApiError: 400.
    """
    if not _VERSION.fullmatch(version):
        raise invalid(f"Invalid Stripe API version: {version}")
    return version


def shows_releases(version: str) -> bool:
    """Return whether this version shows released authorizations as refunds."""
    return version[: len(_FIRST_WITHOUT_RELEASES)] < _FIRST_WITHOUT_RELEASES
