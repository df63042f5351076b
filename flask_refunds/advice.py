"""What happened to a refund, where the money is, and what to do; and what to answer the customer.

The causes are Stripe's ``failure_reason`` and ``pending_reason``
(https://docs.stripe.com/api/refunds/object), and the codes of rejected requests
(https://docs.stripe.com/error-codes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import NamedTuple

from .models import Card, Payment, Refund, RefundStatus
from .money import decimal_amount

USUAL_TIME = "It usually shows within 5 to 10 business days, depending on"
"""When banks show a refund, which is up to them (https://docs.stripe.com/refunds)."""


class Advice(NamedTuple):
    """Sentences for support."""

    happened: str
    money: str
    """Where the money is now."""
    action: str


_IN_BALANCE = "The money is back in your Stripe balance."
_NOT_SENT = "No money was sent."
_PAY_OTHERWISE = (
    "Ask the customer how you can pay them, such as by bank transfer. Another refund goes the same way."
)

PENDING: Mapping[str, Advice] = {
    "processing": Advice(
        "The refund is on its way: the bank or payment service is processing it.",
        "The money has left your Stripe balance.",
        "Wait. Stripe reports when it has succeeded, or fails it after 45 days.",
    ),
    "insufficient_funds": Advice(
        "Your Stripe balance is too low for this refund.",
        "The money hasn't left your Stripe balance yet.",
        "Top up the balance in Stripe. Stripe then makes the refund by itself.",
    ),
    "charge_pending": Advice(
        "The payment itself hasn't settled yet.",
        "The money hasn't reached your Stripe balance.",
        "Wait. Stripe makes the refund once the payment has settled.",
    ),
}
"""By Stripe's ``pending_reason``."""

FAILED: Mapping[str, Advice] = {
    "lost_or_stolen_card": Advice(
        "The customer's card was lost or stolen, so their bank didn't take the refund.",
        _IN_BALANCE,
        _PAY_OTHERWISE,
    ),
    "expired_or_canceled_card": Advice(
        "The customer's card or account has expired or is closed, so their bank didn't take the refund.",
        _IN_BALANCE,
        _PAY_OTHERWISE,
    ),
    "charge_for_pending_refund_disputed": Advice(
        "The customer disputed the payment with their bank while this refund was pending.",
        "The bank holds the amount of the payment until the dispute is decided.",
        "Don't refund again, or the customer may get the money twice. Answer the dispute in Stripe.",
    ),
    "insufficient_funds": Advice(
        "Your Stripe balance was too low for this refund.",
        _NOT_SENT,
        "Top up the balance in Stripe, then refund again.",
    ),
    "declined": Advice(
        "The customer's bank or payment service declined the refund.",
        _IN_BALANCE,
        "Refund again once. If that fails, too, ask the customer how you can pay them.",
    ),
    "merchant_request": Advice(
        "Someone on your side canceled the refund.",
        _IN_BALANCE,
        "Refund again if the customer should still get the money.",
    ),
    "unknown": Advice(
        "The refund failed, and the bank didn't say why.",
        _IN_BALANCE,
        "Refund again once. If that fails, too, ask the customer how you can pay them.",
    ),
}
"""By Stripe's ``failure_reason``. Others count as ``unknown``."""

REJECTED: Mapping[str, Advice] = {
    "charge_disputed": Advice(
        "The customer disputed the payment with their bank, so Stripe doesn't refund it.",
        "The bank holds the amount of the payment until the dispute is decided.",
        "Don't refund it another way. Answer the dispute in Stripe.",
    ),
    "charge_already_refunded": Advice(
        "Stripe says that the whole payment was refunded before.",
        "The customer got it with the earlier refunds.",
        "Look at the payment's refunds. Reconcile records what was refunded elsewhere.",
    ),
    "parameter_missing": Advice(
        "This payment method needs the customer's e-mail address for a refund.",
        _NOT_SENT,
        "Refund again with the customer's e-mail address. Stripe writes to it.",
    ),
    "lock_timeout": Advice(
        "Another request was using the payment at Stripe at the same time.",
        _NOT_SENT,
        "Refund again in a minute.",
    ),
    "rate_limit": Advice("Stripe had too many requests.", _NOT_SENT, "Refund again in a minute."),
    "resource_missing": Advice(
        "The Stripe account or mode of your key doesn't have this payment.",
        _NOT_SENT,
        "Check that the key is of the account and mode of the payment: a test key can't see live payments.",
    ),
    "payment_intent_unexpected_state": Advice(
        "The payment can't be refunded, because it wasn't captured or didn't succeed.",
        "The customer wasn't charged.",
        "Capture the payment in Stripe, or cancel it. A canceled one needs no refund.",
    ),
    "balance_insufficient": Advice(
        "Your Stripe balance was too low for this refund.",
        _NOT_SENT,
        "Top up the balance in Stripe, then refund again.",
    ),
    "api_key_expired": Advice(
        "Your Stripe key has expired.", _NOT_SENT, "Set a new key in STRIPE_SECRET_KEY, then refund again."
    ),
    "authentication_failed": Advice(
        "Stripe doesn't know your key: it is wrong, or was deleted.",
        _NOT_SENT,
        "Set the right key in STRIPE_SECRET_KEY, then refund again.",
    ),
    "permission_denied": Advice(
        "Your restricted Stripe key lacks a permission that refunds need.",
        _NOT_SENT,
        "Give the key write access to Charges and Refunds, and read access to PaymentIntents. "
        "Then refund again.",
    ),
    "account_invalid": Advice(
        "Your key has no access to the purchase's connected account, which may have disconnected.",
        _NOT_SENT,
        "Connect the account to your platform again, or refund the payment in its own Dashboard.",
    ),
    "marked_failed": Advice(
        "A person found that Stripe didn't make this refund.",
        _NOT_SENT,
        "Refund again if the customer should still get the money.",
    ),
}
"""By the code of a request that Stripe rejected, or of a decision."""

_REJECTED = Advice(
    "Stripe rejected the refund.",
    _NOT_SENT,
    "Correct the cause that Stripe names, then refund again. Stripe's Dashboard has the request in its logs.",
)
_OTHER_MODE = {
    "live": Advice(
        "The payment was made in live mode, and your key is a test key.",
        _NOT_SENT,
        "Refund it where the live key is set, such as on your production server.",
    ),
    "test": Advice(
        "The payment was made in test mode, and your key is a live key.",
        "No real money was paid.",
        "Refund it where the test key is set, or leave it: it is only a test.",
    ),
}
"""By the mode of a payment that Stripe has, in the mode that the key doesn't belong to."""
_NAMES_OTHER_MODE = re.compile(r"a similar object exists in (live|test) mode")
KEY_CODES = frozenset({"account_invalid", "api_key_expired", "authentication_failed", "permission_denied"})
"""The codes of rejected requests that are about the key."""
_BY_STATUS: Mapping[RefundStatus, Advice] = {
    RefundStatus.PROCESSING: Advice(
        "Stripe hasn't said yet whether it made this refund.",
        "Not known. Nothing is lost: reconcile asks Stripe until it is known.",
        "Wait, and don't pay another way. If it stays unknown, the refund asks for a review.",
    ),
    RefundStatus.REQUIRES_ACTION: Advice(
        "The customer must tell Stripe where to send the money. Stripe wrote them an e-mail.",
        "The money waits at Stripe.",
        "Ask the customer to follow the e-mail. If they can't, cancel the refund and pay another way.",
    ),
    RefundStatus.SUCCEEDED: Advice(
        "Stripe sent the money.",
        "It is with the customer's bank or payment service.",
        "If the customer doesn't see it after 10 business days, give them the bank reference.",
    ),
    RefundStatus.CANCELED: FAILED["merchant_request"],
}
_REVERSED = Advice(
    "Stripe reversed the charge, before the customer's bank had booked it.",
    "It never left the customer's account, or is back in it.",
    "Tell the customer to look for the charge, not for a credit: the charge vanishes from the statement.",
)


def advise(refund: Refund) -> Advice:
    """Return what happened to a refund, where the money is, and what to do."""
    if refund.status is RefundStatus.FAILED:
        code = refund.failure.code if refund.failure else "unknown"
        if refund.stripe_refund_id is None:
            return advise_rejected(code, refund.failure.message if refund.failure else "")
        return FAILED.get(code, FAILED["unknown"])
    if refund.status is RefundStatus.PENDING:
        return PENDING.get(refund.details.pending_reason or "", PENDING["processing"])
    if refund.status is RefundStatus.SUCCEEDED and refund.details.is_reversal:
        return _REVERSED
    return _BY_STATUS[refund.status]


def advise_rejected(code: str, message: str = "") -> Advice:
    """Return the advice for a request that Stripe rejected with this code and message."""
    other_mode = _NAMES_OTHER_MODE.search(message)
    return _OTHER_MODE[other_mode[1]] if other_mode else REJECTED.get(code, _REJECTED)


def is_of_other_mode(message: str) -> bool:
    """Return whether Stripe says that the payment exists in the other mode."""
    return _NAMES_OTHER_MODE.search(message) is not None


def hint_of(advice: Advice) -> str:
    """Return what happened and what to do, for an error's hint."""
    return f"{advice.happened} {advice.action}"


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
"""In English also where the process has another locale."""
_PAY_LATER = frozenset({"affirm", "afterpay_clearpay", "alma", "klarna", "scalapay", "zip"})
_NAMES: Mapping[str, str] = {
    "afterpay_clearpay": "Afterpay or Clearpay",
    "amazon_pay": "Amazon Pay",
    "blik": "BLIK",
    "cashapp": "Cash App",
    "eps": "EPS",
    "grabpay": "GrabPay",
    "ideal": "iDEAL",
    "mb_way": "MB WAY",
    "p24": "Przelewy24",
    "paynow": "PayNow",
    "paypal": "PayPal",
    "twint": "TWINT",
    "wechat_pay": "WeChat Pay",
}


_BANK_DEBITS = frozenset(
    {"acss_debit", "au_becs_debit", "bacs_debit", "nz_bank_account", "sepa_debit", "us_bank_account"}
)
_BRANDS: Mapping[str, str] = {
    "amex": "American Express",
    "cartes_bancaires": "Cartes Bancaires",
    "diners": "Diners Club",
    "discover": "Discover",
    "eftpos_au": "eftpos",
    "jcb": "JCB",
    "mastercard": "Mastercard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}


def goes_to(payment: Payment) -> str:
    """Return a sentence that says where the money of a refund goes."""
    method = payment.method
    if payment.card is not None:
        return f"The money goes back to the {_card(payment.card)}."
    if method == "card":
        return "The money goes back to the card that paid."
    if method == "customer_balance":
        return "The money goes to the customer's bank account. If Stripe doesn't know it, it asks by e-mail."
    if payment.needs_email:
        return "The money goes to a bank account, for which Stripe asks the customer by e-mail."
    if method in _BANK_DEBITS:
        return "The money goes back to the bank account that paid."
    if method in _PAY_LATER:
        return f"The money goes to {_name(method)}, which lowers what the customer owes or pays it out."
    if method is None:
        return "The money goes back to the payment method that the customer used."
    return f"The money goes back through {_name(method)}."


def _card(card: Card) -> str:
    brand = f"{_BRANDS.get(card.brand, '')} card".lstrip().replace("Mastercard card", "Mastercard")
    return f"{brand} ending in {card.last4}"


def customer_message(refund: Refund) -> str:
    """Return one or two sentences that support can send to the customer, true for the payment method."""
    amount = f"refund of {refund.amount_text}" if refund.amount_text else "refund"
    if refund.status is RefundStatus.PROCESSING:
        return (
            f"We have requested your {amount}, and are waiting for its confirmation. "
            "You don't need to do anything."
        )
    if refund.status is RefundStatus.REQUIRES_ACTION:
        return _ask_to_act(refund, amount)
    if refund.status is RefundStatus.PENDING:
        return _say_pending(refund, amount)
    if refund.status is RefundStatus.SUCCEEDED:
        return _say_sent(refund, amount)
    return _say_failed(refund, amount)


def _ask_to_act(refund: Refund, amount: str) -> str:
    details = refund.details
    sent = f" of {_day(details.action_email_sent_at)}" if details.action_email_sent_at else ""
    to = f" to {details.action_email}" if details.action_email else ""
    until = f" by {_day(details.action_expires_at)}" if details.action_expires_at else ""
    email = f"the e-mail from Stripe{sent}{to}{until}"
    return f"For your {amount}, we need to know where to send it. Please follow {email}."


def _say_pending(refund: Refund, amount: str) -> str:
    reason = refund.details.pending_reason
    if reason == "charge_pending":
        return f"Your payment hasn't reached us completely yet. Your {amount} follows as soon as it has."
    if reason == "insufficient_funds":
        return (
            f"We are preparing your {amount}, and will send it as soon as possible. "
            "You don't need to do anything."
        )
    return (
        f"Your {amount} is on its way {_through(refund.details.destination)}, and is still being processed."
    )


def _say_sent(refund: Refund, amount: str) -> str:
    details, day = refund.details, f" on {_day(refund.settled_at)}" if refund.settled_at else ""
    if details.is_reversal:
        return (
            f"We returned your payment with a {amount}{day}. It is a reversal: the original charge vanishes "
            f"from your card statement, and there is no separate credit.{_reference(refund)}"
        )
    sent = f"We sent your {amount}{day} {_through(details.destination)}."
    return f"{sent} {_when(details.destination)}{_presented(refund)}{_reference(refund)}"


def _say_failed(refund: Refund, amount: str) -> str:
    code = refund.failure.code if refund.failure else ""
    if code in ("charge_for_pending_refund_disputed", "charge_disputed"):
        return (
            "You asked your bank to return this payment, so your bank decides about it. "
            "We can't refund it in addition, and your bank will tell you what it decided."
        )
    if code == "charge_already_refunded":
        return "This payment was refunded before. Please look for an earlier credit on your statement."
    if (
        refund.stripe_refund_id is None
        or refund.status is RefundStatus.CANCELED
        or code == "insufficient_funds"
    ):
        return f"Your {amount} hasn't been sent yet. We are looking into it, and will contact you."
    return (
        f"Your {amount} couldn't be paid out, and the money came back to us. "
        "Please tell us how we can pay you instead, such as by bank transfer."
    )


def _through(destination: str | None) -> str:
    if destination == "card":
        return "to the card that you paid with"
    if destination == "customer_cash_balance":
        return "to your balance with us"
    if destination is None:
        return "to the payment method that you used"
    if destination.endswith("_bank_transfer"):
        return "to your bank account"
    return f"through {_name(destination)}"


def _when(destination: str | None) -> str:
    if destination == "customer_cash_balance":
        return "You can use it now."
    if destination in _PAY_LATER:
        return f"{_name(destination)} lowers what you still owe, or returns what you have paid."
    if destination in (None, "card") or destination.endswith("_bank_transfer"):
        return f"{USUAL_TIME} your bank."
    return f"{USUAL_TIME} {_name(destination)} and your bank."


def _presented(refund: Refund) -> str:
    amount, currency = refund.details.presentment_amount, refund.details.presentment_currency
    if amount is None or currency is None or currency == refund.currency:
        return ""
    return f" You will see it as {decimal_amount(amount, currency)} {currency.upper()}."


def _reference(refund: Refund) -> str:
    number = refund.details.reference
    return f" Your bank can find it by the reference {number}." if number else ""


def _name(destination: str) -> str:
    return _NAMES.get(destination, destination.replace("_", " ").capitalize())


def _day(time: datetime) -> str:
    utc = time.astimezone(timezone.utc)
    return f"{utc.day} {_MONTHS[utc.month - 1]} {utc.year}"
