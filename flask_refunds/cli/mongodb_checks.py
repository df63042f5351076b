"""Check what refunds depend on in MongoDB. Nothing is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import CodecOptions, ObjectId
from pymongo.errors import DuplicateKeyError, OperationFailure

from ..clock import now
from ..config import Settings
from ..core.sweep import FULL_SWEEP_OVERDUE
from ..errors import DatabaseUnavailable
from ..models import id_text
from ..purchase_fields import PurchaseFields, includes_word
from ..storage.connection import (
    REPORT_SECONDS,
    Collection,
    Database,
    database_timeout,
    is_server,
    majority_collection,
)
from ..storage.indexes import State, inspect_indexes, required_indexes
from ..storage.sweep_state import SweepState
from .check_result import CheckResult, fail, note, ok
from .errors import mongodb_reason

OLDEST_MONGODB = 6
_OLDEST_WIRE_VERSION = 17
"""The wire version of that release."""
_NOT_IN_STABLE_API = 323
CLOCK_SECONDS = 5
"""How far MongoDB's clock may differ from this machine's."""
_MAJORITY_LAG = timedelta(seconds=10)
_SAMPLE = 1000
"""How many purchases the validator is tried on."""
_SAMPLE_IDS = 100
_SHOWN_INDEXES = 3
"""How many missing indexes are named. ``init-db`` names all."""
_RECORD_ID = re.compile(r"(pi|ch|py)_[0-9A-Za-z_]+:[0-9A-Za-z_]+")
_OTHER_IDS = [
    {"$not": {"$gte": ""}},
    {"$gte": "", "$lt": "ch_"},
    {"$gte": "ch`", "$lt": "pi_"},
    {"$gte": "py`"},
]
"""Which IDs aren't those of refund records, as ranges of the index. ` is the character after _."""


def check_mongodb(settings: Settings, database: Any, clock: Callable[[], datetime]) -> Iterator[CheckResult]:
    """Run one check of MongoDB after the other.

    :param clock: returns this machine's aware UTC time.
    """
    if not is_server(database):
        yield note("MongoDB", f"{type(database).__module__} replaces it, for demos and tests only.")
        return
    try:
        with database_timeout():
            hello = database.command("hello", codec_options=CodecOptions(tz_aware=True))
            ahead = clock() - hello["localTime"]
            version = _version(database, hello)
    except DatabaseUnavailable as error:
        yield fail("MongoDB", mongodb_reason(error))
        return
    yield version
    yield _topology(hello, livemode=settings.livemode)
    if "lastWrite" in hello:
        yield _majority(hello["lastWrite"])
    yield _clock(ahead)
    for name, (find_problems, message) in _CHECKS.items():
        try:
            with database_timeout(REPORT_SECONDS):
                problems = list(find_problems(settings, database))
        except (DatabaseUnavailable, DuplicateKeyError) as error:
            if _is_beyond_stable_api(error.__cause__):
                yield note(name, "Can't be checked: the client's Stable API is strict and doesn't offer it.")
                continue
            problems = [mongodb_reason(error)]
        yield fail(name, " ".join(problems)) if problems else ok(name, message)
    try:
        with database_timeout(REPORT_SECONDS):
            yield _counts(settings, database)
    except DatabaseUnavailable as error:
        yield fail("counts", mongodb_reason(error))


def _version(database: Database, hello: Mapping[str, Any]) -> CheckResult:
    try:
        version = f"The version is {database.command('buildInfo')['version']}."
    except OperationFailure as error:
        if not _is_beyond_stable_api(error):
            raise
        version = "The client's Stable API is strict, and doesn't tell the version."
    if hello["maxWireVersion"] < _OLDEST_WIRE_VERSION:
        return fail("MongoDB", f"{version} Upgrade to {OLDEST_MONGODB} or later.")
    return ok("MongoDB", version)


def _is_beyond_stable_api(error: BaseException | None) -> bool:
    return isinstance(error, OperationFailure) and error.code == _NOT_IN_STABLE_API


def _topology(hello: Mapping[str, Any], *, livemode: bool) -> CheckResult:
    if hello.get("msg") == "isdbgrid":
        return ok("replica set", "This is a sharded cluster.")
    if "setName" in hello:
        members = len(hello.get("hosts", ()))
        return ok("replica set", f"{hello['setName']}, members with data: {members}.")
    message = (
        "This is a standalone server: acknowledged writes are on its disk only, and no other server takes "
        "over if it stops. Use a replica set of three."
    )
    return fail("replica set", message) if livemode else note("replica set", message)


def _majority(last: Mapping[str, Any]) -> CheckResult:
    """Check whether a majority acknowledges writes. A primary answers even if the others lag or are down."""
    written, acknowledged = last.get("lastWriteDate"), last.get("majorityWriteDate")
    if written is None or acknowledged is None or written - acknowledged <= _MAJORITY_LAG:
        return ok("majority", "A majority acknowledges writes.")
    seconds = round((written - acknowledged).total_seconds())
    return fail(
        "majority",
        f"The majority is {seconds} s behind the primary, so no refund can start. Restore the other members.",
    )


def _clock(ahead: timedelta) -> CheckResult:
    seconds = ahead.total_seconds()
    if abs(seconds) <= CLOCK_SECONDS:
        return ok("server time", f"MongoDB's clock is within {CLOCK_SECONDS} seconds of this machine's.")
    direction = "behind" if seconds > 0 else "ahead of"
    return fail(
        "server time",
        f"MongoDB's clock is {abs(seconds):.0f} s {direction} this machine's. Synchronize both with NTP: "
        "leases and ages of refunds follow MongoDB's.",
    )


def _missing_privileges(settings: Settings, database: Database) -> Iterator[str]:
    status = database.command("connectionStatus", showPrivileges=True)["authInfo"]
    if not status["authenticatedUsers"]:
        return  # this server has no access control
    ledger, users = settings.refunds_collection, settings.refunds_users_collection
    required = {
        "": ["listCollections"],
        settings.refunds_purchases_collection: ["find", "update", "listIndexes"],
        ledger: ["find", "insert", "update", "listIndexes"],
        f"{ledger}.state": ["find", "insert", "update"],
        f"{ledger}.rate": ["find", "insert", "update"],
        f"{ledger}.days": ["find", "insert", "update", "remove"],
        f"{ledger}.references": ["find", "insert", "listIndexes"],
        users: ["find", "listIndexes"],
        settings.refunds_contents_collection: ["find"],
    }
    for collection, actions in required.items():
        granted = {
            action
            for each in status["authenticatedUserPrivileges"]
            if _includes(each["resource"], database.name, collection)
            for action in each["actions"]
        }
        missing = ", ".join(each for each in actions if each not in granted)
        if missing:
            name = f"{database.name}.{collection}".rstrip(".")
            yield f"The MongoDB user lacks {missing} on {name}. Grant it, or the role readWrite."


def _includes(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    """Return whether a privilege's resource includes a collection; "" includes every one."""
    return resource.get("anyResource", False) or (
        resource.get("db") in ("", database) and resource.get("collection") in ("", collection)
    )


def _wrong_collections(settings: Settings, database: Database) -> Iterator[str]:
    keys = {
        settings.refunds_purchases_collection: "REFUNDS_PURCHASES_COLLECTION",
        settings.refunds_collection: "REFUNDS_COLLECTION",
    }
    for each in database.list_collections(filter={"name": {"$in": list(keys)}}):
        if each["type"] != "collection":
            name = f"{database.name}.{each['name']}"
            key = keys[each["name"]]
            yield f"{name} is a {each['type']}, so it can't be updated. Set {key} to a collection."
    ledger = majority_collection(database, settings.refunds_collection)
    shown = {"_id": 1}
    found = [
        *ledger.find({"$or": [{"_id": each} for each in _OTHER_IDS]}, shown).limit(1),
        *ledger.find({}, shown).sort("_id", 1).limit(_SAMPLE_IDS),
    ]
    foreign = [it for each in found if not _RECORD_ID.fullmatch(it := id_text(each["_id"]))]
    if foreign:
        yield (
            f"{database.name}.{ledger.name} has documents of your app, such as {foreign[0][:60]}. "
            "Set REFUNDS_COLLECTION to a name that your app doesn't use."
        )


def _rejected_updates(settings: Settings, database: Database) -> Iterator[str]:
    """Find what would reject the status ``refunded``: a unique index, a validator, or anything else."""
    purchases, fields = _purchases(settings, database), settings.purchase_fields
    name, word = f"{database.name}.{purchases.name}", fields.refunded_word
    for index in purchases.list_indexes():
        if _can_reject(index, fields):
            yield (
                f"The unique index {index['name']} of {name} can reject the status {word}. "
                "Exclude refunded purchases with a partialFilterExpression."
            )
    for each in database.list_collections(filter={"name": purchases.name}):
        rejected = _rejected_by_validator(purchases, fields, each.get("options", {}))
        if rejected is not None:
            yield (
                f"The validator of {name} rejects the status {word}, for example of {rejected}. "
                "Change the validator, or the purchase."
            )
            return
    _try_update(purchases, fields)


def _purchases(settings: Settings, database: Database) -> Collection:
    return majority_collection(database, settings.refunds_purchases_collection)


def _paid(fields: PurchaseFields) -> dict[str, Any]:
    return {fields.payment: {"$regex": "^(pi|ch|py|cs)_"}}


def _can_reject(index: Mapping[str, Any], fields: PurchaseFields) -> bool:
    """Return whether an index can reject a purchase that changes from completed to refunded."""
    keys, condition = index["key"], index.get("partialFilterExpression", {})
    if not index.get("unique") or keys.keys() & {"_id", fields.payment}:
        return False
    expected = condition.get(fields.status)
    if not _admits(expected, fields.refunded_word):
        return False
    return fields.status in keys or not all(_admits(expected, each) for each in fields.completed_words)


def _admits(expected: Any, status: Any) -> bool:
    """Return whether an index's condition on the status, or ``None``, includes purchases with a status."""
    if isinstance(expected, Mapping):
        expected = expected.get("$eq", expected.get("$in"))
    words = expected if isinstance(expected, list) else [expected]
    return expected is None or includes_word(words, status)


def _rejected_by_validator(
    purchases: Collection, fields: PurchaseFields, options: Mapping[str, Any]
) -> str | None:
    """Return the ID of a purchase whose refund the collection's validator would reject, or ``None``."""
    validator, level = options.get("validator"), options.get("validationLevel")
    if not validator or level == "off" or options.get("validationAction") == "warn":
        return None
    stages: list[dict[str, Any]] = [
        {"$match": {**fields.is_completed, **_paid(fields)}},
        {"$sort": {"_id": -1}},
        {"$limit": _SAMPLE},
        {"$match": validator if level == "moderate" else {}},  # it ignores documents that are invalid already
        {"$set": {fields.status: {"$literal": fields.refunded_word}}},
        {"$match": {"$nor": [validator]}},
        {"$limit": 1},
    ]
    return next((id_text(each["_id"]) for each in purchases.aggregate(stages)), None)


def _try_update(purchases: Collection, fields: PurchaseFields) -> None:
    """Mark the newest purchase in a transaction and abort it; on a standalone, update nothing."""
    client, change = purchases.database.client, {"$set": {fields.status: fields.refunded_word}}
    hello = client.admin.command("hello")
    completed = {**fields.is_completed, **_paid(fields)}
    newest = purchases.find_one(completed, {"_id": 1}, sort=[("_id", -1)])
    if newest is None or ("setName" not in hello and hello.get("msg") != "isdbgrid"):
        purchases.update_one({"_id": ObjectId()}, change)
        return
    with client.start_session() as session, session.start_transaction():
        purchases.update_one({"_id": newest["_id"]}, change, session=session)
        session.abort_transaction()


def _counts(settings: Settings, database: Database) -> CheckResult:
    """Compare the refunded purchases with the ledger: they differ after one of them was restored."""
    purchases, fields = _purchases(settings, database), settings.purchase_fields
    refunded = purchases.count_documents({**fields.is_refunded, **_paid(fields)})
    marks = {"$size": {"$ifNull": ["$marks", []]}}
    stages: list[Any] = [
        {"$match": {"status": "succeeded"}},
        {"$group": {"_id": None, "count": {"$sum": marks}}},
    ]
    ledger = majority_collection(database, settings.refunds_collection)
    recorded = sum(each["count"] for each in ledger.aggregate(stages))
    message = f"Refunded purchases: {refunded}. Marked by refunds of the ledger: {recorded}."
    if recorded == refunded:
        return ok("counts", message)
    return note(
        "counts",
        f"{message} They differ if your app marks or deletes purchases itself, and after a restore from a "
        "backup. After a restore, run flask refunds reconcile --all --since with the day of the backup.",
    )


def _missing_indexes(settings: Settings, database: Database) -> Iterator[str]:
    missing = [
        f"{each.index} ({each.index.purpose})"
        for each in inspect_indexes(database, required_indexes(settings))
        if each.state in (State.MISSING, State.NAME_CONFLICT)
    ]
    if missing:
        more = [f"{len(missing) - _SHOWN_INDEXES} more"] if len(missing) > _SHOWN_INDEXES else []
        yield f"Missing: {'; '.join(missing[:_SHOWN_INDEXES] + more)}. Run flask refunds init-db."


def _overdue_sweep(settings: Settings, database: Database) -> Iterator[str]:
    state = majority_collection(database, f"{settings.refunds_collection}.state")
    last = SweepState(state, now).find_last_full()
    if last is not None and now() - last > FULL_SWEEP_OVERDUE:
        yield (
            f"Reconcile hasn't listed all of Stripe's refunds since {last:%Y-%m-%d %H:%M} UTC. "
            "Run flask refunds reconcile every minute, and read what it prints."
        )


_CHECKS: Mapping[str, tuple[Callable[[Settings, Database], Iterator[str]], str]] = {
    "privileges": (_missing_privileges, "The MongoDB user can read and write what refunds need."),
    "collections": (_wrong_collections, "The ledger and the purchases can be updated."),
    "purchases": (_rejected_updates, "No index or validator rejects the status of refunded purchases."),
    "indexes": (_missing_indexes, "Every required index exists."),
    "reconcile": (_overdue_sweep, "No daily list of Stripe's refunds is overdue."),
}
