"""The host's users: the only documents that are read before the caller is known to be an admin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from .config import Settings
from .database import Collection, operation


class Users:
    """Finds the user whom a token names, and says whether he is an admin.

    :param collection: the host's users; not touched where the host brings its own loader.
    """

    def __init__(self, collection: Collection, settings: Settings) -> None:
        self._collection = collection
        self._key = settings.refunds_user_key
        self._load = settings.refunds_user_loader
        self._judge = settings.refunds_is_admin or _has_admin_role

    def find(self, identity: str, claims: Mapping[str, Any]) -> Any | None:
        """The user as the database has him now, or ``None``.

        :raises DatabaseUnavailable: 500.
        """
        if self._load is not None:
            return self._load(claims)
        # One read serves hosts that keep ids as ObjectIds and those that keep them as strings.
        values: list[Any] = [identity]
        if ObjectId.is_valid(identity):
            values.append(ObjectId(identity))
        with operation():
            return self._collection.find_one({self._key: {"$in": values}})

    def is_admin(self, user: Any) -> bool:
        """Whether the user is an admin. Only ``True`` itself counts: something merely truthy is refused."""
        return self._judge(user) is True


def _has_admin_role(user: Any) -> bool:
    role = user.get("role") if isinstance(user, Mapping) else None
    return isinstance(role, str) and role == "admin"
