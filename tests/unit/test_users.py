"""Whom a token names, and whether he is an admin."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Mapping
from enum import Enum
from typing import Any

import mongomock
import pytest
from bson import ObjectId, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from flask_refunds import DatabaseUnavailable, NotAuthenticated
from flask_refunds.config import read_settings
from flask_refunds.identity.tokens import TokenVerifier
from flask_refunds.identity.users import Users
from tests.mount.keys import claims, forge
from tests.shop import JWT_SECRET, STRIPE_KEY

ID = "64b5f2c8e13e4a5b6c7d8e9f"


DATABASE = mongomock.MongoClient().shop
GOOD = {"JWT_SECRET_KEY": JWT_SECRET, "STRIPE_SECRET_KEY": STRIPE_KEY, "REFUNDS_MONGO": DATABASE}


def users(collection: Any = None, **config: Any) -> Users:
    return Users(DATABASE.users if collection is None else collection, read_settings(GOOD | config))


class Collection:
    """Keeps the filter that it is asked, as it would go over the wire."""

    def __init__(self, error: Exception | None = None) -> None:
        self.filters: list[Any] = []
        self._error = error

    def find_one(self, needed: Mapping[str, Any]) -> Any:
        encode(needed)
        self.filters.append(needed)
        if self._error:
            raise self._error
        return {"_id": 1}


# CheckResult


@pytest.mark.parametrize("stored", [ObjectId(ID), ID])
def test_ids_are_object_ids_or_strings(stored: Any) -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_many([{"_id": stored, "name": "Ann"}, {"_id": "somebody else"}])
    found = users(collection).find(ID, {})
    assert found is not None
    assert found["name"] == "Ann"


def test_nobody() -> None:
    assert users().find(ID, {}) is None


@pytest.mark.parametrize(
    ("user", "identity", "forms"),
    [
        ({"_id": ObjectId(ID)}, "ann@shop.example", [ObjectId(ID), ID]),
        ({"_id": ID}, "ann@shop.example", [ID, ObjectId(ID)]),
        ({"_id": 7}, "ann@shop.example", [7, "7"]),
        ({"name": "Ann"}, ID, [ID, ObjectId(ID)]),
        (object(), 7, [7, "7"]),
    ],
)
def test_how_other_documents_may_name_a_user(user: Any, identity: str | int, forms: list[Any]) -> None:
    """By his document's ``_id``, whatever his token names him by; by his token, where he has none."""
    assert users().ids(user, identity) == forms


@pytest.mark.parametrize(
    ("identity", "values"),
    [
        (ID, [ID, ObjectId(ID)]),
        ("ann@shop.example", ["ann@shop.example"]),
        ("5f 5f 5f 5f 5f 5f 5f 5f ", ["5f 5f 5f 5f 5f 5f 5f 5f "]),
        (" " * 24, [" " * 24]),
        ("abcdefghijkl", ["abcdefghijkl"]),
        ("$where", ["$where"]),
        ("nul\0", ["nul\0"]),
    ],
)
def test_what_the_database_is_asked(identity: str, values: list[Any]) -> None:
    collection = Collection()
    users(collection).find(identity, {})
    assert collection.filters == [{"_id": {"$in": values}}]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_an_identity_is_never_an_operator(identity: str) -> None:
    collection = Collection()
    users(collection).find(identity, {})
    values = collection.filters[0].pop("_id").pop("$in")
    assert collection.filters == [{}]
    assert all(type(value) in (str, ObjectId) and str(value).lower() == identity.lower() for value in values)


def known(identity: Any, collection: Any) -> bool:
    """Whether a token's identity, of whatever type, leads to a user."""
    checker = TokenVerifier(read_settings(GOOD | {"JWT_IDENTITY_CLAIM": "uid"}))
    token_claims = checker.verify(forge(claims("ann", uid=identity)))
    try:
        return users(collection).find(checker.identity(token_claims), token_claims) is not None
    except NotAuthenticated:
        return False


@pytest.mark.parametrize("identity", ["\ud800", 2**63, -(2**63) - 1, 10**100])
def test_an_identity_that_no_database_can_hold_is_nobody(identity: str | int) -> None:
    with pytest.raises(NotAuthenticated) as refusal:
        users(Collection()).find(identity, {})
    assert refusal.value.reason == "claims"
    assert not known(identity, Collection())


@pytest.mark.parametrize("identity", [2**63 - 1, -(2**63)])
def test_the_largest_whole_numbers_that_a_database_can_hold(identity: int) -> None:
    assert known(identity, Collection())


@pytest.mark.parametrize("stored", [42, "42"])
def test_ids_may_be_whole_numbers(stored: Any) -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_one({"_id": stored})
    assert known(42, collection)
    assert not known(43, collection)


def test_another_key() -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_one({"_id": 1, "login": {"email": "ann@shop.example"}})
    found = users(collection, REFUNDS_USER_FIELDS={"id": "login.email"}).find("ann@shop.example", {})
    assert found is not None
    assert found["_id"] == 1


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("gone"),
        NetworkTimeout("slow"),
        ServerSelectionTimeoutError("nobody"),
        OperationFailure("not authorised"),
    ],
)
def test_the_database_is_away(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        users(Collection(error)).find(ID, {})
    assert caught.value.__cause__ is error


# The host's own loader


def test_a_loader_is_given_the_claims_and_the_database_is_left_alone() -> None:
    collection, given_claims = Collection(), {"sub": ID, "scope": "all"}
    seen: list[Any] = []
    loader = lambda claims: seen.append(claims) or "Ann"  # type: ignore[func-returns-value]  # noqa: E731
    assert users(collection, REFUNDS_USER_LOADER=loader).find(ID, given_claims) == "Ann"
    assert seen == [given_claims]
    assert collection.filters == []


def test_a_loader_that_finds_nobody() -> None:
    assert users(REFUNDS_USER_LOADER=lambda claims: None).find(ID, {}) is None


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_loader_that_returns_a_promise_finds_nobody() -> None:
    async def later() -> str:
        return "Ann"

    words = "^the user must be awaited; REFUNDS_USER_LOADER and REFUNDS_MONGO cannot be async$"
    with pytest.raises(TypeError, match=words):
        users(REFUNDS_USER_LOADER=lambda claims: later()).find(ID, {})


def test_a_loader_that_fails() -> None:
    def loader(claims: Any) -> Any:
        raise LookupError("the directory is away")

    with pytest.raises(LookupError):
        users(REFUNDS_USER_LOADER=loader).find(ID, {})


# Admins


class Role(str, Enum):
    ADMIN = "admin"


class Truthy:
    """Says yes to everything, and is equal to everything."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "user",
    [{"role": "admin"}, {"role": Role.ADMIN}, OrderedDict(role="admin"), UserDict(role="admin")],
)
def test_admins(user: Any) -> None:
    assert users().is_admin(user)


NO_ADMIN_ROLES = [
    None,
    "",
    "user",
    "ADMIN",
    "Admin",
    " admin",
    "admin ",
    "admin\0",
    "admins",
    "аdmin",  # noqa: RUF001
    b"admin",
    True,
    1,
    ["admin"],
    ("admin",),
    {"admin"},
    {"admin": True},
    {"$eq": "admin"},
    Truthy(),
]


@pytest.mark.parametrize("role", NO_ADMIN_ROLES)
def test_roles_that_are_no_admin(role: Any) -> None:
    assert not users().is_admin({"role": role})


@pytest.mark.parametrize(
    "user", [{}, {"roles": "admin"}, {"isAdmin": True}, "admin", ["role", "admin"], None, Truthy()]
)
def test_users_that_are_no_admin(user: Any) -> None:
    assert not users().is_admin(user)


@pytest.mark.parametrize(
    "verdict", [1, "yes", "True", [1], {"admin": True}, Truthy(), object(), None, False, 0, ""]
)
def test_only_true_itself_counts(verdict: Any) -> None:
    assert not users(REFUNDS_IS_ADMIN=lambda user: verdict).is_admin({"role": "admin"})


def test_the_host_decides() -> None:
    judge = users(REFUNDS_IS_ADMIN=lambda user: user["rank"] > 3)
    assert judge.is_admin({"rank": 4})
    assert not judge.is_admin({"rank": 3, "role": "admin"})


def test_a_host_that_cannot_decide() -> None:
    with pytest.raises(KeyError):
        users(REFUNDS_IS_ADMIN=lambda user: user["rank"] > 3).is_admin({"role": "admin"})
