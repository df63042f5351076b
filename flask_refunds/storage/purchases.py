"""The app's purchases. This library writes one field, ``status``, from one known value to another."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pymongo.collection
from bson import encode
from bson.raw_bson import RawBSONDocument

from ..errors import PurchaseIdAmbiguous
from ..models import IdText, Mark, RefundRecord, id_text, is_account, is_reference
from ..purchase_fields import PurchaseFields, includes_word, read_field
from .connection import REPORT_SECONDS, Collection, database_timeout, rejections_as
from .references import References
from .refund_documents import payment_range, read_payment
from .stored_ids import matching_ids

_SIBLINGS = "_flask_refunds_siblings"
_PAYMENT = "_flask_refunds_payment"
_NO_PAYMENT = "flask_refunds:none"
"""What joins purchases without a payment: no purchase has it."""
_RECORDS = "_flask_refunds_records"
_ADDED = (_SIBLINGS, _PAYMENT, _RECORDS)
_RESOLVED_AT_ONCE = 500
_PREFIX = re.compile(r"[a-z]{2,12}_", re.ASCII)
_EXPECTED = "A payment is a payment intent (pi_…), a charge (ch_… or py_…) or a Checkout session (cs_…)."


class _Rejected(Exception):
    """MongoDB rejected a new status, for example by a unique index or a validator."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase as the app stored it, with its payment.

    :param status: ``completed``, ``refunded``, or ``None`` for any other status of the app.
    :param payment_intent: the payment's ID, if it is known.
    :param ids: all purchases of the payment.
    :param completed: those that are completed, with their statuses as stored.
    :param refunds: the payment's refunds, as :meth:`Ledger.list_for_payment` returns them.
    :param reference: the charge or Checkout session that it holds in place of a payment intent.
    :param references: what else than the payment's ID the purchases of the payment may hold.
    :param stripe_account: the connected account that has the payment; ``None`` for your own.
    """

    document: Mapping[str, Any]
    status: Literal["completed", "refunded"] | None
    payment_intent: str | None
    ids: Sequence[Any]
    completed: Sequence[Mark]
    refunds: Sequence[RefundRecord] = ()
    reference: str | None = None
    references: Sequence[str] = ()
    stripe_account: str | None = None


class Purchases:
    """Finds and marks the app's purchases.

    :param collection: with majority read and write concern, journaled.
    :param records: the ledger, in the same database.
    :param references: what is known about charges and Checkout sessions.
    :param fields: the shape of a purchase.
    """

    def __init__(
        self, collection: Collection, records: Collection, references: References, fields: PurchaseFields
    ) -> None:
        self._purchases = collection
        self._records = records
        self.references = references
        self.fields = fields
        self._field = fields.payment
        # mongomock has no pipelines in $lookup.
        self._is_server = isinstance(collection, pymongo.collection.Collection)
        self._with_siblings = self._encoded(self._sibling_stages())
        self._with_records = self._encoded(self._record_stages())

    def find(self, purchase_id: Any) -> Purchase | None:
        """Return a purchase with its payment's other purchases and refunds.

        If it holds a payment intent, this takes one round trip.

        :param purchase_id: a value, or an :class:`IdText`.
        :raises PurchaseIdAmbiguous: 400; several purchases are shown with this text.
        :raises RecordUnreadable: 500; one of its refunds can't be read.
        :raises DatabaseUnavailable: 500.
        """
        wanted = {"$match": {"_id": {"$in": matching_ids(purchase_id, self._purchases)}}}
        with database_timeout():
            found = list(self._purchases.aggregate([wanted, *self._with_siblings, *self._with_records]))
            if len(found) > 1:
                raise PurchaseIdAmbiguous
            purchase = self._read(found[0]) if found else None
            if purchase is None or purchase.payment_intent is None:
                return purchase and self._with_known_payment(purchase)
            records = found[0].get(_RECORDS)
            if records is None:
                records = self._find_records(purchase.payment_intent)
        return replace(purchase, refunds=read_payment(records)[0]) if records else purchase

    def _with_known_payment(self, purchase: Purchase) -> Purchase:
        known = self.references.find([purchase.reference]) if purchase.reference else {}
        return self.with_payment(purchase, known[purchase.reference or ""]) if known else purchase

    def with_payment(self, purchase: Purchase, payment: str) -> Purchase:
        """Return a purchase that holds a reference with its payment's other purchases and refunds.

        :raises RecordUnreadable: 500; one of its refunds can't be read.
        :raises DatabaseUnavailable: 500.
        """
        purchase = self._with_payments([purchase], {purchase.reference or "": payment})[0]
        with database_timeout():
            records = self._find_records(payment)
        return replace(purchase, refunds=read_payment(records)[0])

    def _with_payments(self, purchases: Sequence[Purchase], payments: Mapping[str, str]) -> list[Purchase]:
        """Return these purchases with the payments of their references, if known, and with their siblings."""
        references = self.references.of(set(payments.values())) if payments else {}
        together: dict[str, list[Mapping[str, Any]]] = {each: [] for each in references}
        holders = {held: payment for payment, all_held in references.items() for held in all_held}
        query, shown = self._paid_by(list(holders)), {self._field: 1, self.fields.status: 1}
        with database_timeout(REPORT_SECONDS):
            for each in self._purchases.find(query, shown) if holders else ():
                together[holders[read_field(each, self._field)]].append(each)
        return [
            replace(
                purchase,
                payment_intent=payment,
                references=references[payment][1:],
                ids=[each["_id"] for each in together[payment]],
                completed=self._completed(together[payment]),
            )
            if (payment := payments.get(purchase.reference or ""))
            else purchase
            for purchase in purchases
        ]

    def _find_records(self, payment: str) -> list[Any]:
        return list(self._records.find({"_id": payment_range(payment)}))

    def resolve(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the IDs of existing purchases by the texts that name them.

        :raises PurchaseIdAmbiguous: 400; names the text.
        :raises DatabaseUnavailable: 500.
        """
        found: dict[str, Any] = {}
        for start in range(0, len(texts), _RESOLVED_AT_ONCE):
            named: dict[Any, str] = {}
            for text in texts[start : start + _RESOLVED_AT_ONCE]:
                named |= dict.fromkeys(matching_ids(IdText(text), self._purchases), text)
            with database_timeout(REPORT_SECONDS):
                for each in self._purchases.find({"_id": {"$in": list(named)}}, {"_id": 1}):
                    shown = id_text(each["_id"])
                    text = named.get(each["_id"], shown) if isinstance(each["_id"], Hashable) else shown
                    if found.setdefault(text, each["_id"]) != each["_id"]:
                        raise PurchaseIdAmbiguous(f"Two purchases have the ID {text}. Nothing was refunded.")
        return found

    def find_many(self, purchase_ids: Sequence[Any]) -> dict[Any, Purchase]:
        """Return the existing ones of these purchases by ID, with only the fields that are needed.

        :param purchase_ids: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        wanted = {"$match": {"_id": {"$in": list(purchase_ids)}}}
        fields = ("_id", self.fields.status, self._field)
        accounts = [self.fields.stripe_account] if self.fields.stripe_account else []
        shown = dict.fromkeys([*fields, *accounts, *(f"{_SIBLINGS}.{each}" for each in fields)], 1)
        stages = [wanted, *self._with_siblings, {"$project": shown}]
        with database_timeout(REPORT_SECONDS):
            found = [self._read(each) for each in self._purchases.aggregate(stages)]
        held = {each.reference for each in found if each.reference}
        found = self._with_payments(found, self.references.find(held)) if held else found
        return {each.document["_id"]: each for each in found}

    def _sibling_stages(self) -> list[dict[str, Any]]:
        """Return the stages that add all purchases of its payment to each purchase.

        Purchases without a payment have no siblings: an app may have any number of them.
        """
        field = f"${self._field}"
        text = {"$cond": [{"$eq": [{"$type": field}, "string"]}, field, ""]}
        is_paid: dict[str, Any] = {"$regexMatch": {"input": text, "regex": "^pi_[0-9A-Za-z_]"}}
        siblings: dict[str, Any] = {
            "from": self._purchases.name,
            "localField": _PAYMENT,
            "foreignField": self._field,
            "as": _SIBLINGS,
        }
        if self._is_server:
            # Whole documents may exceed 16 MB.
            siblings["pipeline"] = [{"$project": {self._field: 1, self.fields.status: 1}}]
        else:  # mongomock has neither such pipelines nor $type, and compares as Python does
            is_paid = {"$and": [{"$gte": [field, "pi_0"]}, {"$lt": [field, "pi`"]}]}
        return [
            {"$set": {_PAYMENT: {"$cond": [is_paid, field, _NO_PAYMENT]}}},
            {"$lookup": siblings},
        ]

    def _encoded(self, stages: list[dict[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return stages in the form that is sent to MongoDB, so that each call needn't encode them again."""
        return [RawBSONDocument(encode(each)) for each in stages] if self._is_server else stages

    def _record_stages(self) -> list[dict[str, Any]]:
        """Return the stages that add the payment's refund records, or nothing if these must be read apart.

        Strings are compared by the collation of the purchases. One with another order than that of the
        ledger's ``_id`` can't select a range, so the range is empty then.
        """
        if not self._is_server:
            return []
        is_ordered = {"$lt": [":", ";"]}
        payment = {"$cond": [is_ordered, f"${_PAYMENT}", None]}
        in_range = [{"$gte": ["$_id", "$$start"]}, {"$lt": ["$_id", "$$end"]}]
        records = {
            "from": self._records.name,
            "let": {"start": {"$concat": [payment, ":"]}, "end": {"$concat": [payment, ";"]}},
            "pipeline": [{"$match": {"$expr": {"$and": in_range}}}],
            "as": _RECORDS,
        }
        shown = {"$cond": [is_ordered, f"${_RECORDS}", "$$REMOVE"]}
        return [{"$lookup": records}, {"$set": {_RECORDS: shown}}]

    def references_of(self, payment: str, charges: Iterable[str | None] = ()) -> list[str]:
        """Return everything that a purchase of this payment may hold, as far as is known; the payment first.

        :param charges: its charges, as Stripe shows them with its refunds.
        :raises DatabaseUnavailable: 500.
        """
        known = self.references.of([payment])[payment]
        return list(dict.fromkeys([*known, *filter(None, charges)]))

    def hold_sessions(self) -> bool:
        """Return whether any purchase holds a Checkout session.

        :raises DatabaseUnavailable: 500.
        """
        query = {self._field: {"$gte": "cs_", "$lt": "cs`"}}
        with database_timeout():
            return self._purchases.find_one(query, {"_id": 1}) is not None

    def find_accounts(self) -> list[str]:
        """Return the connected accounts of all purchases.

        :raises DatabaseUnavailable: 500.
        """
        if self.fields.stripe_account is None:
            return []
        with database_timeout(REPORT_SECONDS):
            found = self._purchases.distinct(self.fields.stripe_account)
        return [each for each in found if isinstance(each, str) and is_account(each)]

    def has_account(self, account: str) -> bool:
        """Return whether a purchase names this connected account.

        :raises DatabaseUnavailable: 500.
        """
        if self.fields.stripe_account is None:
            return False
        with database_timeout():
            return self._purchases.find_one({self.fields.stripe_account: account}, {"_id": 1}) is not None

    def ids_of(self, references: Sequence[str]) -> list[Any]:
        """Return the IDs of every purchase of a payment.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            found = self._purchases.find(self._paid_by(references), {"_id": 1})
            return [each["_id"] for each in found]

    def _paid_by(self, references: Sequence[str]) -> dict[str, Any]:
        """Match purchases whose field is exactly one of these, and not a list that contains it.

        The first condition uses the index, but MongoDB also matches a value inside an array.
        """
        field = f"${self._field}"
        if len(references) == 1:
            return {self._field: references[0], "$expr": {"$eq": [field, {"$literal": references[0]}]}}
        # $in in an expression has no meaning for mongomock.
        exactly = [{"$eq": [field, {"$literal": each}]} for each in references]
        return {self._field: {"$in": list(references)}, "$expr": {"$or": exactly}}

    def payments_among(self, charges: Mapping[str, str | None], account: str | None = None) -> set[str]:
        """Return those of these payments that paid a purchase.

        :param charges: a charge of each payment; some hundreds at most.
        :param account: the connected account that has them, which their purchases must name.
        :raises DatabaseUnavailable: 500.
        """
        if not charges or (account is not None and self.fields.stripe_account is None):
            return set()
        held = {each: payment for payment, every in self.references.of(charges).items() for each in every}
        held |= {charge: payment for payment, charge in charges.items() if charge}
        query: dict[str, Any] = {self._field: {"$in": list(held)}}
        if self.fields.stripe_account is not None:
            query[self.fields.stripe_account] = account  # None matches a missing field, too
        with database_timeout():
            found = [read_field(each, self._field) for each in self._purchases.find(query, {self._field: 1})]
        return {held[each] for each in found if isinstance(each, str)}

    def find_completed(self, references: Sequence[str]) -> list[Mark]:
        """Return the completed purchases of a payment, with their statuses as stored.

        :raises DatabaseUnavailable: 500.
        """
        query = {**self._paid_by(references), **self.fields.is_completed}
        with database_timeout():
            return self._completed(self._purchases.find(query, {self.fields.status: 1}))

    def _completed(self, documents: Iterable[Mapping[str, Any]]) -> list[Mark]:
        words, path = self.fields.completed_words, self.fields.status
        statuses = ((each["_id"], read_field(each, path)) for each in documents)
        return [Mark(purchase_id, word) for purchase_id, word in statuses if includes_word(words, word)]

    def mark_refunded(self, references: Sequence[str], marks: Sequence[Mark]) -> tuple[list[Any], list[Any]]:
        """Mark those of these purchases as refunded that still have their status and this payment.

        :param references: everything that a purchase of the payment may hold.
        :return: those that aren't refunded with this payment now, and those whose status MongoDB rejected.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        rejected: list[Any] = []
        count = 0
        for status, purchase_ids in _by_status(marks):
            failed, changed = self._change(references, purchase_ids, status, self.fields.refunded_word)
            rejected += failed
            count += changed
        if count == len(marks):
            return [], []
        purchase_ids = [each.purchase_id for each in marks]
        query = {"_id": {"$in": purchase_ids}, **self._paid_by(references), **self.fields.is_refunded}
        with database_timeout():
            refunded = [each["_id"] for each in self._purchases.find(query, {"_id": 1})]
        return [each for each in purchase_ids if each not in refunded], rejected

    def mark_completed(self, references: Sequence[str], marks: Sequence[Mark]) -> list[Any]:
        """Give those of these purchases their old status again that are refunded and still have this payment.

        :return: those whose status MongoDB rejected.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        rejected: list[Any] = []
        for status, purchase_ids in _by_status(reversed(marks)):  # the last status that was found counts
            rejected += self._change(references, purchase_ids, self.fields.refunded_word, status)[0]
        return rejected

    def _change(
        self, references: Sequence[str], purchase_ids: Sequence[Any], before: Any, after: Any
    ) -> tuple[list[Any], int]:
        """Return the purchases whose new status MongoDB rejected, and how many were changed at once."""
        path = self.fields.status
        query = {"_id": {"$in": list(purchase_ids)}, **self._paid_by(references), path: before}
        changed = self._update(query, after)
        if changed is not None:
            return [], changed
        # One after the other, so that one rejected status doesn't stop the others.
        return [each for each in purchase_ids if self._update({**query, "_id": each}, after) is None], 0

    def _update(self, query: Mapping[str, Any], status: Any) -> int | None:
        """Return how many purchases were updated, or ``None`` if MongoDB rejected the status."""
        try:
            with rejections_as(_Rejected), database_timeout():
                changes = {"$set": {self.fields.status: status}}
                return self._purchases.update_many(query, changes).matched_count
        except _Rejected:
            return None

    def _read(self, found: Mapping[str, Any]) -> Purchase:
        document = {key: value for key, value in found.items() if key not in _ADDED}
        status = self.fields.status_of(document)
        payment_intent, account = read_field(document, self._field), self._account_of(document)
        if not _is_usable(payment_intent, account):
            # Unrelated purchases may contain the same placeholder.
            return Purchase(document, status, None, [document["_id"]], [])
        if not payment_intent.startswith("pi_"):
            alone = [document["_id"]], self._completed([document])
            return Purchase(document, status, None, *alone, reference=payment_intent, stripe_account=account)
        together = [each for each in found[_SIBLINGS] if read_field(each, self._field) == payment_intent]
        ids = [each["_id"] for each in together]
        completed = self._completed(together)
        return Purchase(document, status, payment_intent, ids, completed, stripe_account=account)

    def _account_of(self, document: Mapping[str, Any]) -> Any:
        path = self.fields.stripe_account
        return None if path is None else read_field(document, path) or None

    def describe_payment(self, purchase: Purchase) -> str:
        """Return why a purchase's payment isn't usable: the field, and what it holds, without secrets."""
        held = read_field(purchase.document, self._field)
        if _is_usable(held, None):
            account = self._account_of(purchase.document)
            return f"Its {self.fields.stripe_account} {_describe(account)}. A connected account is acct_…."
        return f"Its {self._field} {_describe(held)}. {_EXPECTED}"


def _is_usable(payment: Any, account: Any) -> bool:
    """Return whether a purchase can be refunded with what its fields contain."""
    is_own = account is None or (isinstance(account, str) and is_account(account))
    return isinstance(payment, str) and is_reference(payment) and is_own


def _describe(value: Any) -> str:
    if value is None or value == "":
        return "is missing or empty"
    if not isinstance(value, str):
        return f"isn't text, but {type(value).__name__}"
    if "_secret_" in value:
        return "holds a client secret"
    prefix = _PREFIX.match(value)
    return f"holds {prefix.group()}…" if prefix else "holds other text"


def _by_status(marks: Iterable[Mark]) -> Iterable[tuple[Any, list[Any]]]:
    """Return each status, and the purchases with exactly this one: 1, 1.0 and true are three."""
    groups: dict[str, tuple[Any, list[Any]]] = {}
    for purchase_id, status in marks:
        groups.setdefault(repr(status), (status, []))[1].append(purchase_id)
    return groups.values()
