"""A shop that the hostile requests are made to, and whether anything moved in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from flask import Flask

from flask_refunds.testing import StripeSandbox, make_event
from tests.canaries import WEBHOOK_SECRET, planted
from tests.mount.keys import key_pair
from tests.shop import PAID_AT, make_app

ADMIN = "65a000000000000000000001"
ANN = "65a000000000000000000002"
GONE = "65a000000000000000000003"
ODD_ROLES: Mapping[str, Any] = {
    "none": None,
    "a list": ["admin"],
    "an object": {"admin": True},
    "true": True,
    "a number": 1,
    "in capitals": "ADMIN",
    "with a space": "admin ",
    "with a NUL": "admin\0",
    "a cousin": "administrator",
    "empty": "",
}
"""Of users who are no admins."""
COMPLETED = "65b000000000000000000001"
PENDING = "65b000000000000000000002"
REFUNDED = "65b000000000000000000003"
FREE = "65b000000000000000000004"
SETTLED = "65b000000000000000000005"
"""Refunded by an event that came before."""
NOWHERE = "65b0000000000000000000ff"
ANN_S_INTENT = "pi_AnnsPurchase0000000001"

PREFIX = "/api/payments"
AUDIENCE, ISSUER = "shop", "https://login.example"


@dataclass(frozen=True)
class Case:
    """A request that nobody honest makes, and its answer.

    :param path: below the prefix, as it stands in the request's line.
    :param code: of the error; ``None`` where the host or the server answers, or where all is well.
    :param app: which of the world's apps is asked.
    """

    method: str
    path: str
    status: int
    code: str | None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    app: str = "shop"


def odd_id(number: int) -> str:
    """The id of a user with an odd role."""
    return f"65a0000000000000000001{number:02x}"


@dataclass
class World:
    """Apps on one database and one Stripe, each configured otherwise."""

    database: Any
    sandbox: StripeSandbox
    apps: dict[str, Flask] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)

    def furnish(self) -> None:
        """Store everybody and everything."""
        roles = {odd_id(number): role for number, role in enumerate(ODD_ROLES.values())}
        users = {ADMIN: planted(role="admin"), ANN: planted()} | {
            each: planted(role=role) for each, role in roles.items()
        }
        self.database.users.insert_many([{"_id": ObjectId(each), **user} for each, user in users.items()])
        self.intents = {name: self.sandbox.create_payment(1999) for name in ("completed", "settled")}
        for purchase, status, intent in (
            (COMPLETED, "completed", self.intents["completed"]),
            (PENDING, "pending", ANN_S_INTENT),
            (REFUNDED, "refunded", self.sandbox.create_payment(1999)),
            (FREE, "completed", "free"),
            (SETTLED, "completed", self.intents["settled"]),
        ):
            self._store(purchase, status, intent)
        config = {"REFUNDS_MONGO": self.database, "STRIPE_API_BASE": self.sandbox.url}
        self.apps = {
            "shop": make_app(**config, STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET),
            "no webhook": make_app(**config),
            "public key": make_app(
                **config | {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": key_pair("RS256").public_pem},
                JWT_SECRET_KEY=None,
            ),
            "strict": make_app(**config, JWT_DECODE_AUDIENCE=AUDIENCE, JWT_DECODE_ISSUER=ISSUER),
        }

    def _store(self, purchase: str, status: str, intent: str | None) -> None:
        document = {"user": ObjectId(ANN), "stripePaymentIntentId": intent, "createdAt": PAID_AT}
        self.database.purchases.insert_one({"_id": ObjectId(purchase), "status": status, **document})

    def look(self) -> Any:
        """Everything that a request could move: the documents, what Stripe was asked, and the money."""
        documents = {
            name: list(self.database[name].find().sort("_id", 1))
            for name in sorted(self.database.list_collection_names())
        }
        return documents, self.sandbox.requests, self.sandbox.refunds()

    def event(self, status: str = "succeeded", **changes: Any) -> dict[str, Any]:
        """An event about the refund that was made of the settled purchase."""
        [refund] = self.sandbox.refunds(self.intents["settled"])
        return make_event("refund.updated", {**refund, "status": status, **changes}, event_id="evt_replayed")
