"""The app's purchases. This library writes one field, ``status``, from one known value to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from ..models import is_payment_intent
from .connection import REPORT_SECONDS, Collection, database_timeout

COMPLETED = "completed"
REFUNDED = "refunded"
PURCHASE_STATUSES = ("pending", COMPLETED, "failed", REFUNDED)

_SIBLINGS = "_flask_refunds_siblings"


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase as the app stored it, and the IDs of all purchases of its payment."""

    document: Mapping[str, Any]
    payment_intent: str | None
    ids: Sequence[Any]

    @property
    def status(self) -> Any:
        """The purchase's status, as stored."""
        return self.document.get("status")


class Purchases:
    """Finds and marks the app's purchases.

    :param collection: with majority read and write concern, journaled.
    :param payment_field: the field that contains the payment intent's ID; may be a dotted path.
    """

    def __init__(self, collection: Collection, payment_field: str) -> None:
        self._purchases = collection
        self._field = payment_field

    def find(self, purchase_id: ObjectId) -> Purchase | None:
        """Return a purchase and the other purchases of its payment, in one round trip if it has a payment.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            found = list(self._purchases.aggregate(self._with_siblings(purchase_id)))
            if found:
                return self._read(found[0])
            document = self._purchases.find_one({"_id": purchase_id})
        return None if document is None else Purchase(document, None, [purchase_id])

    def find_many(self, purchase_ids: Sequence[ObjectId]) -> dict[ObjectId, Purchase]:
        """Return the existing ones of these purchases by ID, with only the fields that are needed.

        :param purchase_ids: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        wanted = {"$in": list(purchase_ids)}
        fields = {"status": 1, self._field: 1}
        shown = fields | {f"{_SIBLINGS}._id": 1}
        with database_timeout(REPORT_SECONDS):
            found = list(self._purchases.aggregate([*self._with_siblings(wanted), {"$project": shown}]))
            paid = {each["_id"]: self._read(each) for each in found}
            rest = {"$in": [each for each in purchase_ids if each not in paid]}
            unpaid = list(self._purchases.find({"_id": rest}, fields)) if rest["$in"] else []
        return paid | {each["_id"]: Purchase(each, None, [each["_id"]]) for each in unpaid}

    def _with_siblings(self, wanted: Any) -> list[dict[str, Any]]:
        """Return the stages that find purchases by ``_id``, each with all purchases of its payment.

        Purchases without a payment have no siblings: an app may have any number of them.
        """
        paid = {"_id": wanted, self._field: {"$regex": "^pi_[0-9A-Za-z_]"}}
        siblings = {
            "from": self._purchases.name,
            "localField": self._field,
            "foreignField": self._field,
            "as": _SIBLINGS,
        }
        return [{"$match": paid}, {"$lookup": siblings}]

    def ids_of(self, payment_intent: str) -> list[Any]:
        """Return the IDs of every purchase of a payment.

        :raises DatabaseUnavailable: 500.
        """
        with database_timeout():
            return [each["_id"] for each in self._purchases.find({self._field: payment_intent}, {"_id": 1})]

    def mark_refunded(self, payment_intent: str) -> int:
        """Mark every completed purchase of a payment as refunded.

        :return: how many were marked.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        return self._mark(payment_intent, COMPLETED, REFUNDED)

    def mark_completed(self, payment_intent: str) -> int:
        """Mark every refunded purchase of a payment as completed, because its refund failed after it
        succeeded.

        :return: how many were marked.
        :raises DatabaseUnavailable: 500; some may be marked.
        """
        return self._mark(payment_intent, REFUNDED, COMPLETED)

    def _mark(self, payment_intent: str, before: str, after: str) -> int:
        with database_timeout():
            result = self._purchases.update_many(
                {self._field: payment_intent, "status": before}, {"$set": {"status": after}}
            )
        return result.modified_count

    def _read(self, found: Mapping[str, Any]) -> Purchase:
        document = {key: value for key, value in found.items() if key != _SIBLINGS}
        payment_intent = _at(document, self._field)
        if not isinstance(payment_intent, str) or not is_payment_intent(payment_intent):
            # Unrelated purchases may contain the same placeholder.
            return Purchase(document, None, [document["_id"]])
        return Purchase(document, payment_intent, [each["_id"] for each in found[_SIBLINGS]])


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
