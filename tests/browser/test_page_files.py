"""The files of the admin page: URLs, headers, size, and the setting that turns the page off."""

from __future__ import annotations

import gzip
import html
import json
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


def find_links(page: TestResponse) -> list[str]:
    """Return the links to the page's files."""
    return re.findall(r'(?:href|src)="([^"#]+)"', page.text)


def test_page_has_security_headers() -> None:
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


def test_page_contains_no_secret_and_no_inline_code() -> None:
    page = make_client().get("/api/payments/admin/").text
    assert STRIPE_KEY not in page
    assert "{{" not in page
    assert "style=" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=", page)


def test_page_contains_the_escaped_settings() -> None:
    page = make_client(
        REFUNDS_LOGIN_URL='/in?"><b>',
        REFUNDS_ORDER_URL='/o/{id}?"><b>',
        STRIPE_SECRET_KEY="rk_live_1",
        REFUNDS_STATUS_COMPLETED=['"><b>', 3, True],
        REFUNDS_STATUS_REFUNDED="returned",
    ).get("/api/payments/admin/")
    assert 'data-mode="live" data-login-url="/in?&#34;&gt;&lt;b&gt;" data-statuses="' in page.text
    assert 'data-order-url="/o/{id}?&#34;&gt;&lt;b&gt;">' in page.text
    [statuses] = re.findall('data-statuses="(.*?)"', page.text)
    expected = ['"><b>', "3", "true", "returned", "pending", "failed"]
    assert json.loads(html.unescape(statuses)) == expected


@pytest.mark.parametrize(
    ("config", "attributes"),
    [
        ({}, 'data-token-header="Authorization" data-token-type="Bearer"'),
        (
            {"JWT_HEADER_NAME": "X-Token", "JWT_HEADER_TYPE": ""},
            'data-token-header="X-Token" data-token-type=""',
        ),
    ],
)
def test_page_contains_the_header_of_tokens(config: dict[str, str], attributes: str) -> None:
    assert attributes in make_client(**config).get("/api/payments/admin/").text


@pytest.mark.parametrize("prefix", ["/api/payments", "/money/back", "/v1/pay/refunds"])
def test_links_are_relative_and_work_below_any_prefix(prefix: str) -> None:
    app = Flask("shop")
    app.config.update(make_config(REFUNDS_MONGO=mongomock.MongoClient(tz_aware=True).shop))
    outer, _, rest = prefix.rpartition("/")
    parent = Blueprint("parent", "shop", url_prefix=outer)
    parent.register_blueprint(refunds_bp, url_prefix=f"/{rest}", name="inner")
    app.register_blueprint(parent)
    client = app.test_client()

    links = find_links(client.get(f"{prefix}/admin/"))

    assert len(links) > 10
    for link in links:
        assert link.startswith("assets/")
        assert client.get(f"{prefix}/admin/{link}").status_code == 200


def test_url_without_trailing_slash_redirects() -> None:
    response = make_client().get("/api/payments/admin")
    assert (response.status_code, response.headers["Location"]) == (308, "admin/")


def test_files_are_immutable_and_compressed_if_accepted() -> None:
    client = make_client()
    [script] = [each for each in find_links(client.get("/api/payments/admin/")) if each.endswith("/ui.js")]
    plain = client.get(f"/api/payments/admin/{script}")
    assert plain.mimetype == "text/javascript"
    assert plain.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain.headers["Vary"] == "Accept-Encoding"
    compressed = client.get(f"/api/payments/admin/{script}", headers={"Accept-Encoding": "gzip, br"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data


@pytest.mark.parametrize(
    "name", ["main.js", "../__init__.py", "%2e%2e/assets.py", "vendor/VENDORED", "nothing.js"]
)
def test_other_files_and_versions_are_not_found(name: str) -> None:
    client = make_client()
    base = find_links(client.get("/api/payments/admin/"))[0].rpartition("/")[0]
    paths = {f"assets/0/{name}", f"{base}/{name}"} - {f"{base}/main.js"}
    for path in paths:
        assert client.get(f"/api/payments/admin/{path}").status_code == 404


def test_disabled_page_and_its_files_are_not_found() -> None:
    client = make_client(REFUNDS_ADMIN_PAGE=False)
    base = find_links(make_client().get("/api/payments/admin/"))[0]
    for path in ("admin", "admin/", f"admin/{base}"):
        assert client.get(f"/api/payments/{path}").status_code == 404
    assert client.get("/api/payments/admin/all").status_code == 401


def test_page_is_small() -> None:
    client = make_client()
    headers = {"Accept-Encoding": "gzip"}
    page = client.get("/api/payments/admin/")
    size = len(client.get("/api/payments/admin/", headers=headers).data)
    for link in set(find_links(page)):
        size += len(client.get(f"/api/payments/admin/{link}", headers=headers).data)
    assert size < MAX_BYTES


@pytest.mark.parametrize("listed", VENDORED, ids=lambda path: str(path.relative_to(ROOT)))
def test_vendored_files_have_the_published_checksums(listed: Path) -> None:
    lines = [line.split() for line in listed.read_text().splitlines() if not line.startswith("#")]
    for name, _package, version, _licence, _path, checksum in lines:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert sha256((listed.parent / name).read_bytes()).hexdigest() == checksum
        assert (listed.parent / name).with_suffix(".LICENSE").exists()
    scripts = {path.name for path in listed.parent.glob("*.js")}
    assert scripts == {line[0] for line in lines}
