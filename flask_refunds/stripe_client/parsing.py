"""Parse Stripe's objects strictly: anything that isn't as documented raises an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar, get_args

from ..models import Card, Dispute, Failure, Payment, Reason, RefundStatus, StripeRefund, UnreadableRefund
from ..refund_details import RefundDetails

_T = TypeVar("_T")
_REASONS = get_args(Reason)
_MAX_TEXT = 500
_NO_CHARGE = {"amount_refunded": 0}
"""In place of the charge of a payment that wasn't made yet."""


class ReleasedAuthorization(ValueError):
    """A refund that released the uncaptured part of an authorization, so that no money moved.

    API versions before 2025-03-31.basil show and store such refunds
    (https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow).
    """


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A webhook endpoint of the account.

    :param events: the event types that it receives; ``*`` means all.
    """

    url: str
    events: frozenset[str]
    enabled: bool


def parse_refund(answer: Mapping[str, Any], request_id: str | None = None) -> StripeRefund:
    """Parse a refund whose ``charge`` is expanded (https://docs.stripe.com/api/refunds/object).

    :param request_id: Stripe's ``req_…`` of the answer or event.
    :raises ReleasedAuthorization: it moved no money.
    :raises LookupError, TypeError, ValueError: it isn't a refund as documented.
    """
    if answer["object"] != "refund":
        raise ValueError("not a refund")
    status = RefundStatus(answer["status"])
    reason = answer.get("reason")
    charge = answer["charge"]
    if not isinstance(charge, Mapping):
        raise TypeError("expected an expanded charge")
    may_be_release = _may_be_release(answer, charge)
    if may_be_release and _moved_nothing(answer, charge):
        raise ReleasedAuthorization
    return StripeRefund(
        id=_text(answer["id"]),
        payment_intent=_text(_id_of(answer["payment_intent"]) or charge["id"]),
        status=status,
        amount=_amount(answer["amount"]),
        amount_captured=_amount(charge["amount_captured"] or 0),
        currency=_text(answer["currency"]),
        refund_id=_refund_id(answer.get("metadata")),
        reason=reason if reason in _REASONS else None,
        failure=_parse_failure(answer, status),
        created=_time(answer["created"]),
        request_id=request_id if request_id is None else _text(request_id),
        details=parse_details(answer),
        is_transfer_kept=bool(charge.get("transfer")) and not answer.get("transfer_reversal"),
        charge=_text(charge["id"]),
        livemode=charge.get("livemode") is True,
        deciding_transaction=_text(_id_of(answer["balance_transaction"])) if may_be_release else None,
    )


def parse_details(refund: Mapping[str, Any]) -> RefundDetails:
    """Parse what Stripe tells about a refund besides its status.

    What isn't as documented counts as not told.
    """
    destination = _object(refund, "destination_details")
    kind = _optional_text(destination.get("type"))
    bank = _object(destination, kind or "")
    action = _object(_object(refund, "next_action"), "display_details")
    sent = _object(action, "email_sent")
    presented = _object(refund, "presentment_details")
    return RefundDetails(
        destination=kind,
        is_reversal={"reversal": True, "refund": False}.get(str(bank.get("type"))),
        reference=_optional_text(bank.get("reference")),
        reference_type=_optional_text(bank.get("reference_type")),
        reference_status=_optional_text(bank.get("reference_status")),
        pending_reason=_optional_text(refund.get("pending_reason")),
        instructions_email=_optional_text(refund.get("instructions_email")),
        action_email=_optional_text(sent.get("email_sent_to")),
        action_email_sent_at=_optional_time(sent.get("email_sent_at")),
        action_expires_at=_optional_time(action.get("expires_at")),
        receipt_number=_optional_text(refund.get("receipt_number")),
        balance_transaction=_optional_text(_optional_id(refund.get("balance_transaction"))),
        failure_balance_transaction=_optional_text(_optional_id(refund.get("failure_balance_transaction"))),
        presentment_amount=_optional_amount(presented.get("presentment_amount")),
        presentment_currency=_optional_text(presented.get("presentment_currency")),
    )


@dataclass(frozen=True, slots=True)
class RefundPage:
    """One page of a list of refunds, in Stripe's order.

    :param unreadable: items that aren't refunds as documented.
    :param last_id: the ID after which the next page starts; ``None`` on an empty page.
    """

    refunds: list[StripeRefund]
    unreadable: list[UnreadableRefund]
    has_more: bool
    last_id: str | None


def parse_refund_page(answer: Mapping[str, Any], request_id: str | None) -> RefundPage:
    """Parse one page of a list of refunds, without released authorizations.

    An item with an unknown status, or without an ID, doesn't make the others unreadable.

    :raises LookupError, TypeError, ValueError: it isn't such a list, or the next page can't be found.
    """
    refunds, unreadable, last_id = [], [], None
    has_more = expect(answer["has_more"], bool)
    for item in expect(answer["data"], list):
        try:
            last_id = _text(item["id"])
            refund_id = _refund_id(item.get("metadata"))
        except (LookupError, TypeError, ValueError):
            unreadable.append(UnreadableRefund(None, None))
            continue
        try:
            refunds.append(parse_refund(item, request_id))
        except ReleasedAuthorization:
            continue
        except (LookupError, TypeError, ValueError):
            unreadable.append(UnreadableRefund(last_id, refund_id))
    if has_more and last_id is None:
        raise ValueError("no item of the page has an ID")
    return RefundPage(refunds, unreadable, has_more, last_id)


def parse_amount_received(answer: Mapping[str, Any], request_id: str | None) -> int:
    """Parse what a payment intent received, in minor units.

    :raises LookupError, TypeError: it isn't a payment intent.
    """
    return expect(answer["amount_received"], int)


def parse_referenced_payment(answer: Mapping[str, Any], request_id: str | None) -> str | None:
    """Parse the payment of a charge or Checkout session: its payment intent, or the charge if it has none.

    :return: ``None`` for a session that isn't paid, or that starts a subscription.
    :raises LookupError, TypeError: it is neither.
    """
    payment = _id_of(answer["payment_intent"]) or (answer["id"] if answer["object"] == "charge" else None)
    return None if payment is None else expect(payment, str)


def parse_ids(answer: Mapping[str, Any], request_id: str | None) -> list[str]:
    """Parse the IDs of a list's objects.

    :raises LookupError, TypeError: it isn't such a list.
    """
    return [expect(each["id"], str) for each in expect(answer["data"], list)]


def parse_reporting_category(answer: Mapping[str, Any], request_id: str | None) -> str:
    """Parse what a balance transaction is in reports.

    :raises LookupError, TypeError: it isn't a balance transaction.
    """
    return expect(answer["reporting_category"], str)


def parse_webhook_endpoints(answer: Mapping[str, Any], request_id: str | None) -> list[WebhookEndpoint]:
    """Parse a list of webhook endpoints (https://docs.stripe.com/api/webhook_endpoints/object).

    :raises LookupError, TypeError: it isn't such a list.
    """
    return [
        WebhookEndpoint(
            url=expect(each["url"], str),
            events=frozenset(expect(each["enabled_events"], list)),
            enabled=each["status"] == "enabled",
        )
        for each in expect(answer["data"], list)
    ]


def parse_payment(answer: Mapping[str, Any], request_id: str | None) -> Payment:
    """Parse a payment intent whose ``latest_charge`` is expanded, or a charge without a payment intent.

    :raises LookupError, TypeError: it is neither.
    """
    is_charge = answer["object"] == "charge"
    charge = _charge_of(answer)
    received = charge["amount_captured"] or 0 if is_charge else answer["amount_received"]
    return Payment(
        id=expect(answer["id"], str),
        amount_received=expect(received, int),
        refunded=expect(charge["amount_refunded"], int),
        currency=expect(answer["currency"], str),
        livemode=expect(answer["livemode"], bool),
        card=_parse_card(charge.get("payment_method_details")),
        disputed=charge.get("disputed") is True,
        released=_uncaptured(charge),
        method=_optional_text(_object(charge, "payment_method_details").get("type")),
        email=_address(_object(charge, "billing_details").get("email"), charge.get("receipt_email")),
    )


def parse_disputes(answer: Mapping[str, Any], request_id: str | None) -> Dispute | None:
    """Parse a list of a payment's disputes (https://docs.stripe.com/api/disputes/object).

    A bank begins with an inquiry, or with a chargeback. During an inquiry, the payment can be refunded.

    :return: ``chargeback`` if one of them is, and ``None`` without disputes.
    :raises LookupError, TypeError: it isn't such a list.
    """
    disputes = expect(answer["data"], list)
    is_inquiry = [
        each["is_charge_refundable"] is True or expect(each["status"], str).startswith("warning_")
        for each in disputes
    ]
    if not disputes:
        return None
    return "inquiry" if all(is_inquiry) else "chargeback"


def _address(*values: Any) -> str | None:
    """Return the first of these values that can be an e-mail address."""
    texts = map(_optional_text, values)
    return next((each for each in texts if each is not None and "@" in each), None)


def parse_connect_options(answer: Mapping[str, Any], request_id: str | None) -> frozenset[str]:
    """Parse which options of refunds a payment supports, from the same objects as :func:`parse_payment`.

    :raises LookupError, TypeError: it is neither.
    """
    charge = _charge_of(answer)
    supported = {"reverse_transfer": "transfer", "refund_application_fee": "application_fee"}
    return frozenset(option for option, needed in supported.items() if charge.get(needed))


def _charge_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    found = answer if answer["object"] == "charge" else answer["latest_charge"]
    return found or _NO_CHARGE


def _may_be_release(refund: Mapping[str, Any], charge: Mapping[str, Any]) -> bool:
    """Return whether a refund made elsewhere has the amount of what wasn't captured."""
    if refund["status"] != RefundStatus.SUCCEEDED or _refund_id(refund.get("metadata")) is not None:
        return False
    return bool(0 < refund["amount"] == _uncaptured(charge))


def _moved_nothing(refund: Mapping[str, Any], charge: Mapping[str, Any]) -> bool:
    """Return whether a refund is more than can go back, or had no effect on the account's balance."""
    has_effect = refund.get("balance_transaction") is not None
    return not has_effect or refund["amount"] > (charge["amount_captured"] or 0)


def _uncaptured(charge: Mapping[str, Any]) -> int:
    return expect(charge.get("amount", 0), int) - expect(charge.get("amount_captured") or 0, int)


def _parse_card(details: Any) -> Card | None:
    card = details.get("card") if isinstance(details, Mapping) else None
    return Card(expect(card["brand"], str), expect(card["last4"], str)) if card else None


def expect(value: Any, kind: type[_T]) -> _T:
    """Return the value if it is exactly of that type: JSON's ``true`` isn't a number.

    :raises TypeError: it is of another type.
    """
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value


def _refund_id(metadata: Any) -> str | None:
    """Return what metadata names as its refund.

    :raises TypeError: it isn't metadata.
    """
    if not isinstance(metadata, (Mapping, type(None))):
        raise TypeError("expected metadata")
    refund_id = metadata and metadata.get("refund_id")
    return refund_id if isinstance(refund_id, str) else None


def _parse_failure(answer: Mapping[str, Any], status: RefundStatus) -> Failure | None:
    if not status.is_failed_or_canceled:
        return None
    code = _text(str(answer.get("failure_reason") or status.value))
    return Failure(code, f"Stripe reports this refund as {status.value} ({code}).")


def _text(value: Any) -> str:
    """Return text that MongoDB can store: JSON can contain half of a surrogate pair, UTF-8 can't.

    :raises TypeError, ValueError: it isn't such text.
    """
    text = expect(value, str)
    text.encode("utf-8")
    return text


def _optional_text(value: Any) -> str | None:
    """Return text of Stripe that isn't needed, cut to what a person reads; ``None`` if it isn't such text."""
    try:
        return _text(value)[:_MAX_TEXT] if value is not None else None
    except (TypeError, ValueError):
        return None


def _optional_time(value: Any) -> datetime | None:
    try:
        return _time(value) if value is not None else None
    except (OSError, TypeError, ValueError):
        return None


def _optional_amount(value: Any) -> int | None:
    try:
        return _amount(value) if value is not None else None
    except (TypeError, ValueError):
        return None


def _optional_id(value: Any) -> Any:
    return value.get("id") if isinstance(value, Mapping) else value


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object in another, or an empty one."""
    found = parent.get(name)
    return found if isinstance(found, Mapping) else {}


def _amount(value: Any) -> int:
    """Return an amount in minor units that MongoDB can store.

    :raises TypeError, ValueError: it isn't one.
    """
    amount = expect(value, int)
    if not 0 <= amount < 2**63:
        raise ValueError("not an amount")
    return amount


def _time(seconds: Any) -> datetime:
    """Return the time of seconds since the epoch.

    :raises TypeError, ValueError: it isn't a time.
    """
    try:
        return datetime.fromtimestamp(expect(seconds, int), timezone.utc)
    except OverflowError as error:
        raise ValueError("not a time") from error


def _id_of(value: Any) -> Any:
    """Return the ID of an object that Stripe may have expanded."""
    return value["id"] if isinstance(value, Mapping) else value
