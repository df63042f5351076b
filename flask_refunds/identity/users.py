"""The host's users: the only documents that are read before the caller is known to be an admin."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isawaitable
from typing import Any

from ..config import Settings
from ..errors import NotAuthenticated
from ..storage.connection import Collection, database_timeout, stored_ids


class Users:
    """Finds the user whom a token names, and says whether he is an admin.

    :param collection: the host's users; not touched where the host brings its own loader.
    """

    def __init__(self, collection: Collection, settings: Settings) -> None:
        self._collection = collection
        self._key = settings.user_id_field
        self._load = settings.refunds_user_loader
        self._judge = settings.refunds_is_admin or _has_admin_role

    def find(self, identity: str | int, claims: Mapping[str, Any]) -> Any | None:
        """The user as the database has him now, or ``None``.

        :raises NotAuthenticated: 401; no database can hold such an id.
        :raises DatabaseUnavailable: 500.
        """
        user = self._find(identity) if self._load is None else self._load(claims)
        if isawaitable(user):
            # It would be taken for a user, whatever it came to.
            raise TypeError("the user must be awaited; REFUNDS_USER_LOADER and REFUNDS_MONGO cannot be async")
        # Whatever is false means nobody: a loader's no must not let anyone in.
        return user or None

    def _find(self, identity: str | int) -> Any | None:
        with database_timeout():
            return self._collection.find_one({self._key: {"$in": _stored_forms(identity)}})

    def ids(self, user: Any, identity: str | int) -> list[Any]:
        """The forms in which the host's other documents may name a user: by his ``_id``, where he has one.

        :param identity: the id in his token, for a user who is no document.
        """
        stored = user.get("_id") if isinstance(user, Mapping) else None
        return stored_ids(identity if stored is None else stored)

    def is_admin(self, user: Any) -> bool:
        """Whether the user is an admin. Only ``True`` itself counts: something merely truthy is refused."""
        return self._judge(user) is True


def _stored_forms(identity: str | int) -> list[Any]:
    """What the id may be in the database."""
    if isinstance(identity, int) and not -(2**63) <= identity < 2**63:
        raise NotAuthenticated(reason="claims")
    try:
        str(identity).encode("utf-8")
    except UnicodeEncodeError:
        raise NotAuthenticated(
            reason="claims"
        ) from None  # JSON can spell half of a surrogate pair, BSON cannot
    return stored_ids(identity)


def _has_admin_role(user: Any) -> bool:
    role = user.get("role") if isinstance(user, Mapping) else None
    return isinstance(role, str) and role == "admin"
