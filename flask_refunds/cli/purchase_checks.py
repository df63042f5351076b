"""Check that the settings describe the app's purchases and users, by a sample of the newest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bson import DBRef, ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING, DESCENDING

from ..config import Settings
from ..config.documents import PURCHASE_FIELDS
from ..errors import DatabaseUnavailable
from ..models import is_payment, is_reference
from ..purchase_fields import PurchaseFields, read_field
from ..schemas.rendering import render_text
from ..storage.connection import REPORT_SECONDS, Collection, Database, database_timeout, majority_collection
from ..storage.stored_ids import stored_ids
from .check_result import CheckResult, note, ok
from .payment_checks import Document, check_payment, check_sessions, held_by

if TYPE_CHECKING:
    from ..stripe_client.gateway import Gateway

SAMPLE = 200
_WHOLE = 20
"""How many purchases are read with all their fields."""
_PAYMENTS = 5
"""How many payments are read at Stripe: the newest, the oldest, and some between them."""
_SHOWN = 5
"""How many statuses, fields or collections of the app are named."""


def check_purchases(
    settings: Settings, database: Database, gateway: Callable[[], Gateway]
) -> Iterator[CheckResult]:
    """Run one check of the purchases after the other; none if they can't be read."""
    fields = settings.purchase_fields
    purchases = majority_collection(database, settings.refunds_purchases_collection)
    try:
        with database_timeout(REPORT_SECONDS):
            sample = _newest(purchases, SAMPLE, _paths(fields))
            held = [each for each in sample if held_by(each, fields)]
            whole = [] if held else _newest(purchases, _WHOLE, ())
            oldest = _newest(purchases, SAMPLE, _paths(fields), ASCENDING) if len(sample) == SAMPLE else []
            paid = _spread([it for it in (*sample, *reversed(oldest)) if _is_paid(it, fields)], _PAYMENTS)
            together = _find_together(purchases, paid, fields)
            results = (
                list(_check_users(settings, database, sample)) if sample else [_empty(settings, database)]
            )
    except DatabaseUnavailable:
        return
    if sample:
        yield _check_words(sample, fields, _count(path for each in whole for path in _payment_paths(each)))
        yield from _check_fields(sample, settings.refunds_purchase_fields)
        yield from _check_dates(sample, fields.created)
    yield from results
    session = next((each for each in held if held_by(each, fields).startswith("cs_")), None)
    if session is not None:
        yield from check_sessions(session, fields, gateway)
    if paid:
        whole_paid = next((each for each in together[0] if each["_id"] == paid[0]["_id"]), paid[0])
        yield from check_payment(together, whole_paid, settings, gateway)


def _newest(
    collection: Collection, limit: int, paths: Iterable[str], direction: int = DESCENDING
) -> list[Document]:
    """Return the newest documents; with ``ASCENDING``, the oldest ones."""
    shown = dict.fromkeys((path.removesuffix(".$id") for path in paths), 1)
    return list(collection.find({}, shown or None).sort("_id", direction).limit(limit))


def _is_paid(purchase: Document, fields: PurchaseFields) -> bool:
    return is_payment(held_by(purchase, fields)) and fields.status_of(purchase) is not None


def _spread(ordered: Sequence[Document], count: int) -> list[Document]:
    """Return the first, the last, and some at equal distances between them."""
    if len(ordered) <= count:
        return list(ordered)
    return [ordered[(len(ordered) - 1) * each // (count - 1)] for each in range(count)]


def _find_together(
    purchases: Collection, paid: Sequence[Document], fields: PurchaseFields
) -> list[list[Document]]:
    """Return the purchases of each of these payments, in their order."""
    found: dict[str, list[Document]] = {held_by(each, fields): [] for each in paid}
    for each in purchases.find({fields.payment: {"$in": list(found)}}) if found else ():
        if (held := held_by(each, fields)) in found:
            found[held].append(each)
    return list(found.values())


def _paths(fields: PurchaseFields) -> list[str]:
    optional = (fields.user, fields.content, fields.amount, fields.currency)
    return [fields.status, fields.payment, *filter(None, (*optional, fields.created, fields.stripe_account))]


def _empty(settings: Settings, database: Database) -> CheckResult:
    """Return a note with the collections that may have the purchases."""
    name, ledger = settings.refunds_purchases_collection, settings.refunds_collection
    own = {name, ledger, settings.refunds_users_collection, settings.refunds_contents_collection}
    others = sorted(set(database.list_collection_names()) - own)
    others = [each for each in others if not each.startswith((f"{ledger}.", "system."))][:_SHOWN]
    found = f" The database has {', '.join(others)}." if others else ""
    return note(
        "documents",
        f"The collection {name} has no documents.{found} If your purchases are in another collection, set "
        "REFUNDS_PURCHASES_COLLECTION.",
    )


def _check_words(sample: Sequence[Document], fields: PurchaseFields, elsewhere: str) -> CheckResult:
    """Check that some purchases have the payments and the statuses that the settings name.

    :param elsewhere: the fields with payments, if the one of the settings has none.
    """
    count = len(sample)
    if not any(held_by(each, fields) for each in sample):
        found = f"Found some in {elsewhere}. " if elsewhere else ""
        return note(
            "documents",
            f"0 of {count} purchases have a payment intent, charge or Checkout session in the field "
            f'{fields.payment}. {found}Set REFUNDS_PURCHASE_FIELDS["payment"].',
        )
    if any(map(fields.status_of, sample)):
        return ok("documents", "The newest purchases have the fields and statuses of the settings.")
    names = _count(_describe(read_field(each, fields.status)) for each in sample)
    return note(
        "documents",
        f"0 of {count} purchases are completed or refunded. Their field {fields.status} has: {names}. "
        'Set REFUNDS_STATUS_COMPLETED, or REFUNDS_PURCHASE_FIELDS["status"].',
    )


def _describe(status: Any) -> str:
    if isinstance(status, DBRef):
        return f"a DBRef to {status.collection}"
    if isinstance(status, Mapping):
        return "a document"
    return "a list" if isinstance(status, list) else str(render_text(status))


def _count(texts: Iterable[str]) -> str:
    return ", ".join(f"{text[:40]} ({number})" for text, number in Counter(texts).most_common(_SHOWN))


def _payment_paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all fields of a document that refer to a payment."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _payment_paths(each, f"{path}.{name}" if path else name)
    elif isinstance(value, str) and is_reference(value):
        yield path


def _check_fields(sample: Sequence[Document], paths: Mapping[str, str | None]) -> Iterator[CheckResult]:
    """Find fields that the app names in its settings, and that no purchase has."""
    named = {name: path for name, path in paths.items() if path and path != PURCHASE_FIELDS[name]}
    missing = [
        f"{name} ({path})"
        for name, path in named.items()
        if name not in ("status", "payment") and all(read_field(each, path) is None for each in sample)
    ]
    if missing:
        yield note(
            "fields",
            f"0 of {len(sample)} purchases have these fields of REFUNDS_PURCHASE_FIELDS: "
            f"{', '.join(missing)}.",
        )


def _check_dates(sample: Sequence[Document], path: str | None) -> Iterator[CheckResult]:
    """Find dates that don't count: text, numbers, and the IDs of other databases."""
    kinds = (datetime, DatetimeMS, list) if path else ObjectId
    values = [each for each in (read_field(it, path or "_id") for it in sample) if each is not None]
    if values and not any(isinstance(each, kinds) for each in values):
        missing = f"a date in {path}" if path else "a date, because their _id isn't an ObjectId"
        yield note(
            "dates",
            f"0 of {len(sample)} purchases have {missing}. Reports, --from and --to leave them out. Set "
            'REFUNDS_PURCHASE_FIELDS["created"] to a field with BSON dates.',
        )


def _check_users(settings: Settings, database: Database, sample: Sequence[Document]) -> Iterator[CheckResult]:
    """Check that the users are where the settings say, and that some have a role."""
    users, field = settings.refunds_users_collection, settings.purchase_fields.user
    collection = majority_collection(database, users)
    are_elsewhere = settings.refunds_user_loader is not None or settings.refunds_current_user is not None
    newest = _newest(collection, SAMPLE, ("role",))
    ids = [each for each in (read_field(it, field) for it in sample[:_WHOLE]) if each is not None]
    if not newest and not are_elsewhere:
        yield note(
            "users",
            f"The collection {users} has no documents. Set REFUNDS_USERS_COLLECTION or REFUNDS_USER_LOADER.",
        )
    elif any(isinstance(each, DBRef) for each in ids):
        yield note("users", f'{field} has DBRefs. Set REFUNDS_PURCHASE_FIELDS["user"] to {field}.$id.')
    elif newest and ids and not _exists(collection, ids):
        yield note(
            "users",
            f"The newest purchases name users in {field} that aren't an _id in the collection {users}. Set "
            'REFUNDS_USERS_COLLECTION or REFUNDS_PURCHASE_FIELDS["user"].',
        )
    elif newest and not (are_elsewhere or settings.refunds_is_admin or _have_role(collection, newest)):
        yield note(
            "users",
            'No user has a role, and only those with the role "admin" may refund. Set REFUNDS_IS_ADMIN to a '
            "function that tells your admins.",
        )


def _have_role(collection: Collection, newest: Sequence[Document]) -> bool:
    """Return whether a user has a role, or may have one: only some of many have it in many apps."""
    if any("role" in each for each in newest):
        return True
    try:
        with database_timeout():
            return collection.find_one({"role": {"$exists": True}}, {"_id": 1}) is not None
    except DatabaseUnavailable:
        return True  # without an index, it takes long among millions


def _exists(collection: Collection, ids: Sequence[Any]) -> bool:
    forms = [form for each in ids for form in stored_ids(each, collection)]
    return collection.find_one({"_id": {"$in": forms}}, {"_id": 1}) is not None
