"""Raw requests to a real server, and responses compared byte for byte."""

from __future__ import annotations

import http.client
import io
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from flask_refunds.testing import StripeSandbox
from tests.canaries import Canaries
from tests.hostile import wire
from tests.hostile.targets import ADMIN, ANN, ANN_S_INTENT, COMPLETED, PREFIX, REFUNDED, UNKNOWN, Targets
from tests.hostile.tokens import valid_token
from tests.integration.workers import gunicorn
from tests.mongod import TestServer

DATE = re.compile(rb"\r\nDate: [^\r]*")


class Served:
    """Targets, and the port of the server."""

    def __init__(self, targets: Targets, port: int) -> None:
        self.targets = targets
        self.port = port


@pytest.fixture(scope="module")
def served(mongo_server: TestServer) -> Iterator[Served]:
    name = f"refunds_wire_{uuid.uuid4().hex[:12]}"
    uri = mongo_server.uri(name)
    with pymongo.MongoClient(uri, tz_aware=True) as client, StripeSandbox() as sandbox:
        targets = Targets(client.get_default_database(), sandbox)
        targets.populate()
        with gunicorn(MONGO_URI=uri, STRIPE_API_BASE=sandbox.url) as server:
            yield Served(targets, server.port)
        client.drop_database(name)


def parse(answer: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """Parse the response and its body, after an interim 100 response."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")

    class Socket:
        def makefile(self, *args: Any) -> io.BytesIO:
            return io.BytesIO(answer)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


@pytest.mark.parametrize("name", wire.cases())
def test_raw_request_is_rejected_and_changes_nothing(served: Served, name: str) -> None:
    case = wire.cases()[name]
    before = served.targets.snapshot()
    answer = wire.send(served.port, case.request)
    if not case.status:
        assert answer == b""
    else:
        response, body = parse(answer)
        by_server = case.status == wire.REJECTED and case.code is None
        assert response.status in (wire.SERVER_REJECTIONS if by_server else [case.status]), answer
        if case.code is not None:
            assert json.loads(body)["code"] == case.code
        canaries = Canaries()
        canaries.inspect(response.status, response.getheaders(), body)
        assert canaries.hits == []
    assert served.targets.snapshot() == before


def test_second_request_on_a_connection_has_no_caller(served: Served) -> None:
    before = served.targets.snapshot()
    first = (
        f"GET {PREFIX}/admin/refunds HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {valid_token()}\r\n\r\n"
    )
    second = wire.head(f"POST {wire.PATH} HTTP/1.1", token="")
    answer = wire.send(served.port, first.encode() + second)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"200 OK" not in answer[12:]
    assert served.targets.snapshot() == before


# Responses must not depend on whether an ID exists

EXISTING = {
    "a purchase": (f"{PREFIX}/admin/refund/{COMPLETED}", f"{PREFIX}/admin/refund/{UNKNOWN}"),
    "a refunded purchase": (f"{PREFIX}/admin/refund/{REFUNDED}", f"{PREFIX}/admin/refund/{UNKNOWN}"),
    "not an ID": (f"{PREFIX}/admin/refund/{COMPLETED}", f"{PREFIX}/admin/refund/none"),
    "a payment": (f"{PREFIX}/status/{ANN_S_INTENT}", f"{PREFIX}/status/pi_AnnsPurchase0000000002"),
    "a refund": (f"{PREFIX}/admin/refunds/{{refund}}", f"{PREFIX}/admin/refunds/pi_none:1"),
    "a user with purchases": (f"{PREFIX}/admin/all?user={ANN}", f"{PREFIX}/admin/all?user={UNKNOWN}"),
}


@pytest.fixture(scope="module")
def refund_id(served: Served) -> str:
    served.targets.database.flask_refunds.insert_one({"_id": "pi_there:1"})
    return "pi_there:1"


def identical_response(served: Served, method: str, paths: tuple[str, str], token: str) -> bytes:
    """Return the response of both paths, which must be identical except for the date."""
    answers = [
        DATE.sub(b"", wire.send(served.port, wire.head(f"{method} {path} HTTP/1.1", token=token)))
        for path in paths
    ]
    assert answers[0] == answers[1]
    assert answers[0]
    return answers[0]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "OPTIONS"])
@pytest.mark.parametrize("what", EXISTING)
def test_unauthenticated_responses_do_not_depend_on_existence(
    served: Served, refund_id: str, what: str, method: str
) -> None:
    existing, unknown = EXISTING[what]
    paths = existing.format(refund=refund_id), unknown
    answers = {
        identical_response(served, method, paths, token)
        for token in ("", "x", "a.b.c", valid_token("0" * 24))
    }
    assert len(answers) == 1
    has_route = method == "GET" or (method == "POST" and "/admin/refund/" in existing)
    assert b"401" in answers.pop() or not has_route


@pytest.mark.parametrize("what", [name for name in EXISTING if name != "a payment"])
def test_responses_to_non_admins_do_not_depend_on_existence(
    served: Served, refund_id: str, what: str
) -> None:
    existing, unknown = EXISTING[what]
    answer = identical_response(served, "GET", (existing.format(refund=refund_id), unknown), valid_token(ANN))
    assert b"403" in answer


def test_other_users_purchase_is_indistinguishable_from_missing(served: Served) -> None:
    assert b"404" in identical_response(served, "GET", EXISTING["a payment"], valid_token(ADMIN))
    with pytest.raises(AssertionError):
        identical_response(served, "GET", EXISTING["a payment"], valid_token(ANN))
