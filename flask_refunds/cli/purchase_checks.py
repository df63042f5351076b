"""Check that the settings describe the app's purchases, by a sample of the newest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..config import Settings
from ..errors import DatabaseUnavailable, PermissionMissing, StripeCallError
from ..models import Payment, is_payment, is_reference
from ..money import minor_amount
from ..purchase_fields import PurchaseFields, read_field
from ..schemas.rendering import render_text
from ..storage.connection import REPORT_SECONDS, Database, database_timeout, majority_collection
from .check_result import CheckResult, fail, note, ok

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

SAMPLE = 200
_SHOWN = 5
"""How many statuses of the app are named."""


def check_purchases(
    settings: Settings, database: Database, gateway: Callable[[], Gateway]
) -> Iterator[CheckResult]:
    """Run one check of the purchases after the other; none if they can't be read, or if there are none."""
    fields = settings.purchase_fields
    purchases = majority_collection(database, settings.refunds_purchases_collection)
    paths = (fields.status, fields.payment, fields.amount, fields.currency, fields.stripe_account)
    shown = dict.fromkeys(filter(None, paths), 1)
    try:
        with database_timeout(REPORT_SECONDS):
            sample = list(purchases.find({}, shown).sort("_id", -1).limit(SAMPLE))
            paid = next(
                filter(fields.status_of, filter(lambda it: is_payment(_held_by(it, fields)), sample)), None
            )
            together = list(purchases.find({fields.payment: _held_by(paid, fields)})) if paid else []
    except DatabaseUnavailable:
        return
    if sample:
        yield _check_words(sample, fields)
    session = next(filter(lambda it: _held_by(it, fields).startswith("cs_"), sample), None)
    if session is not None:
        yield from _check_sessions(session, fields, gateway)
    if paid is not None:
        yield from _check_amount(together, paid, fields, gateway)


def _held_by(purchase: Mapping[str, Any], fields: PurchaseFields) -> str:
    """Return the reference to a payment that a purchase holds, or an empty string."""
    value = read_field(purchase, fields.payment)
    return value if isinstance(value, str) and is_reference(value) else ""


def _account_of(purchase: Mapping[str, Any], fields: PurchaseFields) -> str | None:
    return read_field(purchase, fields.stripe_account) or None if fields.stripe_account else None


def _check_sessions(
    purchase: Mapping[str, Any], fields: PurchaseFields, gateway: Callable[[], Gateway]
) -> Iterator[CheckResult]:
    """Check that the key may read Checkout sessions, if purchases hold them."""
    deadline, account = Deadline.after(CALL_SECONDS), _account_of(purchase, fields)
    try:
        gateway().on(account).find_payment(_held_by(purchase, fields), deadline)
    except PermissionMissing:
        yield fail(
            "sessions",
            "Purchases hold Checkout sessions, and the key can't read them. Add the permission read for "
            "Checkout Sessions in Stripe's Dashboard.",
        )
    except StripeCallError:
        return


def _check_words(sample: Sequence[Mapping[str, Any]], fields: PurchaseFields) -> CheckResult:
    """Check that some purchases have the payments and the statuses that the settings name."""
    count = len(sample)
    if not any(_held_by(each, fields) for each in sample):
        return note(
            "documents",
            f"0 of {count} purchases have a payment intent, charge or Checkout session in the field "
            f"{fields.payment}. "
            'Set REFUNDS_PURCHASE_FIELDS["payment"].',
        )
    if any(map(fields.status_of, sample)):
        return ok("documents", "The newest purchases have the fields and statuses of the settings.")
    found = Counter(str(render_text(read_field(each, fields.status))) for each in sample)
    names = ", ".join(f"{name[:40]} ({number})" for name, number in found.most_common(_SHOWN))
    return note(
        "documents",
        f"0 of {count} purchases are completed or refunded. Their field {fields.status} has: {names}. "
        'Set REFUNDS_STATUS_COMPLETED, or REFUNDS_PURCHASE_FIELDS["status"].',
    )


def _check_amount(
    together: Sequence[Mapping[str, Any]],
    paid: Mapping[str, Any],
    fields: PurchaseFields,
    gateway: Callable[[], Gateway],
) -> Iterator[CheckResult]:
    """Compare the amounts of one payment's purchases with what Stripe received, to find a wrong unit."""
    try:
        deadline, account = Deadline.after(CALL_SECONDS), _account_of(paid, fields)
        payment = gateway().on(account).retrieve_payment(_held_by(paid, fields), deadline)
    except StripeCallError:
        return
    fitting = [unit for unit in ("major", "minor") if _add_up(together, fields, payment, unit)]
    if not fitting:
        return  # taxes, tips or discounts
    if ("minor" if fields.amount_in_minor_units else "major") in fitting:
        yield ok("amounts", "The amounts of one payment's purchases add up to what Stripe received.")
    else:
        message = f"Purchases have amounts in {fitting[0]} units. Set REFUNDS_AMOUNT_UNIT={fitting[0]}."
        yield note("amounts", message)


def _add_up(
    together: Sequence[Mapping[str, Any]], fields: PurchaseFields, payment: Payment, unit: str
) -> bool:
    amounts = (
        minor_amount(read_field(each, fields.amount), payment.currency, in_minor_units=unit == "minor")
        for each in together
    )
    return sum(each or 0 for each in amounts) == payment.amount_received > 0
