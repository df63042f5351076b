"""The storefront's app in this process, with the test kit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from flask import Flask
from shop import create_app, demo
from shop.settings import WEBHOOK_PATH
from werkzeug.security import generate_password_hash

from flask_refunds.testing import Cards, RefundsClient, open_client

FAST_PASSWORD_HASH = "pbkdf2:sha256:1"


class ShopHarness:
    """The app with the demo's data, and one client for all accounts."""

    def __init__(self, refunds: RefundsClient) -> None:
        self.refunds, self.client, self.db = refunds, refunds.client, refunds.db
        refunds.webhooks.path = WEBHOOK_PATH
        with refunds.app.app_context(), pytest.MonkeyPatch.context() as patch:
            # A secure password hash is slow, which these tests don't need.
            patch.setattr(
                demo, "generate_password_hash", partial(generate_password_hash, method=FAST_PASSWORD_HASH)
            )
            demo.seed()
        refunds.webhooks.deliver()
        self.content = str(self.find("contents", title="The Compost Handbook")["_id"])
        self.ben = self._sign_in(demo.BEN)
        refunds.admin_headers = lambda: self._sign_in(demo.ADMIN)

    def _sign_in(self, account: demo.Account) -> dict[str, str]:
        response = self.client.post(
            "/api/sign-in", json={"email": account.email, "password": account.password}
        )
        return {"Authorization": f"Bearer {response.json['token']}"}  # type: ignore[index]

    def find(self, collection: str, **query: Any) -> dict[str, Any]:
        """Return a document of the database."""
        found = self.db[collection].find_one(query)
        assert found is not None
        return found

    def buy(self, card: str, key: str = "order-of-the-tests") -> Any:
        """Order the compost book as Ben."""
        order = {"contents": [self.content], "card": card}
        return self.client.post("/api/purchases", json=order, headers={**self.ben, "Idempotency-Key": key})

    def buy_and_complete(self, card: str = Cards.SUCCEEDS) -> str:
        """Order the compost book as Ben, and return the ID of the completed purchase."""
        purchase_id: str = self.buy(card).json["purchases"][0]["id"]
        assert self.purchase(purchase_id)["status"] == "completed"
        return purchase_id

    def purchase(self, purchase_id: str) -> dict[str, Any]:
        """Return one of Ben's purchases from the API."""
        listed: Any = self.client.get("/api/purchases", headers=self.ben).json
        return next(each for each in listed["purchases"] if each["id"] == purchase_id)

    def has_access(self) -> bool:
        """Return whether Ben can open the compost book."""
        return self.client.get(f"/api/contents/{self.content}", headers=self.ben).status_code == 200


@contextmanager
def open_shop(**config: Any) -> Iterator[ShopHarness]:
    """Yield the app with more config, once the demo's payments are complete."""

    def create_shop(test_config: dict[str, Any]) -> Flask:
        return create_app({**test_config, **config})

    with open_client(create_shop) as refunds:
        yield ShopHarness(refunds)
