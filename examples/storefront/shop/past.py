"""The demo's past year: moves time back, and does in it what customers, support, banks and Stripe do.

It needs the sandbox, whose payments can be made at any time. Everything uses what an app has: flask_refunds'
endpoints and functions, and Stripe's events. So what the admin page shows fits what the sandbox has.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from flask import Flask

from flask_refunds import bulk_refund, handle_event, reconcile, refunds_bp
from flask_refunds.testing import StripeSandbox, make_event
from flask_refunds.testing.process_time import process_time

from . import access, orders

Story = Iterator[timedelta]
"""What happens to a purchase. Each value is how long nothing happens; what follows may be in the future."""

_OWN_CONFIG = {
    "REFUNDS_STRIPE_RETRIES": 0,
    "REFUNDS_ALLOW_PARTIAL": True,
}
_RATE = 1000.0
SETTLES = timedelta(days=3)
"""How long a refund stays pending in the past."""


@dataclass(frozen=True)
class Bought:
    """Purchases with one payment."""

    ids: Sequence[ObjectId]
    payment: str


class Past:
    """What people did before today.

    :param config: the config of the shop's app.
    :param contents: by title.
    :param users: by name, with an ``_id``.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        stripe: StripeSandbox,
        contents: Mapping[str, Mapping[str, Any]],
        users: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.stripe = stripe
        self._contents, self._users = contents, users
        self._agent: Mapping[str, Any] = {}
        # The shop's own app would send emails.
        self._app = Flask(__name__)
        self._app.config.update(config, **_OWN_CONFIG)
        self._app.config["REFUNDS_CURRENT_USER"] = lambda: self._agent
        self._app.config["REFUNDS_STRIPE_OPTIONS"] = self._options
        self._app.register_blueprint(refunds_bp)
        access.init_app(self._app)
        self._client = self._app.test_client(use_cookies=False)
        self._purchases = config["REFUNDS_MONGO"].purchases
        self._kept: list[dict[str, Any]] = []

    def tell(self, stories: Mapping[float, Sequence[Story]]) -> None:
        """Let stories begin so many days ago, and stop them at the present.

        :raises RuntimeError: something went otherwise than in the story.
        """
        now = time.time()
        queue = [
            (now - days * 86400, number, story)
            for number, (days, story) in enumerate((days, each) for days in stories for each in stories[days])
        ]
        heapq.heapify(queue)
        with self._moved_time(), self._app.app_context():
            while queue and queue[0][0] < now:
                at, number, story = heapq.heappop(queue)
                process_time.offset += at - time.time()
                self.stripe.advance(0)
                pause = next(story, None)
                if pause is not None:
                    heapq.heappush(queue, (at + pause.total_seconds(), number, story))
        self._purchases.insert_many(self._kept)

    # What customers do

    def buy(
        self,
        customer: str,
        *titles: str,
        card: orders.Card = orders.SUCCEEDS,
        status: str = orders.COMPLETED,
        **options: Any,
    ) -> Bought:
        """Buy contents with one payment.

        :param options: of the sandbox's payment.
        """
        bought, documents = self._pay(customer, titles, card, status, options)
        self._purchases.insert_many(documents)
        return bought

    def buy_and_keep(
        self, customer: str, *titles: str, card: orders.Card = orders.SUCCEEDS, status: str = orders.COMPLETED
    ) -> None:
        """Buy contents that aren't refunded. They are stored at the end, because mongomock uses no index."""
        self._kept += self._pay(customer, titles, card, status, {})[1]

    def _pay(
        self, customer: str, titles: Sequence[str], card: orders.Card, status: str, options: Mapping[str, Any]
    ) -> tuple[Bought, list[dict[str, Any]]]:
        contents = [self._contents[title] for title in titles]
        payment = self.stripe.create_payment(
            sum(content["price"] for content in contents), contents[0]["currency"], card.number, **options
        )
        order, documents = f"demo-{ObjectId()}", []
        for content in contents:
            purchase = orders.make_purchase(self._users[customer]["_id"], content, payment, card)
            paid = {"status": status, "accessGranted": status == orders.COMPLETED}
            own = {"_id": ObjectId(), "order": order, "content": content["_id"]}
            documents.append({**own, **purchase, **paid})
        return Bought([each["_id"] for each in documents], payment), documents

    # What support does

    def refund(self, bought: Bought, agent: str, **body: Any) -> None:
        """Request a refund on the admin page; its outcome doesn't matter."""
        self._agent = self._users[agent]
        self._post(f"refund/{bought.ids[0]}", body)

    def refund_part(self, bought: Bought, agent: str, amount: int, **body: Any) -> None:
        """Request a partial refund on the admin page, as its first refund."""
        refundable = self.stripe.charge(bought.payment)["amount_captured"]
        self.refund(bought, agent, amount=amount, refundable=refundable, number=1, **body)

    def resolve(self, bought: Bought, agent: str, decision: str, comment: str) -> None:
        """Close the review of the first refund."""
        self._agent = self._users[agent]
        self._post(f"refunds/{bought.payment}:1/resolve", {"decision": decision, "comment": comment})

    def refund_by_command(self, bought: Bought, actor: str) -> None:
        """Request a refund on the command line."""
        self._app.test_cli_runner().invoke(args=["refunds", "refund", str(bought.ids[0]), "--actor", actor])

    def refund_all(self, name: str, orders: Sequence[Bought], agent: str, **options: Any) -> None:
        """Refund many purchases as one run."""
        agent_id = str(self._users[agent]["_id"])
        ids = [each.ids[0] for each in orders]
        bulk_refund(name, ids, requested_by=agent_id, rate=_RATE, **options)

    # What Stripe and banks do

    def refund_at_stripe(self, bought: Bought, amount: int | None = None) -> None:
        """Refund in Stripe's Dashboard."""
        self.stripe.dashboard_refund(bought.payment, amount)
        self.report(bought)

    def change(self, bought: Bought, status: str, reason: str | None = None) -> None:
        """Change the status of the latest refund at Stripe."""
        self.stripe.settle(self.latest(bought)["id"], status, reason)
        self.report(bought)

    def report(self, bought: Bought) -> None:
        """Send the event about the latest refund, as it is now."""
        handle_event(make_event("refund.updated", self.latest(bought)))

    def latest(self, bought: Bought) -> dict[str, Any]:
        """Return the latest refund of a payment."""
        return self.stripe.refunds(bought.payment)[-1]

    def reconcile(self) -> None:
        """Do what a schedule does every minute."""
        reconcile(older_than=timedelta(0), rate=_RATE)

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        response = self._client.post(f"/api/payments/admin/{path}", json=body or None)
        if response.status_code in (401, 403, 404) or response.json.get("code") == "invalid_request":  # type: ignore[union-attr]
            raise RuntimeError(f"{path}: {response.text}")

    def _options(self, purchase: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a refund: a konbini has no way back, so Stripe writes to the customer."""
        method = self.stripe.charge(purchase["stripePaymentIntentId"])["payment_method_details"]["type"]
        user = next(each for each in self._users.values() if each["_id"] == purchase["user"])
        return {} if method == "card" else {"instructions_email": user["email"]}

    @contextmanager
    def _moved_time(self) -> Iterator[None]:
        """Let this process's time be moved, without logs of what went wrong in the past."""
        usual, self.stripe.refund_settles_after = self.stripe.refund_settles_after, SETTLES.total_seconds()
        logging.disable(logging.CRITICAL)
        process_time.move(0)
        try:
            yield
        finally:
            process_time.reset()
            logging.disable(logging.NOTSET)
            self.stripe.refund_settles_after = usual
