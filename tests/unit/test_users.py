"""Users: how a token's identity finds one, and who is an admin."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Mapping
from enum import Enum
from typing import Any
from uuid import UUID

import mongomock
import pytest
from bson import Binary, CodecOptions, ObjectId, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ServerSelectionTimeoutError

from flask_refunds import DatabaseUnavailable, NotAuthenticated
from flask_refunds.config import read_settings, read_token_settings
from flask_refunds.identity.tokens import TokenVerifier
from flask_refunds.identity.users import Users
from tests.mount.keys import claims, forge
from tests.shop import JWT_SECRET, STRIPE_KEY

ID = "64b5f2c8e13e4a5b6c7d8e9f"
UUID_4 = UUID("0b9ad7c1-6d2e-4f57-9e3a-5d1c8f7a2b60")
UUIDS = {order: Binary.from_uuid(UUID_4, order) for order in (3, 4, 5, 6)}


DATABASE = mongomock.MongoClient().shop
GOOD = {"JWT_SECRET_KEY": JWT_SECRET, "STRIPE_SECRET_KEY": STRIPE_KEY, "REFUNDS_MONGO": DATABASE}


def users(collection: Any = None, **config: Any) -> Users:
    return Users(DATABASE.users if collection is None else collection, read_settings(GOOD | config))


class Collection:
    """Records the filters that it is queried with, after encoding them as BSON."""

    codec_options = CodecOptions[Any]()

    def __init__(self, error: Exception | None = None) -> None:
        self.filters: list[Any] = []
        self._error = error

    def find(self, query: Mapping[str, Any]) -> Any:
        encode(query)
        self.filters.append(query)
        if self._error:
            raise self._error
        return self

    def limit(self, limit: int) -> Any:
        return [{"_id": 1}]


# Finding a user


@pytest.mark.parametrize("stored", [ObjectId(ID), ID])
def test_user_is_found_by_object_id_or_text_id(stored: Any) -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_many([{"_id": stored, "name": "Ann"}, {"_id": "another user"}])
    found = users(collection).find(ID, {})
    assert found is not None
    assert found["name"] == "Ann"


@pytest.mark.parametrize(
    ("stored", "identity", "field"),
    [
        ([{"_id": ObjectId(ID)}, {"_id": ID, "role": "admin"}], ID, "_id"),
        ([{"_id": 42, "role": "admin"}, {"_id": "42"}], 42, "_id"),
        ([{"login": "ann", "role": "admin"}, {"login": "ann"}, {"login": "ann"}], "ann", "login"),
    ],
)
def test_identity_of_two_users_is_not_authenticated(
    stored: list[Any], identity: str | int, field: str
) -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_many(stored)
    with pytest.raises(NotAuthenticated) as caught:
        users(collection, REFUNDS_USER_FIELDS={"id": field}).find(identity, {})
    assert caught.value.reason == "user_ambiguous"


def test_unknown_user_is_none() -> None:
    assert users().find(ID, {}) is None


@pytest.mark.parametrize(
    ("user", "identity", "forms"),
    [
        ({"_id": ObjectId(ID)}, "ann@shop.example", [ObjectId(ID), ID]),
        ({"_id": ID}, "ann@shop.example", [ID, ObjectId(ID)]),
        ({"_id": 7}, "ann@shop.example", [7, "7"]),
        ({"_id": "7"}, "ann@shop.example", ["7", 7]),
        ({"_id": UUID_4}, "ann@shop.example", [UUIDS[4], str(UUID_4), UUIDS[3], UUIDS[5], UUIDS[6]]),
        ({"_id": UUIDS[3]}, "ann@shop.example", [UUIDS[3], str(UUID_4), UUIDS[4], UUIDS[5], UUIDS[6]]),
        ({"name": "Ann"}, ID, [ID, ObjectId(ID)]),
        (object(), 7, [7, "7"]),
    ],
)
def test_possible_ids_prefer_the_documents_id(user: Any, identity: str | int, forms: list[Any]) -> None:
    """A user without an ``_id`` has the token's identity."""
    assert users().possible_ids(user, identity) == forms


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
        ("0", ["0", 0]),
        ("-3", ["-3", -3]),
        ("007", ["007"]),
        ("-0", ["-0"]),
        ("9223372036854775807", ["9223372036854775807", 2**63 - 1]),
        ("9223372036854775808", ["9223372036854775808"]),
        ("1e3", ["1e3"]),
        ("\u0663", ["\u0663"]),
        (str(UUID_4), [str(UUID_4), *UUIDS.values()]),
        (str(UUID_4).upper(), [str(UUID_4).upper()]),
        ("users", ["users"]),
        ("{'$ne': None}", ["{'$ne': None}"]),
        ('{"$ne": null}', ['{"$ne": null}']),
        ("' || 1 == 1", ["' || 1 == 1"]),
        (".*", [".*"]),
    ],
)
def test_identity_is_queried_as_every_id_that_is_shown_like_it(identity: str, values: list[Any]) -> None:
    collection = Collection()
    users(collection).find(identity, {})
    assert collection.filters == [{"_id": {"$in": values}}]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_identity_is_queried_as_a_value_only(identity: str) -> None:
    collection = Collection()
    users(collection).find(identity, {})
    values = collection.filters[0].pop("_id").pop("$in")
    assert collection.filters == [{}]
    assert all(type(value) in (str, int, ObjectId) for value in values)
    assert all(str(value).lower() == identity.lower() for value in values)


def known(identity: Any, collection: Any) -> bool:
    """Return whether a token with this identity finds a user."""
    verifier = TokenVerifier(read_token_settings(GOOD | {"JWT_IDENTITY_CLAIM": "uid"}))
    token_claims = verifier.verify(forge(claims("ann", uid=identity)))
    try:
        return users(collection).find(verifier.identity(token_claims), token_claims) is not None
    except NotAuthenticated:
        return False


@pytest.mark.parametrize("identity", ["\ud800", 2**63, -(2**63) - 1, 10**100])
def test_identity_that_bson_cannot_store_is_not_authenticated(identity: str | int) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        users(Collection()).find(identity, {})
    assert caught.value.reason == "claims"
    assert not known(identity, Collection())


@pytest.mark.parametrize("identity", [2**63 - 1, -(2**63)])
def test_64_bit_integer_identity_is_found(identity: int) -> None:
    assert known(identity, Collection())


@pytest.mark.parametrize("stored", [42, "42"])
def test_integer_identity_finds_integer_or_text_id(stored: Any) -> None:
    collection = mongomock.MongoClient().shop.users
    collection.insert_one({"_id": stored})
    assert known(42, collection)
    assert not known(43, collection)


def test_user_is_found_by_the_configured_id_field() -> None:
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
        ServerSelectionTimeoutError("no server"),
        OperationFailure("not authorised"),
    ],
)
def test_database_error_is_database_unavailable(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        users(Collection(error)).find(ID, {})
    assert caught.value.__cause__ is error


# REFUNDS_USER_LOADER


def test_loader_gets_the_claims_and_replaces_the_query() -> None:
    collection, given_claims = Collection(), {"sub": ID, "scope": "all"}
    seen: list[Any] = []
    loader = lambda claims: seen.append(claims) or "Ann"  # type: ignore[func-returns-value]  # noqa: E731
    assert users(collection, REFUNDS_USER_LOADER=loader).find(ID, given_claims) == "Ann"
    assert seen == [given_claims]
    assert collection.filters == []


@pytest.mark.parametrize("user", [None, False, 0, "", ()])
def test_falsy_value_of_loader_finds_nothing(user: Any) -> None:
    assert users(REFUNDS_USER_LOADER=lambda claims: user).find(ID, {}) is None


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_loader_that_returns_a_coroutine_raises_type_error() -> None:
    async def load() -> str:
        return "Ann"

    with pytest.raises(TypeError, match=r"^REFUNDS_USER_LOADER .* returned an awaitable user; "):
        users(REFUNDS_USER_LOADER=lambda claims: load()).find(ID, {})


def test_exception_of_loader_propagates() -> None:
    def loader(claims: Any) -> Any:
        raise LookupError("the directory is unavailable")

    with pytest.raises(LookupError):
        users(REFUNDS_USER_LOADER=loader).find(ID, {})


# Admins


class Role(str, Enum):
    ADMIN = "admin"


class Truthy:
    """Is truthy, and equal to everything."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "user",
    [{"role": "admin"}, {"role": Role.ADMIN}, OrderedDict(role="admin"), UserDict(role="admin")],
)
def test_admin_role_is_an_admin(user: Any) -> None:
    assert users().is_admin(user)


OTHER_ROLES = [
    None,
    "",
    "user",
    "ADMIN",
    "Admin",
    " admin",
    "admin ",
    "admin\0",
    "admins",
    "superadmin",
    "administrator",
    "аdmin",  # noqa: RUF001
    b"admin",
    True,
    1,
    ["admin"],
    ("admin",),
    {"admin"},
    {"admin": True},
    {"$eq": "admin"},
    {"role": "admin"},
    Truthy(),
]


@pytest.mark.parametrize("role", OTHER_ROLES)
def test_other_role_is_not_an_admin(role: Any) -> None:
    assert not users().is_admin({"role": role})


@pytest.mark.parametrize(
    "user", [{}, {"roles": "admin"}, {"isAdmin": True}, "admin", ["role", "admin"], None, Truthy()]
)
def test_user_without_admin_role_is_not_an_admin(user: Any) -> None:
    assert not users().is_admin(user)


@pytest.mark.parametrize(
    "result", [1, "yes", "True", [1], {"admin": True}, Truthy(), object(), None, False, 0, ""]
)
def test_is_admin_result_other_than_true_denies(result: Any) -> None:
    assert not users(REFUNDS_IS_ADMIN=lambda user: result).is_admin({"role": "admin"})


def test_is_admin_setting_replaces_the_role() -> None:
    members = users(REFUNDS_IS_ADMIN=lambda user: user["rank"] > 3)
    assert members.is_admin({"rank": 4})
    assert not members.is_admin({"rank": 3, "role": "admin"})


def test_exception_of_is_admin_propagates() -> None:
    with pytest.raises(KeyError):
        users(REFUNDS_IS_ADMIN=lambda user: user["rank"] > 3).is_admin({"role": "admin"})
