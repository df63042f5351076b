"""Find the app's users: by ID or e-mail address, and their names."""

from __future__ import annotations

import re
from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence
from typing import Any

import pymongo.collection
from pymongo.errors import OperationFailure

from ..errors import DatabaseUnavailable
from ..models import id_text, is_storable
from ..purchase_fields import read_field
from .connection import REPORT_SECONDS, Collection, database_timeout
from .stored_ids import stored_ids

IGNORING_CASE: Mapping[str, Any] = {
    "locale": "en",
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 2,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}
"""The collation of searches by e-mail address, complete, so that an index's can be compared with it."""

_MAX_USERS = 100
_OTHER_COLLATION_OF_A_VIEW = 167


class Customers:
    """Finds users in the app's collection.

    :param fields: the paths of a user's name and e-mail address.
    :param id_fields: the paths of the IDs that may name a user in the ledger.
    """

    def __init__(self, users: Collection, fields: Mapping[str, str], id_fields: AnyCollection[str]) -> None:
        self._users = users
        self._name, self._email = fields["name"], fields["email"]
        self._id_fields = id_fields
        self._is_server = isinstance(users, pymongo.collection.Collection)

    def ids_named(self, name: str) -> list[Any]:
        """Return the forms in which purchases may refer to the users with an ID or e-mail address.

        Case doesn't matter in an address. Of users with the same address, 100 count.

        :raises DatabaseUnavailable: 500.
        """
        forms = stored_ids(name, self._users)
        for user in self._find_by_email(name) if "@" in name else ():
            forms += stored_ids(user["_id"], self._users)
        return forms

    def _find_by_email(self, address: str) -> Sequence[Mapping[str, Any]]:
        if self._is_server:
            try:
                return self._find({self._email: address}, dict(IGNORING_CASE))
            except DatabaseUnavailable as error:
                cause = error.__cause__
                if not isinstance(cause, OperationFailure) or cause.code != _OTHER_COLLATION_OF_A_VIEW:
                    raise
        # A view has its own collation, and mongomock has none.
        pattern = {"$regex": f"^{re.escape(address)}$", "$options": "i"}
        return self._find({self._email: pattern})

    def _find(
        self, query: Mapping[str, Any], collation: dict[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        with database_timeout(REPORT_SECONDS):
            return list(self._users.find(query, {"_id": 1}, collation=collation).limit(_MAX_USERS))

    def names_of(self, identities: AnyCollection[str]) -> dict[str, str]:
        """Return the names of users, or else their e-mail addresses, by the IDs that the ledger has.

        :param identities: those without a user, or whose user has neither, are left out.
        :raises DatabaseUnavailable: 500.
        """
        forms = [form for each in identities if is_storable(each) for form in stored_ids(each, self._users)]
        if not forms:
            return {}
        shown = dict.fromkeys([*self._id_fields, self._name, self._email], 1)
        query = {"$or": [{path: {"$in": forms}} for path in self._id_fields]}
        names: dict[str, str] = {}
        with database_timeout(REPORT_SECONDS):
            for user in self._users.find(query, shown):
                name = _text_of(user, self._name) or _text_of(user, self._email)
                ids = {id_text(read_field(user, path)) for path in self._id_fields}
                names |= dict.fromkeys(ids.intersection(identities), name) if name else {}
        return names


def _text_of(document: Mapping[str, Any], path: str) -> str | None:
    value = read_field(document, path)
    return value if isinstance(value, str) and value.strip() else None
