"""The host's purchases. We read them, and write one field, ``status``, from one known value to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from ..models import is_payment_intent
from .connection import REPORT_SECONDS, Collection, operation

COMPLETED = "completed"
REFUNDED = "refunded"

_SIBLINGS = "_flask_refunds_siblings"


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase as the host stored it, and the ids of all that its payment paid for."""

    document: Mapping[str, Any]
    payment_intent: str | None
    ids: Sequence[Any]

    @property
    def status(self) -> Any:
        """The host's word for where the purchase stands."""
        return self.document.get("status")


class Purchases:
    """Finds and marks the host's purchases.

    :param collection: majority read and write concern, journaled.
    :param payment_intent_field: the host's field that holds the payment intent's id; may be a dotted path.
    """

    def __init__(self, collection: Collection, payment_intent_field: str) -> None:
        self._purchases = collection
        self._field = payment_intent_field

    def find(self, purchase_id: ObjectId) -> Purchase | None:
        """The purchase, in one round trip with the others that the same payment paid, if any did.

        :raises DatabaseUnavailable: 500.
        """
        with operation():
            found = list(self._purchases.aggregate(self._with_siblings(purchase_id)))
            if found:
                return self._read(found[0])
            document = self._purchases.find_one({"_id": purchase_id})
        return None if document is None else Purchase(document, None, [purchase_id])

    def find_many(self, purchase_ids: Sequence[ObjectId]) -> dict[ObjectId, Purchase]:
        """Those of these purchases that there are, by id; of the documents, no more than we need.

        :param purchase_ids: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        wanted = {"$in": list(purchase_ids)}
        fields = {"status": 1, self._field: 1}
        shown = fields | {f"{_SIBLINGS}._id": 1}
        with operation(REPORT_SECONDS):
            found = list(self._purchases.aggregate([*self._with_siblings(wanted), {"$project": shown}]))
            paid = {each["_id"]: self._read(each) for each in found}
            rest = {"$in": [each for each in purchase_ids if each not in paid]}
            unpaid = list(self._purchases.find({"_id": rest}, fields)) if rest["$in"] else []
        return paid | {each["_id"]: Purchase(each, None, [each["_id"]]) for each in unpaid}

    def _with_siblings(self, wanted: Any) -> list[dict[str, Any]]:
        """The stages that find purchases by ``_id``, each with all that its payment paid for.

        Only what has a payment has siblings: a shop may have any number of purchases without one.
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
        """The ids of every purchase that a payment paid.

        :raises DatabaseUnavailable: 500.
        """
        with operation():
            return [each["_id"] for each in self._purchases.find({self._field: payment_intent}, {"_id": 1})]

    def mark_refunded(self, payment_intent: str) -> int:
        """Mark every completed purchase of a payment as refunded.

        :return: how many were.
        :raises DatabaseUnavailable: 500; some may have been.
        """
        return self._mark(payment_intent, COMPLETED, REFUNDED)

    def mark_completed(self, payment_intent: str) -> int:
        """Take every refunded purchase of a payment back to completed, because its refund failed after all.

        :return: how many were.
        :raises DatabaseUnavailable: 500; some may have been.
        """
        return self._mark(payment_intent, REFUNDED, COMPLETED)

    def _mark(self, payment_intent: str, before: str, after: str) -> int:
        with operation():
            result = self._purchases.update_many(
                {self._field: payment_intent, "status": before}, {"$set": {"status": after}}
            )
        return result.modified_count

    def _read(self, found: Mapping[str, Any]) -> Purchase:
        document = {key: value for key, value in found.items() if key != _SIBLINGS}
        payment_intent = _at(document, self._field)
        if not isinstance(payment_intent, str) or not is_payment_intent(payment_intent):
            # A placeholder may stand in many purchases that have nothing to do with each other.
            return Purchase(document, None, [document["_id"]])
        return Purchase(document, payment_intent, [each["_id"] for each in found[_SIBLINGS]])


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


PURCHASE_STATUSES = ("pending", "completed", "failed", "refunded")
