"""Load the app's users, and decide which of them are admins."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isawaitable
from typing import Any

from ..config import Settings
from ..config.reader import is_proxy
from ..errors import NotAuthenticated
from ..models import id_text, is_storable
from ..purchase_fields import read_field
from ..storage.connection import Collection, database_timeout
from ..storage.stored_ids import stored_ids

_FLAGS = ("is_authenticated", "is_active", "active")
"""What a user of Flask-Login, of Flask-Security or of the app may have. A user without access has another
value than ``True`` in one of them."""


class Users:
    """Loads the user that a token or a session identifies, and tells whether that user is an admin.

    :param collection: the app's users; not read if ``REFUNDS_USER_LOADER`` is set.
    """

    def __init__(self, collection: Collection, settings: Settings) -> None:
        self._collection = collection
        self._id_field = settings.user_id_field
        self._shown_fields = {name: settings.refunds_user_fields[name] for name in ("name", "email")}
        self._load = settings.refunds_user_loader
        self._current = settings.refunds_current_user
        self._is_admin = settings.refunds_is_admin or _has_admin_role

    def find(self, identity: str | int, claims: Mapping[str, Any]) -> Any | None:
        """Return the current user document, or ``None``.

        :raises NotAuthenticated: 401; MongoDB can't store such an ID, or it identifies two users.
        :raises DatabaseUnavailable: 500.
        """
        user = self._find(identity) if self._load is None else self._load(claims)
        if isawaitable(user):
            # A coroutine is truthy, so it would count as a user.
            raise TypeError(
                "REFUNDS_USER_LOADER or REFUNDS_MONGO returned an awaitable user; both must be synchronous"
            )
        return user or None  # a loader may return False for an unknown user

    def current(self) -> tuple[str, Any] | None:
        """Return the user that ``REFUNDS_CURRENT_USER`` names and the user's ID, or ``None``."""
        user = self._current if is_proxy(self._current) else self._current()
        while is_proxy(user):
            user = user._get_current_object()
        if not user or any(_read(user, flag, True) is not True for flag in _FLAGS):
            return None
        return _identity(user), user

    def _find(self, identity: str | int) -> Any | None:
        query = {self._id_field: {"$in": self._stored_forms(identity)}}
        with database_timeout():
            found = list(self._collection.find(query).limit(2))
        if len(found) > 1:
            raise NotAuthenticated(reason="user_ambiguous")
        return found[0] if found else None

    def _stored_forms(self, identity: str | int) -> list[Any]:
        too_large = isinstance(identity, int) and not -(2**63) <= identity < 2**63
        if too_large or not is_storable(str(identity)):
            raise NotAuthenticated(reason="claims")
        return stored_ids(identity, self._collection)

    def possible_ids(self, user: Any, identity: str | int) -> list[Any]:
        """Return the forms in which the app's other documents may refer to a user.

        :param user: its ``_id`` counts, if it is a document that has one.
        :param identity: the ID from the token, for other users.
        """
        stored = user.get("_id") if isinstance(user, Mapping) else None
        return stored_ids(identity if stored is None else stored, self._collection)

    def describe(self, user: Any) -> dict[str, str | None]:
        """Return the name and the e-mail address of a user, where they are text."""
        read = {
            name: read_field(user, path) if isinstance(user, Mapping) else getattr(user, path, None)
            for name, path in self._shown_fields.items()
        }
        return {name: value if isinstance(value, str) else None for name, value in read.items()}

    def is_admin(self, user: Any) -> bool:
        """Return whether the user is an admin. Any value except ``True`` denies access."""
        return self._is_admin(user) is True


def _read(user: Any, name: str, default: Any = None) -> Any:
    """Return a field of a document, or an attribute of an object or of a document's class."""
    if isinstance(user, Mapping) and name in user:
        return user[name]
    return getattr(user, name, default)


def _identity(user: Any) -> str:
    """Return the ID of a user by which the ledger and the app's documents name them.

    ``get_id()`` is last: Flask-Security's ID for sessions changes with the password.
    """
    value = _read(user, "_id")
    if value is None:
        value = _read(user, "id")
    if value is None and hasattr(user, "get_id"):
        value = user.get_id()
    text = "" if value is None else id_text(value)
    if not text or not is_storable(text):
        raise TypeError("REFUNDS_CURRENT_USER must return a user with an _id, an id or a get_id()")
    return text


def _has_admin_role(user: Any) -> bool:
    role = _read(user, "role")
    return isinstance(role, str) and role == "admin"
