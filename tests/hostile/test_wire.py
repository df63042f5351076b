"""Through a real server: requests that a client would put right, and answers compared to the byte."""

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
from tests.hostile.targets import ADMIN, ANN, ANN_S_INTENT, COMPLETED, NOWHERE, PREFIX, REFUNDED, World
from tests.hostile.tokens import good
from tests.integration.workers import gunicorn
from tests.mongod import TestServer

DATE = re.compile(rb"\r\nDate: [^\r]*")


class Served:
    """A world, and the port where its app is served."""

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port


@pytest.fixture(scope="module")
def served(mongo_server: TestServer) -> Iterator[Served]:
    name = f"refunds_wire_{uuid.uuid4().hex[:12]}"
    uri = mongo_server.uri(name)
    with pymongo.MongoClient(uri, tz_aware=True) as client, StripeSandbox() as sandbox:
        world = World(client.get_default_database(), sandbox)
        world.furnish()
        with gunicorn(MONGO_URI=uri, STRIPE_API_BASE=sandbox.url) as server:
            yield Served(world, server.port)
        client.drop_database(name)


def parse(answer: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """The last answer of those that came, and its body; an interim 100 is passed over."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")

    class Socket:
        def makefile(self, *args: Any) -> io.BytesIO:
            return io.BytesIO(answer)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


@pytest.mark.parametrize("name", wire.cases())
def test_a_raw_request(served: Served, name: str) -> None:
    case = wire.cases()[name]
    before = served.world.look()
    answer = wire.request(served.port, case.request)
    if not case.status:
        assert answer == b""
    else:
        response, body = parse(answer)
        refusal = case.status == wire.REFUSED and case.code is None
        assert response.status in (wire.REFUSALS if refusal else [case.status]), answer
        if case.code is not None:
            assert json.loads(body)["code"] == case.code
        canaries = Canaries()
        canaries.inspect(response.status, response.getheaders(), body)
        assert canaries.hits == []
    assert served.world.look() == before


def test_one_connection_lends_nobody_its_caller(served: Served) -> None:
    """The second request on it has no token."""
    before = served.world.look()
    first = f"GET {PREFIX}/admin/refunds HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {good()}\r\n\r\n"
    second = wire.head(f"POST {wire.PATH} HTTP/1.1", token="")
    answer = wire.request(served.port, first.encode() + second)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"200 OK" not in answer[12:]
    assert served.world.look() == before


# Whether there is such a purchase

THERE = {
    "a purchase": (f"{PREFIX}/admin/refund/{COMPLETED}", f"{PREFIX}/admin/refund/{NOWHERE}"),
    "a refunded purchase": (f"{PREFIX}/admin/refund/{REFUNDED}", f"{PREFIX}/admin/refund/{NOWHERE}"),
    "no id at all": (f"{PREFIX}/admin/refund/{COMPLETED}", f"{PREFIX}/admin/refund/none"),
    "a payment": (f"{PREFIX}/status/{ANN_S_INTENT}", f"{PREFIX}/status/pi_AnnsPurchase0000000002"),
    "a refund": (f"{PREFIX}/admin/refunds/{{refund}}", f"{PREFIX}/admin/refunds/pi_none:1"),
    "a user with purchases": (f"{PREFIX}/admin/all?user={ANN}", f"{PREFIX}/admin/all?user={NOWHERE}"),
}


@pytest.fixture(scope="module")
def refund_id(served: Served) -> str:
    served.world.database.flask_refunds.insert_one({"_id": "pi_there:1"})
    return "pi_there:1"


def same(served: Served, method: str, paths: tuple[str, str], token: str) -> bytes:
    """The one answer, but for its date, that both paths get."""
    answers = [
        DATE.sub(b"", wire.request(served.port, wire.head(f"{method} {path} HTTP/1.1", token=token)))
        for path in paths
    ]
    assert answers[0] == answers[1]
    assert answers[0]
    return answers[0]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "OPTIONS"])
@pytest.mark.parametrize("what", THERE)
def test_nobody_learns_whether_there_is(served: Served, refund_id: str, what: str, method: str) -> None:
    there, nowhere = THERE[what]
    paths = there.format(refund=refund_id), nowhere
    answers = {same(served, method, paths, token) for token in ("", "x", "a.b.c", good("0" * 24))}
    assert len(answers) == 1
    serves = method == "GET" or (method == "POST" and "/admin/refund/" in there)
    assert b"401" in answers.pop() or not serves


@pytest.mark.parametrize("what", [name for name in THERE if name != "a payment"])
def test_no_admin_learns_whether_there_is(served: Served, refund_id: str, what: str) -> None:
    there, nowhere = THERE[what]
    answer = same(served, "GET", (there.format(refund=refund_id), nowhere), good(ANN))
    assert b"403" in answer


def test_another_s_purchase_is_like_none(served: Served) -> None:
    assert b"404" in same(served, "GET", THERE["a payment"], good(ADMIN))
    with pytest.raises(AssertionError):
        same(served, "GET", THERE["a payment"], good(ANN))
