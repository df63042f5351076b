"""Fill a database with test data of any size, to try lists, metrics and the admin page at your scale.

    MONGO_URI=mongodb://localhost/big_shop python examples/seed.py --purchases 100000

It writes users, contents, purchases and refund records of three years. The same arguments give the same data.
The payments don't exist at Stripe, so you can't refund them. The database must not have purchases yet.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
from bson import ObjectId

BATCH = 5000
YEARS = 3
CONTENTS = 200
CURRENCIES = ("usd", "eur", "jpy")
REASONS = (None, "requested_by_customer", "requested_by_customer", "duplicate", "fraudulent")


def seed(database: Any, purchases: int, refunded: float, now: datetime) -> int:
    """Fill an empty database.

    :param purchases: the number of purchases. There is one user for every ten.
    :param refunded: the share of refunded purchases, from 0 to 1.
    :param now: the time of the last purchase.
    :return: the number of refund records.
    """
    rng = random.Random(f"{purchases} {refunded}")
    user_ids = [ObjectId() for _ in range(max(1, purchases // 10))]
    content_ids = [ObjectId() for _ in range(CONTENTS)]
    _insert(database.users, (_user(each, number) for number, each in enumerate(user_ids)))
    _insert(database.contents, (_content(each, number) for number, each in enumerate(content_ids)))
    step = timedelta(days=365 * YEARS) / purchases
    refunds = 0
    for first in range(0, purchases, BATCH):
        batch = [
            _purchase(number, now - step * (purchases - number), rng, user_ids, content_ids, refunded)
            for number in range(first, min(first + BATCH, purchases))
        ]
        records = [_refund_record(each, now, rng) for each in batch if each["status"] == "refunded"]
        database.purchases.insert_many(batch, ordered=False)
        if records:
            database.flask_refunds.insert_many(records, ordered=False)
        refunds += len(records)
    return refunds


def _insert(collection: Any, documents: Iterator[dict[str, Any]]) -> None:
    while batch := [document for document, _ in zip(documents, range(BATCH), strict=False)]:
        collection.insert_many(batch, ordered=False)


def _user(user_id: ObjectId, number: int) -> dict[str, Any]:
    return {"_id": user_id, "name": f"User {number}", "email": f"user{number}@shop.example", "role": "user"}


def _content(content_id: ObjectId, number: int) -> dict[str, Any]:
    kind = ("course", "ebook", "audiobook")[number % 3]
    return {"_id": content_id, "title": f"Content {number}", "type": kind}


def _purchase(
    number: int,
    created_at: datetime,
    rng: random.Random,
    user_ids: list[ObjectId],
    content_ids: list[ObjectId],
    refunded: float,
) -> dict[str, Any]:
    status = "refunded" if rng.random() < refunded else "completed"
    return {
        # The first four bytes of an ObjectId are its creation time. The rest makes it unique.
        "_id": ObjectId(int(created_at.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big")),
        "user": rng.choice(user_ids),
        "content": rng.choice(content_ids),
        "amount": rng.randrange(500, 20_000),
        "currency": rng.choice(CURRENCIES),
        "stripePaymentIntentId": f"pi_seeded{number:010d}",
        "status": rng.choices((status, "pending", "failed"), (95, 2, 3))[0],
        "createdAt": created_at,
    }


def _refund_record(purchase: dict[str, Any], now: datetime, rng: random.Random) -> dict[str, Any]:
    """Return the refund record of a purchase. If it didn't succeed, set the purchase back to completed."""
    intent = purchase["stripePaymentIntentId"]
    created_at = min(purchase["createdAt"] + timedelta(seconds=rng.expovariate(1 / 864_000)), now)
    status = rng.choices(("succeeded", "failed", "pending"), (97, 2, 1))[0]
    if status != "succeeded":
        purchase["status"] = "completed"
    settled_at = None if status == "pending" else created_at + timedelta(seconds=rng.expovariate(1 / 3))
    refund_id = f"{intent}:1"
    history = [{"at": created_at, "status": "processing", "actor": "api:seed"}]
    if settled_at:
        history.append({"at": settled_at, "status": status, "actor": "api:seed"})
    return {
        "_id": refund_id,
        "paymentIntent": intent,
        "number": 1,
        "source": "api",
        "status": status,
        "purchaseIds": [purchase["_id"]],
        "amount": purchase["amount"],
        "currency": purchase["currency"],
        "reason": rng.choice(REASONS),
        "note": None,
        "requestedBy": "seed",
        "request": {"payment_intent": intent, "metadata": {"refund_id": refund_id}},
        "stripeRefundId": f"re_{intent[3:]}",
        "failure": {"code": "unknown", "message": "Test data."} if status == "failed" else None,
        "review": None,
        "createdAt": created_at,
        "updatedAt": settled_at or created_at,
        "settledAt": settled_at,
        "leaseToken": None,
        "attempts": 1,
        "leaseExpiresAt": created_at,
        "signalsSent": True,
        "purchasesVerified": True,
        "history": history,
    }


def main() -> None:
    """Fill the database of ``MONGO_URI``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--purchases", type=int, default=100_000, help="number of purchases (default: 100000)"
    )
    parser.add_argument(
        "--refunded", type=float, default=0.1, help="share of refunded purchases (default: 0.1)"
    )
    options = parser.parse_args()
    uri = os.environ.get("MONGO_URI")
    if not uri:
        sys.exit("Set MONGO_URI to an empty database, such as mongodb://localhost/big_shop.")
    with pymongo.MongoClient(uri, tz_aware=True) as client:
        database = client.get_default_database()
        if database.purchases.find_one() is not None:
            sys.exit(f"Database {database.name} already has purchases. Nothing was written.")
        now = datetime.now(timezone.utc).replace(microsecond=0)
        refunds = seed(database, options.purchases, options.refunded, now)
    print(f"{database.name}: {options.purchases:,} purchases, {refunds:,} refunds.")


if __name__ == "__main__":
    main()
