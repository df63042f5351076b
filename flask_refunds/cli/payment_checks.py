"""Check that Stripe shows the payment of a purchase to the key, and that the settings fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..config import Settings, stripe_options_problem
from ..errors import PaymentUnknown, PermissionMissing, RequestRejected, StripeCallError
from ..models import Payment, is_reference
from ..money import minor_amount
from ..purchase_fields import PurchaseFields, read_field
from .check_result import CheckResult, fail, note, ok

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

Document = Mapping[str, Any]


def held_by(purchase: Document, fields: PurchaseFields) -> str:
    """Return the reference to a payment that a purchase holds, or an empty string."""
    value = read_field(purchase, fields.payment)
    return value if isinstance(value, str) and is_reference(value) else ""


def check_sessions(
    purchase: Document, fields: PurchaseFields, gateway: Callable[[], Gateway]
) -> Iterator[CheckResult]:
    """Check that the key may read Checkout sessions, if purchases hold them."""
    deadline, account = Deadline.after(CALL_SECONDS), _account_of(purchase, fields)
    try:
        gateway().on(account).find_payment(held_by(purchase, fields), deadline)
    except PermissionMissing:
        yield fail(
            "sessions",
            "Purchases hold Checkout sessions, and the key can't read them. Add the permission read for "
            "Checkout Sessions in Stripe's Dashboard.",
        )
    except RequestRejected:
        yield _unknown(purchase, fields)
    except StripeCallError:
        return


def check_payment(
    together: Sequence[Document], paid: Document, settings: Settings, gateway: Callable[[], Gateway]
) -> Iterator[CheckResult]:
    """Read a payment, and compare it with the settings.

    :param together: its purchases.
    :param paid: one of them.
    """
    fields, options = settings.purchase_fields, settings.refunds_stripe_options
    deadline, held = Deadline.after(CALL_SECONDS), held_by(paid, fields)
    try:
        reader = gateway().on(_account_of(paid, fields))
        payment = reader.retrieve_payment(held, deadline)
        is_transferred = "reverse_transfer" in reader.find_connect_options(held, deadline)
    except RequestRejected:
        yield _unknown(paid, fields)
        return
    except StripeCallError:
        return
    yield from _check_amount(together, payment, fields)
    if is_transferred and not options:
        yield note(
            "transfers",
            f"{held} was transferred to a connected account. Without options, your account pays its refund "
            "alone. Set REFUNDS_STRIPE_OPTIONS, for example reverse_transfer and refund_application_fee.",
        )
    if callable(options) and (problem := _problem_of(options, paid)):
        yield fail("REFUNDS_STRIPE_OPTIONS", problem)


def _account_of(purchase: Document, fields: PurchaseFields) -> str | None:
    return read_field(purchase, fields.stripe_account) or None if fields.stripe_account else None


def _unknown(purchase: Document, fields: PurchaseFields) -> CheckResult:
    held, account = held_by(purchase, fields), _account_of(purchase, fields)
    if account is None:
        message = f"Stripe doesn't show {held}, which a purchase holds. {PaymentUnknown.default_hint}"
        return note("payments", message)
    return note(
        "payments",
        f"Stripe doesn't show {held} in the connected account of its purchase. A destination charge belongs "
        f"to your own account: if it is one, {fields.stripe_account} must be empty.",
    )


def _problem_of(options: Callable[[Document], Any], purchase: Document) -> str | None:
    try:
        found = options(purchase)
    except Exception as error:  # whatever the app's function raises
        return f"raised {type(error).__name__} for the purchase {purchase['_id']}"
    problem = stripe_options_problem(found)
    return problem and f"returned a value for the purchase {purchase['_id']} that {problem}"


def _check_amount(
    together: Sequence[Document], payment: Payment, fields: PurchaseFields
) -> Iterator[CheckResult]:
    """Compare the amounts of one payment's purchases with what Stripe received, to find a wrong unit."""
    fitting = [unit for unit in ("major", "minor") if _add_up(together, fields, payment, unit)]
    if not fitting:
        return  # taxes, tips or discounts
    if ("minor" if fields.amount_in_minor_units else "major") in fitting:
        yield ok("amounts", "The amounts of one payment's purchases add up to what Stripe received.")
    else:
        message = f"Purchases have amounts in {fitting[0]} units. Set REFUNDS_AMOUNT_UNIT={fitting[0]}."
        yield note("amounts", message)


def _add_up(together: Sequence[Document], fields: PurchaseFields, payment: Payment, unit: str) -> bool:
    amounts = (
        minor_amount(read_field(each, fields.amount), payment.currency, in_minor_units=unit == "minor")
        for each in together
    )
    return sum(each or 0 for each in amounts) == payment.amount_received > 0
