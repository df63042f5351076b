"""The page as it is served: where, with which headers, how heavy; and that a host can leave it out."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import mongomock
import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_refunds import refunds_bp
from flask_refunds.console.assets import STATIC
from tests.shop import STRIPE_KEY, make_app, make_config

ROOT = Path(__file__).parents[2]
MAX_BYTES = 150 * 1024
VENDORED = [STATIC / "vendor" / "VENDORED", Path(__file__).parent / "vendor" / "VENDORED"]


def make_client(**config: Any) -> FlaskClient:
    return make_app(REFUNDS_MONGO=mongomock.MongoClient(tz_aware=True).shop, **config).test_client()


def linked(page: TestResponse) -> list[str]:
    """Where the page says that its files are."""
    return re.findall(r'(?:href|src)="([^"#]+)"', page.text)


def test_the_page_s_headers() -> None:
    page = make_client().get("/api/payments/admin/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    policy = dict(each.split(" ", 1) for each in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "Set-Cookie" not in page.headers


def test_the_page_holds_no_secret_and_nothing_inline() -> None:
    page = make_client().get("/api/payments/admin/").text
    assert STRIPE_KEY not in page
    assert "{{" not in page
    assert "style=" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=", page)


def test_its_facts() -> None:
    page = make_client(
        REFUNDS_CONSOLE_LOGIN_URL='/in?"><b>',
        STRIPE_SECRET_KEY="rk_live_1",
        REFUNDS_PAYMENT_INTENT_FIELD="paid.by",
    ).get("/api/payments/admin/")
    assert 'data-mode="live" data-login-url="/in?&#34;&gt;&lt;b&gt;" data-payment-intent-field="paid.by"' in (
        page.text
    )


@pytest.mark.parametrize("prefix", ["/api/payments", "/money/back", "/v1/pay/refunds"])
def test_every_link_is_relative_and_leads_to_a_file(prefix: str) -> None:
    app = Flask("host")
    app.config.update(make_config(REFUNDS_MONGO=mongomock.MongoClient(tz_aware=True).shop))
    outer, _, rest = prefix.rpartition("/")
    parent = Blueprint("parent", "host", url_prefix=outer)
    parent.register_blueprint(refunds_bp, url_prefix=f"/{rest}", name="inner")
    app.register_blueprint(parent)
    client = app.test_client()

    links = linked(client.get(f"{prefix}/admin/"))

    assert len(links) > 10
    for link in links:
        assert link.startswith("assets/")
        assert client.get(f"{prefix}/admin/{link}").status_code == 200


def test_without_the_slash() -> None:
    response = make_client().get("/api/payments/admin")
    assert (response.status_code, response.headers["Location"]) == (308, "admin/")


def test_files_are_kept_for_good_and_compressed_on_request() -> None:
    client = make_client()
    [script] = [each for each in linked(client.get("/api/payments/admin/")) if each.endswith("/ui.js")]
    plain = client.get(f"/api/payments/admin/{script}")
    assert plain.mimetype == "text/javascript"
    assert plain.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain.headers["Vary"] == "Accept-Encoding"
    packed = client.get(f"/api/payments/admin/{script}", headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data


@pytest.mark.parametrize(
    "name", ["main.js", "../__init__.py", "%2e%2e/assets.py", "vendor/VENDORED", "nothing.js"]
)
def test_nothing_but_its_files(name: str) -> None:
    client = make_client()
    base = linked(client.get("/api/payments/admin/"))[0].rpartition("/")[0]
    paths = {f"assets/0/{name}", f"{base}/{name}"} - {f"{base}/main.js"}
    for path in paths:
        assert client.get(f"/api/payments/admin/{path}").status_code == 404


def test_left_out() -> None:
    client = make_client(REFUNDS_CONSOLE=False)
    base = linked(make_client().get("/api/payments/admin/"))[0]
    for path in ("admin", "admin/", f"admin/{base}"):
        assert client.get(f"/api/payments/{path}").status_code == 404
    assert client.get("/api/payments/admin/all").status_code == 401


def test_its_weight() -> None:
    client = make_client()
    packed = {"Accept-Encoding": "gzip"}
    page = client.get("/api/payments/admin/")
    weight = len(client.get("/api/payments/admin/", headers=packed).data)
    for link in set(linked(page)):
        weight += len(client.get(f"/api/payments/admin/{link}", headers=packed).data)
    assert weight < MAX_BYTES


@pytest.mark.parametrize("listed", VENDORED, ids=lambda path: str(path.relative_to(ROOT)))
def test_other_people_s_files_are_as_they_published_them(listed: Path) -> None:
    lines = [line.split() for line in listed.read_text().splitlines() if not line.startswith("#")]
    for name, _package, version, _licence, _path, checksum in lines:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert sha256((listed.parent / name).read_bytes()).hexdigest() == checksum
        assert (listed.parent / name).with_suffix(".LICENSE").exists()
    scripts = {path.name for path in listed.parent.glob("*.js")}
    assert scripts == {line[0] for line in lines}
