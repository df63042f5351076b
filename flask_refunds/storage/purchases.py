"""The app's purchases. This library writes one field, ``status``, from one known value to another."""

from __future__ import annotations

from collections.abc import Collection as AnyCollection
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pymongo.collection

from ..errors import PurchaseIdAmbiguous
from ..models import IdText, Mark, Refund, id_text, is_payment_intent
from ..purchase_fields import PurchaseFields, includes_word, read_field
from .connection import REPORT_SECONDS, Collection, database_timeout, rejections_as
from .refund_documents import payment_range, read_payment
from .stored_ids import matching_ids

_SIBLINGS = "_flask_refunds_siblings"
_PAYMENT = "_flask_refunds_payment"
_NO_PAYMENT = "flask_refunds:none"
"""What joins purchases without a payment: no purchase has it."""
_RECORDS = "_flask_refunds_records"
_ADDED = (_SIBLINGS, _PAYMENT, _RECORDS)
_RESOLVED_AT_ONCE = 500


class _Rejected(Exception):
    """MongoDB rejected a new status, for example by a unique index or a validator."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase as the app stored it, with its payment.

    :param status: ``completed``, ``refunded``, or ``None`` for any other status of the app.
    :param ids: all purchases of the payment.
    :param completed: those that are completed, with their statuses as stored.
    :param refunds: the payment's refunds, as :meth:`Ledger.list_for_payment` returns them.
    """

    document: Mapping[str, Any]
    status: Literal["completed", "refunded"] | None
    payment_intent: str | None
    ids: Sequence[Any]
    completed: Sequence[Mark]
    refunds: Sequence[Refund] = ()


class Purchases:
    """Finds and marks the app's purchases.

    :param collection: with majority read and write concern, journaled.
    :param records: the ledger, in the same database.
    :param fields: the shape of a purchase.
    """

    def __init__(self, collection: Collection, records: Collection, fields: PurchaseFields) -> None:
        self._purchases = collection
        self._records = records
        self.fields = fields
        self._field = fields.payment
        # mongomock has no pipelines in $lookup.
        self._is_server = isinstance(collection, pymongo.collection.Collection)
        self._with_siblings = self._sibling_stages()
        self._with_records = self._record_stages()

    def find(self, purchase_id: Any) -> Purchase | None:
        """Return a purchase with its payment's other purchases and refunds, in one round trip.

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
                return purchase
            records = found[0].get(_RECORDS)
            if records is None:
                records = list(self._records.find({"_id": payment_range(purchase.payment_intent)}))
        return replace(purchase, refunds=read_payment(records)[0]) if records else purchase

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
        shown = dict.fromkeys([*fields, *(f"{_SIBLINGS}.{each}" for each in fields)], 1)
        with database_timeout(REPORT_SECONDS):
            found = list(self._purchases.aggregate([wanted, *self._with_siblings, {"$project": shown}]))
        return {each["_id"]: self._read(each) for each in found}

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

    def ids_of(self, payment_intent: str) -> list[Any]:
        """Return the IDs of every purchase of a payment.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            found = self._purchases.find(self._paid_by(payment_intent), {"_id": 1})
            return [each["_id"] for each in found]

    def _paid_by(self, payment_intent: str) -> dict[str, Any]:
        """Match purchases whose field is exactly this payment, and not a list that contains it.

        The first condition uses the index, but MongoDB also matches a value inside an array.
        """
        return {
            self._field: payment_intent,
            "$expr": {"$eq": [f"${self._field}", {"$literal": payment_intent}]},
        }

    def payments_among(self, payment_intents: AnyCollection[str]) -> set[str]:
        """Return those of these payment intents that paid a purchase.

        :param payment_intents: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        if not payment_intents:
            return set()
        query = {self._field: {"$in": list(payment_intents)}}
        with database_timeout():
            found = [read_field(each, self._field) for each in self._purchases.find(query, {self._field: 1})]
        return {each for each in found if isinstance(each, str)}

    def find_completed(self, payment_intent: str) -> list[Mark]:
        """Return the completed purchases of a payment, with their statuses as stored.

        :raises DatabaseUnavailable: 500.
        """
        query = {**self._paid_by(payment_intent), **self.fields.is_completed}
        with database_timeout():
            return self._completed(self._purchases.find(query, {self.fields.status: 1}))

    def _completed(self, documents: Iterable[Mapping[str, Any]]) -> list[Mark]:
        words, path = self.fields.completed_words, self.fields.status
        statuses = ((each["_id"], read_field(each, path)) for each in documents)
        return [Mark(purchase_id, word) for purchase_id, word in statuses if includes_word(words, word)]

    def mark_refunded(self, payment_intent: str, marks: Sequence[Mark]) -> tuple[list[Any], list[Any]]:
        """Mark those of these purchases as refunded that still have their status and this payment.

        :return: those that aren't refunded with this payment now, and those whose status MongoDB rejected.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        rejected: list[Any] = []
        count = 0
        for status, purchase_ids in _by_status(marks):
            failed, changed = self._change(payment_intent, purchase_ids, status, self.fields.refunded_word)
            rejected += failed
            count += changed
        if count == len(marks):
            return [], []
        purchase_ids = [each.purchase_id for each in marks]
        query = {"_id": {"$in": purchase_ids}, **self._paid_by(payment_intent), **self.fields.is_refunded}
        with database_timeout():
            refunded = [each["_id"] for each in self._purchases.find(query, {"_id": 1})]
        return [each for each in purchase_ids if each not in refunded], rejected

    def mark_completed(self, payment_intent: str, marks: Sequence[Mark]) -> list[Any]:
        """Give those of these purchases their old status again that are refunded and still have this payment.

        :return: those whose status MongoDB rejected.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        rejected: list[Any] = []
        for status, purchase_ids in _by_status(reversed(marks)):  # the last status that was found counts
            rejected += self._change(payment_intent, purchase_ids, self.fields.refunded_word, status)[0]
        return rejected

    def _change(
        self, payment_intent: str, purchase_ids: Sequence[Any], before: Any, after: Any
    ) -> tuple[list[Any], int]:
        """Return the purchases whose new status MongoDB rejected, and how many were changed at once."""
        path = self.fields.status
        query = {"_id": {"$in": list(purchase_ids)}, **self._paid_by(payment_intent), path: before}
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
        payment_intent = read_field(document, self._field)
        if not isinstance(payment_intent, str) or not is_payment_intent(payment_intent):
            # Unrelated purchases may contain the same placeholder.
            return Purchase(document, status, None, [document["_id"]], [])
        together = [each for each in found[_SIBLINGS] if read_field(each, self._field) == payment_intent]
        ids = [each["_id"] for each in together]
        return Purchase(document, status, payment_intent, ids, self._completed(together))


def _by_status(marks: Iterable[Mark]) -> Iterable[tuple[Any, list[Any]]]:
    """Return each status, and the purchases with exactly this one: 1, 1.0 and true are three."""
    groups: dict[str, tuple[Any, list[Any]]] = {}
    for purchase_id, status in marks:
        groups.setdefault(repr(status), (status, []))[1].append(purchase_id)
    return groups.values()
