"""Every BSON type, and a refund, as JSON."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import (
    SON,
    Binary,
    Code,
    CodecOptions,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    decode,
    encode,
)
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_refunds.models import Failure, Part, RefundStatus, Review, ReviewCode
from flask_refunds.purchase_fields import PurchaseFields
from flask_refunds.refund_details import RefundDetails
from flask_refunds.schemas.rendering import render, render_found, render_purchase, render_refund, to_json
from flask_refunds.storage.search import FoundPurchase
from tests.unit.refund_harness import make_refund

ID = "64b5f2c8e13e4a5b6c7d8e9f"
UTC = timezone.utc


def strict(value: Any) -> Any:
    """Return a rendered value as a strict JSON parser (RFC 8259) reads it."""

    def reject(name: str) -> None:
        raise AssertionError(f"{name} isn't JSON")

    text = to_json(render(value))
    text.encode("utf-8")
    return json.loads(text, parse_constant=reject)


RENDERED: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (False, False),
    (0, 0),
    (-(2**63), -(2**63)),
    (Int64(2**63 - 1), 2**63 - 1),
    (19.99, 19.99),
    (0.1 + 0.2, 0.30000000000000004),
    (float("nan"), None),
    (float("inf"), None),
    (float("-inf"), None),
    (Decimal128("19.90"), "19.90"),
    (Decimal128("NaN"), "NaN"),
    (Decimal128("Infinity"), "Infinity"),
    ("", ""),
    ("Ünïcødé 🎉 \0\u2028", "Ünïcødé 🎉 \0\u2028"),
    (ObjectId(ID), ID),
    (datetime(2024, 3, 15, 10, 30, tzinfo=UTC), "2024-03-15T10:30:00.000Z"),
    (datetime(2024, 3, 15, 10, 30), "2024-03-15T10:30:00.000Z"),  # noqa: DTZ001
    (datetime(2024, 3, 15, 10, 30, 0, 123999, tzinfo=UTC), "2024-03-15T10:30:00.123Z"),
    (datetime(2024, 3, 15, 12, 30, tzinfo=timezone(timedelta(hours=2))), "2024-03-15T10:30:00.000Z"),
    (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    (datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
    (DatetimeMS(2**62), str(2**62)),
    (DatetimeMS(-(2**62)), str(-(2**62))),
    (b"\x00\xff", "AP8="),
    (Binary(b"\x00\xff", 128), "AP8="),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Code("x => 1"), "x => 1"),
    ([], []),
    ((1, [ObjectId(ID)]), [1, [ID]]),
    ({}, {}),
    ({"a": {"b": [ObjectId(ID), {"c": Decimal128("1")}]}}, {"a": {"b": [ID, {"c": "1"}]}}),
    ({1: "one", None: "none", ObjectId(ID): "id"}, {"1": "one", "None": "none", ID: "id"}),
    ({"": 1, "a.b": 2, "$set": 3, "__proto__": 4}, {"": 1, "a.b": 2, "$set": 3, "__proto__": 4}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (SON(a=ObjectId(ID)), {"a": ID}),
    (RawBSONDocument(encode({"a": ObjectId(ID), "b": {"c": 1}})), {"a": ID, "b": {"c": 1}}),
]


@pytest.mark.parametrize(("stored", "shown"), RENDERED)
def test_value_is_rendered_as_json(stored: Any, shown: Any) -> None:
    assert strict(stored) == shown
    assert type(strict(stored)) is type(shown)


def test_naive_time_is_utc_in_any_server_timezone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        assert render(datetime(2024, 3, 15, 10, 30)) == "2024-03-15T10:30:00.000Z"  # noqa: DTZ001
    time.tzset()


RARE = [
    Regex("^a", "i"),
    re.compile("^a"),
    Timestamp(1, 2),
    MinKey(),
    MaxKey(),
    DBRef("users", ObjectId(ID)),
    Code("x", {"y": ObjectId(ID)}),
    Binary.from_uuid(uuid.UUID(int=1)),
    Binary(b"x", 200),
]


@pytest.mark.parametrize("value", RARE, ids=lambda value: type(value).__name__)
def test_rare_bson_value_is_rendered_as_text(value: Any) -> None:
    for nested in (value, {"a": [value]}):
        assert strict(nested) is not None
    assert isinstance(strict(value), str)
    assert " object at 0x" not in strict(value)


def test_field_order_is_preserved() -> None:
    document = dict.fromkeys(["_id", "z", "a", "m"])
    assert to_json(render(document)) == '{"_id":null,"z":null,"a":null,"m":null}'


def test_rendered_document_is_not_modified() -> None:
    document = {"_id": ObjectId(ID), "nested": {"ids": [ObjectId(ID)]}}
    before = encode(document)
    render(document)
    assert encode(document) == before


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    | st.binary(max_size=10)
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.sampled_from([*RARE, Decimal128("1.50"), Decimal128("-NaN")])
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=5,
)


@settings(deadline=None)
@given(DOCUMENTS)
def test_any_storable_document_is_rendered(document: dict[str, Any]) -> None:
    """The document is encoded as BSON and decoded as the library does it."""
    options = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    shown = strict(decode(encode(document), options))
    assert shown.keys() == document.keys()


AT = datetime(2024, 3, 15, 10, 30, tzinfo=UTC)
REFUND = make_refund(
    id="pi_1:1",
    payment_intent="pi_1",
    number=1,
    purchase_ids=[ObjectId(ID), "legacy"],
    status=RefundStatus.FAILED,
    amount=1999,
    currency="eur",
    reason="duplicate",
    note='<b>"note"</b>',
    requested_by=ID,
    source="api",
    bulk_run="recall-2024",
    stripe_refund_id="re_1",
    charge="ch_1",
    stripe_account="acct_1",
    livemode=True,
    amount_received=1999,
    failure=Failure("card_declined", "No."),
    review=Review(ReviewCode.FAILED_AFTER_SUCCESS, AT),
    created_at=AT,
    updated_at=AT,
    settled_at=None,
    part=Part(500, 1999, 1, mark_refunded=True),
    details=RefundDetails(
        destination="card", reference="7492", action_expires_at=AT, presentment_amount=2150
    ),
    request={"payment_intent": "pi_1"},
    lease_token="secret-lease-token",
    attempts=1,
    lease_expires_at=AT,
    signals_sent=False,
    history=[{"at": AT, "actor": f"api:{ID}"}],
)


def test_refund_is_rendered_for_the_api() -> None:
    time = "2024-03-15T10:30:00.000Z"
    rendered = {
        "id": "pi_1:1",
        "paymentIntent": "pi_1",
        "purchaseIds": [ID, "legacy"],
        "status": "failed",
        "amount": 1999,
        "currency": "eur",
        "reason": "duplicate",
        "note": '<b>"note"</b>',
        "requestedBy": ID,
        "source": "api",
        "bulkRun": "recall-2024",
        "part": {"amount": 500, "refundable": 1999, "number": 1, "markRefunded": True},
        "stripeRefundId": "re_1",
        "charge": "ch_1",
        "stripeAccount": "acct_1",
        "livemode": True,
        "isFull": False,
        "failure": {"code": "card_declined", "message": "No."},
        "details": {
            "destination": "card",
            "isReversal": None,
            "reference": "7492",
            "referenceType": None,
            "referenceStatus": None,
            "pendingReason": None,
            "instructionsEmail": None,
            "actionEmail": None,
            "actionEmailSentAt": None,
            "actionExpiresAt": time,
            "receiptNumber": None,
            "balanceTransaction": None,
            "failureBalanceTransaction": None,
            "presentmentAmount": 2150,
            "presentmentCurrency": None,
        },
        "advice": {
            "happened": "The refund failed, and the bank didn't say why.",
            "money": "The money is back in your Stripe balance.",
            "action": "Refund again once. If that fails, too, ask the customer how you can pay them.",
        },
        "customerMessage": (
            "Your refund of 19.99 EUR couldn't be paid out, and the money came back to us. "
            "Please tell us how we can pay you instead, such as by bank transfer."
        ),
        "review": {
            "code": "failed_after_success",
            "message": "This refund succeeded, and then the customer's bank returned it.",
            "recommendedAction": "Contact the customer, then refund again or pay another way.",
            "since": time,
        },
        "createdAt": time,
        "updatedAt": time,
        "settledAt": None,
    }
    assert strict(render_refund(REFUND)) == rendered
    history = [{"at": time, "actor": f"api:{ID}"}]
    assert strict(render_refund(REFUND, history=True)) == rendered | {"history": history}


# Purchases

SHAPE = PurchaseFields(
    status="order.state",
    user="buyer.$id",
    content="item.ref",
    created="placed",
    completed_words=("paid", 3),
    refunded_word=False,
)
PLACED = datetime(2024, 3, 15, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"order": {"state": "paid"}}, {"status": "completed", "refundable": False}),
        ({"order": {"state": 3.0}, "stripePaymentIntentId": "pi_1"}, {"refundable": True, "payment": "pi_1"}),
        ({"order": {"state": False}}, {"status": "refunded", "refundable": False}),
        ({"order": {"state": True}}, {"status": "true"}),
        ({"order": {"state": 0}}, {"status": "0"}),
        ({"order": {"state": {"name": "paid"}}}, {"status": None}),
        ({"order": ["paid"]}, {"status": None}),
        ({"stripePaymentIntentId": "pi_1_secret_2"}, {"paymentIntent": None, "payment": None}),
        ({"stripePaymentIntentId": ["pi_1"]}, {"paymentIntent": None, "payment": None}),
        ({"buyer": DBRef("users", 7)}, {"user": {"id": "7"}}),
        ({"item": {"ref": ObjectId(ID)}}, {"content": {"id": ID}}),
        ({"item": {"ref": {"id": 1}}}, {"content": None}),
        ({"placed": PLACED}, {"createdAt": "2024-03-15T10:30:00.000Z"}),
        *(
            ({"placed": each}, {"createdAt": None})
            for each in ("2024-03-15", DatetimeMS(2**60), [PLACED], 17)
        ),
        ({"amount": {"value": 1}}, {"amountText": None}),
    ],
)
def test_purchase_of_any_shape_has_the_same_names(stored: dict[str, Any], shown: dict[str, Any]) -> None:
    rendered = render_purchase({"_id": 7, "_refunds": "the app's own", **stored}, SHAPE)
    assert {name: rendered["_refunds"][name] for name in shown} == shown
    assert rendered["_refunds"]["id"] == rendered["_id"] == "7"
    assert set(rendered) == {"_id", "_refunds", *stored}


def test_found_documents_replace_the_references_of_a_purchase() -> None:
    stored = {"_id": 7, "item": {"ref": 1, "count": 2}, "buyer": DBRef("users", 7)}
    content = {"_id": 1, "title": {"en": "Pruning"}, "type": "course"}
    rendered = render_found(FoundPurchase(stored, None, content), SHAPE)
    assert rendered["item"] == {"ref": {**content, "_id": "1"}, "count": 2}
    assert rendered["_refunds"]["content"] == {"id": "1", "title": None, "type": "course"}
    assert rendered["_refunds"]["user"] is None
    missing = render_found(FoundPurchase({"_id": 7, "item": "text"}, None, None), SHAPE)
    assert (missing["item"], "buyer" in missing) == ("text", False)
