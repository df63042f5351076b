"""Fill a database with a shop of any size, to see how lists, figures and the page behave at yours.

    MONGO_URI=mongodb://localhost/big_shop python examples/seed.py --purchases 100000

Writes users, contents, purchases and a ledger of refunds that look like years of business; the same for the
same arguments. Stripe is not asked: these payments are made up and cannot be refunded. It refuses a database
that has purchases already.
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

    :param purchases: how many purchases; a tenth as many users.
    :param refunded: the share of purchases that were refunded, from 0 to 1.
    :param now: when the last purchase was made.
    :return: how many refunds the ledger holds.
    """
    chance = random.Random(f"{purchases} {refunded}")
    users = [ObjectId() for _ in range(max(1, purchases // 10))]
    contents = [ObjectId() for _ in range(CONTENTS)]
    _insert(database.users, (_user(each, number) for number, each in enumerate(users)))
    _insert(database.contents, (_content(each, number) for number, each in enumerate(contents)))
    step = timedelta(days=365 * YEARS) / purchases
    rows = 0
    for first in range(0, purchases, BATCH):
        made = [
            _purchase(number, now - step * (purchases - number), chance, users, contents, refunded)
            for number in range(first, min(first + BATCH, purchases))
        ]
        ledger = [_refund(each, now, chance) for each in made if each["status"] == "refunded"]
        database.purchases.insert_many(made, ordered=False)
        if ledger:
            database.refunds.insert_many(ledger, ordered=False)
        rows += len(ledger)
    return rows


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
    made: datetime,
    chance: random.Random,
    users: list[ObjectId],
    contents: list[ObjectId],
    refunded: float,
) -> dict[str, Any]:
    paid = "refunded" if chance.random() < refunded else "completed"
    return {
        # Its first four bytes are the time, as in every ObjectId; the rest keeps it unique.
        "_id": ObjectId(int(made.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big")),
        "user": chance.choice(users),
        "content": chance.choice(contents),
        "amount": chance.randrange(500, 20_000),
        "currency": chance.choice(CURRENCIES),
        "stripePaymentIntentId": f"pi_seeded{number:010d}",
        "status": chance.choices((paid, "pending", "failed"), (95, 2, 3))[0],
        "createdAt": made,
    }


def _refund(purchase: dict[str, Any], now: datetime, chance: random.Random) -> dict[str, Any]:
    """The ledger's row of a purchase's refund; one that did not succeed leaves the purchase completed."""
    intent = purchase["stripePaymentIntentId"]
    asked = min(purchase["createdAt"] + timedelta(seconds=chance.expovariate(1 / 864_000)), now)
    status = chance.choices(("succeeded", "failed", "pending"), (97, 2, 1))[0]
    if status != "succeeded":
        purchase["status"] = "completed"
    settled = None if status == "pending" else asked + timedelta(seconds=chance.expovariate(1 / 3))
    refund_id = f"{intent}:1"
    history = [{"at": asked, "status": "processing", "by": "endpoint"}]
    if settled:
        history.append({"at": settled, "status": status, "by": "endpoint"})
    return {
        "_id": refund_id,
        "paymentIntent": intent,
        "number": 1,
        "source": "endpoint",
        "status": status,
        "purchaseIds": [purchase["_id"]],
        "amount": purchase["amount"],
        "currency": purchase["currency"],
        "reason": chance.choice(REASONS),
        "note": None,
        "requestedBy": "seed",
        "request": {"payment_intent": intent, "metadata": {"refund_id": refund_id}},
        "stripeRefundId": f"re_{intent[3:]}",
        "failure": {"code": "unknown", "message": "Seeded as failed."} if status == "failed" else None,
        "attention": None,
        "createdAt": asked,
        "updatedAt": settled or asked,
        "settledAt": settled,
        "owner": None,
        "calls": 1,
        "leasedUntil": asked,
        "announced": True,
        "checked": True,
        "history": history,
    }


def main() -> None:
    """Read the arguments, and fill the database of ``MONGO_URI``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--purchases", type=int, default=100_000, help="how many [100000]")
    parser.add_argument("--refunded", type=float, default=0.1, help="the share that was refunded [0.1]")
    chosen = parser.parse_args()
    uri = os.environ.get("MONGO_URI")
    if not uri:
        sys.exit("Set MONGO_URI to a database that may be filled, as in mongodb://localhost/big_shop.")
    with pymongo.MongoClient(uri, tz_aware=True) as client:
        database = client.get_default_database()
        if database.purchases.find_one() is not None:
            sys.exit(f"{database.name} has purchases already; nothing was written.")
        now = datetime.now(timezone.utc).replace(microsecond=0)
        rows = seed(database, chosen.purchases, chosen.refunded, now)
    print(f"{database.name}: {chosen.purchases:,} purchases, {rows:,} refunds.")


if __name__ == "__main__":
    main()
