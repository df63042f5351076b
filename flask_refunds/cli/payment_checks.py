"""Check that Stripe shows the payment of a purchase to the key, and that the settings fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..clock import CALL_SECONDS, Deadline
from ..config import Settings, stripe_options_problem
from ..errors import PaymentUnknown, PermissionMissing, RequestRejected, StripeCallError
from ..models import Payment, id_text, is_reference
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
    together: Sequence[Sequence[Document]],
    paid: Document,
    settings: Settings,
    gateway: Callable[[], Gateway],
) -> Iterator[CheckResult]:
    """Read a payment, and compare it and some others with the settings.

    :param together: the purchases of each payment, those of this one first.
    :param paid: one of these.
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
    others = _read_payments(together[1:], fields, gateway)
    yield from _check_amounts([(together[0], payment), *others], fields)
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
        return f"raised {type(error).__name__} for the purchase {id_text(purchase['_id'])}"
    problem = stripe_options_problem(found)
    return problem and f"returned a value for the purchase {id_text(purchase['_id'])} that {problem}"


def _read_payments(
    together: Iterable[Sequence[Document]], fields: PurchaseFields, gateway: Callable[[], Gateway]
) -> Iterator[tuple[Sequence[Document], Payment]]:
    """Yield the purchases of each payment with the payment, as far as Stripe shows it."""
    for purchases in filter(None, together):
        reader, held = gateway().on(_account_of(purchases[0], fields)), held_by(purchases[0], fields)
        try:
            yield purchases, reader.retrieve_payment(held, Deadline.after(CALL_SECONDS))
        except RequestRejected:
            continue  # such as a payment of an earlier account
        except StripeCallError:
            return


def _check_amounts(
    found: Iterable[tuple[Sequence[Document], Payment]], fields: PurchaseFields
) -> Iterator[CheckResult]:
    """Compare the amounts of each payment's purchases with what Stripe received, to find a wrong unit."""
    units = [
        fitting
        for purchases, payment in found
        if (fitting := [unit for unit in ("major", "minor") if _add_up(purchases, fields, payment, unit)])
    ]
    if not units:
        return  # taxes, tips or discounts
    right, wrong = ("minor", "major") if fields.amount_in_minor_units else ("major", "minor")
    count, others = len(units), sum(right not in each for each in units)
    payments = "1 payment" if count == 1 else f"{count} payments"
    if not others:
        yield ok("amounts", f"The amounts of the purchases of {payments} add up to what Stripe received.")
    elif any(wrong not in each for each in units):
        yield note(
            "amounts",
            f"Of {payments}, the purchases of {others} have amounts in {wrong} units. "
            f"REFUNDS_AMOUNT_UNIT is {right}. Store all amounts in one unit.",
        )
    else:
        yield note("amounts", f"Purchases have amounts in {wrong} units. Set REFUNDS_AMOUNT_UNIT={wrong}.")


def _add_up(together: Sequence[Document], fields: PurchaseFields, payment: Payment, unit: str) -> bool:
    amounts = (
        minor_amount(read_field(each, fields.amount), payment.currency, in_minor_units=unit == "minor")
        for each in together
    )
    return sum(each or 0 for each in amounts) == payment.amount_received > 0
