"""The keys of refund records after a restore, after edited metadata, and as MongoDB reads them."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest
from pymongo import monitoring

from flask_refunds.extension import get_refunds
from flask_refunds.testing import StripeSandbox, make_event
from tests.integration.unfinished import age, reconcile, unknown
from tests.integration.webhooks import SECRET, send
from tests.shop import Shop, make_app


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox) -> Shop:
    app = make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url, STRIPE_WEBHOOK_SECRET=SECRET)
    return Shop(app, database)


def forget_refunds(shop: Shop, *refund_ids: str) -> None:
    """Restore a backup of the ledger that lacks these records, and one of the purchases from before them."""
    shop.db.flask_refunds.delete_many({"_id": {"$in": refund_ids}})
    shop.db.purchases.update_many({}, {"$set": {"status": "completed"}})


def posts(sandbox: StripeSandbox) -> list[Any]:
    return [request for request in sandbox.requests if request.method == "POST"]


@pytest.fixture
def collated_shop(database: Any, sandbox: StripeSandbox) -> Shop:
    """A shop whose purchases are compared as Swedish text, without case and punctuation."""
    collation = {"locale": "sv", "strength": 1, "alternate": "shifted"}
    database.create_collection("purchases", collation=collation)
    return Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)


@pytest.mark.parametrize("name", ["shop", "collated_shop"])
def test_later_record_prevents_a_refund_whose_predecessor_a_restore_lost(
    sandbox: StripeSandbox, request: pytest.FixtureRequest, name: str
) -> None:
    shop: Shop = request.getfixturevalue(name)
    payment = sandbox.create_payment(2500)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    sandbox.settle(sandbox.refunds(payment)[0]["id"], "failed")
    reconcile(shop, "--full")
    assert shop.refund(purchase).json["refund"]["id"] == f"{payment}:2"
    forget_refunds(shop, f"{payment}:1")
    before = posts(sandbox)
    assert shop.refund(purchase).json["code"] == "purchase_not_refundable"
    assert (posts(sandbox), sandbox.money_refunded(payment)) == (before, 2500)
    assert [record["_id"] for record in shop.records() if record["number"]] == [f"{payment}:2"]
    assert shop.status_of(purchase) == "refunded"


@pytest.mark.parametrize("note", [None, "a different request"])
def test_number_that_is_used_again_after_a_restore_is_a_new_request_at_stripe(
    shop: Shop, sandbox: StripeSandbox, note: str | None
) -> None:
    payment = sandbox.create_payment(2500)
    purchase = shop.add_purchase(payment)
    assert shop.refund(purchase).status_code == 200
    [lost] = sandbox.refunds(payment)
    sandbox.settle(lost["id"], "failed")
    forget_refunds(shop, f"{payment}:1")
    again = shop.refund(purchase, json={"reason": "fraudulent", "note": note} if note else None)
    assert (again.status_code, again.json["refund"]["id"]) == (200, f"{payment}:1")
    first, second = (request.idempotency_key for request in posts(sandbox))
    assert first.rpartition(":")[0] == second.rpartition(":")[0] == f"{payment}:1"
    assert first != second
    assert sandbox.money_refunded(payment) == 2500
    send(shop, make_event("refund.failed", sandbox.refund(lost["id"])))
    assert {(each["_id"], each["status"]) for each in shop.records()} == {
        (f"{payment}:1", "succeeded"),
        (f"{payment}:{lost['id']}", "failed"),
    }


@pytest.mark.parametrize("way", ["api", "reconcile"])
def test_refund_that_was_recorded_elsewhere_first_is_listed_and_counted_once(
    shop: Shop, sandbox: StripeSandbox, way: str
) -> None:
    payment, purchase = unknown(shop, sandbox)
    [made] = sandbox.refunds(payment)
    sandbox.set_refund(made["id"], metadata={"ticket": "4711"})
    assert send(shop, make_event("refund.created", made)).status_code == 200
    assert len(shop.records()) == 2
    if way == "api":
        assert shop.refund(purchase).status_code == 200
    else:
        age(shop, minutes=2)
        assert reconcile(shop).exit_code == 0
    ours = f"{payment}:1"

    def get(path: str, **query: str) -> Any:
        return shop.client.get(f"/api/payments{path}", query_string=query, headers=shop.headers()).json

    for query in ({}, {"status": "succeeded"}, {"paymentIntent": payment}):
        found = get("/admin/refunds", **query)
        assert ([each["id"] for each in found["refunds"]], found["totalRefunds"]) == ([ours], 1)
    total = get("/admin/refunds/metrics")["total"]
    assert (total["refunds"], total["currencies"]["usd"]["amount"]) == (1, 1999)
    assert shop.flask("show", payment).output.count("Refund  ") == 1
    assert len(shop.flask("export").output.splitlines()) == 2
    with shop.app.app_context():
        assert [each.id for each in get_refunds(shop.app).ledger.list_for_payment(payment)] == [ours]
    age(shop, minutes=2)
    assert "0 need review" in reconcile(shop, "--full").output
    assert "0 processed" in reconcile(shop).output
    assert (shop.status_of(purchase), sandbox.money_refunded(payment)) == ("refunded", 1999)


@pytest.mark.parametrize("field", [["pi_1", "pi_2"], ["pi_1"]])
def test_payment_field_that_contains_a_list_is_not_a_payment(shop: Shop, field: Any) -> None:
    purchase = shop.add_purchase(None, stripePaymentIntentId=field)
    assert shop.refund(purchase).json["code"] == "payment_intent_missing"


class AggregateLog(monitoring.CommandListener):
    """Records the aggregations sent to MongoDB."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "aggregate":
            self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.mark.parametrize("collation", [None, {"locale": "de", "strength": 2}])
def test_purchase_is_read_with_its_records_by_the_index_on_id_and_majority_concern(
    mongo_uri: str, sandbox: StripeSandbox, collation: Any
) -> None:
    log = AggregateLog()
    with pymongo.MongoClient(mongo_uri, event_listeners=[log]) as client:
        database = client.get_default_database()
        database.create_collection("purchases", **({"collation": collation} if collation else {}))
        shop = Shop(make_app(REFUNDS_MONGO=database, STRIPE_API_BASE=sandbox.url), database)
        assert shop.refund(shop.add_purchase(sandbox.create_payment(2500))).status_code == 200
        database.flask_refunds.insert_many([{"_id": f"pi_of_another{each}:1"} for each in range(300)])
        [command] = log.commands
        assert command["readConcern"] == {"level": "majority"}
        explained = {name: command[name] for name in ("aggregate", "pipeline", "cursor")}
        plan = database.command("explain", explained, verbosity="executionStats")
    [lookup] = [each for each in plan["stages"] if each.get("$lookup", {}).get("from") == "flask_refunds"]
    assert (lookup["indexesUsed"], int(lookup["collectionScans"])) == (["_id_"], 0)
    assert int(lookup["totalDocsExamined"]) == (0 if collation else 1)
