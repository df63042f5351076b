"""The apps and documents that hostile requests are sent to."""

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
DELETED = "65a000000000000000000003"
OTHER_ROLES: Mapping[str, Any] = {
    "a list": ["admin"],
    "an object": {"admin": True},
    "true": True,
    "upper case": "ADMIN",
    "with a NUL": "admin\0",
}
"""Roles that aren't an admin's. ``tests/unit/test_users.py`` has more."""
COMPLETED = "65b000000000000000000001"
PENDING = "65b000000000000000000002"
REFUNDED = "65b000000000000000000003"
FREE = "65b000000000000000000004"
SETTLED = "65b000000000000000000005"
"""Refunded before the tests."""
UNKNOWN = "65b0000000000000000000ff"
ANN_S_INTENT = "pi_AnnsPurchase0000000001"

PREFIX = "/api/payments"
AUDIENCE, ISSUER = "shop", "https://login.example"


@dataclass(frozen=True)
class Case:
    """A hostile request and its expected response.

    :param path: the path under the prefix, encoded as in the request line.
    :param code: the error's code; ``None`` for a success, or if the app or the server answers.
    :param app: the name of the app that gets the request.
    """

    method: str
    path: str
    status: int
    code: str | None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    app: str = "shop"


def role_user(number: int) -> str:
    """Return the ID of the user with this one of the other roles."""
    return f"65a0000000000000000001{number:02x}"


@dataclass
class Targets:
    """Apps with different configs on one database and one sandbox."""

    database: Any
    sandbox: StripeSandbox
    apps: dict[str, Flask] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)

    def populate(self) -> None:
        """Store users and purchases, and make the apps."""
        roles = {role_user(number): role for number, role in enumerate(OTHER_ROLES.values())}
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

    def snapshot(self) -> Any:
        """Return everything that a request could change: documents, requests to Stripe, and refunds."""
        documents = {
            name: list(self.database[name].find().sort("_id", 1))
            for name in sorted(self.database.list_collection_names())
        }
        return documents, self.sandbox.requests, self.sandbox.refunds()

    def event(self, status: str = "succeeded", **changes: Any) -> dict[str, Any]:
        """Return an event about the refund of the settled purchase."""
        [refund] = self.sandbox.refunds(self.intents["settled"])
        return make_event("refund.updated", {**refund, "status": status, **changes}, event_id="evt_replayed")
