"""What is known about references: the payments that charges and Checkout sessions belong to.

Entries are only added, because at Stripe these never change. So no payment is looked up twice.
"""

from __future__ import annotations

from collections.abc import Collection as AnyCollection
from collections.abc import Iterable
from contextlib import suppress

from pymongo.errors import DuplicateKeyError

from .connection import Collection, database_timeout


class References:
    """Remembers the payment of each reference, and the references to each payment.

    The payment of a charge without a payment intent is the charge itself.

    :param collection: with majority read and write concern, journaled.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def find(self, references: Iterable[str]) -> dict[str, str]:
        """Return the payments of those of these references that are known, by reference.

        :param references: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        query = {"_id": {"$in": list(references)}}
        with database_timeout():
            return {each["_id"]: each["payment"] for each in self._collection.find(query)}

    def of(self, payments: AnyCollection[str]) -> dict[str, list[str]]:
        """Return the known references to each of these payments, the payment itself first.

        :param payments: some hundreds at most.
        :raises DatabaseUnavailable: 500.
        """
        found = {each: [each] for each in payments}
        with database_timeout():
            for each in self._collection.find({"payment": {"$in": list(payments)}}).sort("_id", 1):
                if each["_id"] != each["payment"]:
                    found[each["payment"]].append(each["_id"])
        return found

    def around(self, reference: str) -> list[str]:
        """Return a reference's payment, if it is known, else the reference, and all references to it.

        :raises DatabaseUnavailable: 500.
        """
        payment = self.find([reference]).get(reference, reference)
        return self.of([payment])[payment]

    def add(self, payment: str, references: Iterable[str]) -> None:
        """Remember references to a payment.

        :param references: with the payment itself, if these and those known are all that there are.
        :raises DatabaseUnavailable: 500; some may be remembered.
        """
        for each in references:
            with suppress(DuplicateKeyError), database_timeout():
                self._collection.insert_one({"_id": each, "payment": payment})
