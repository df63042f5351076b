"""The admin page of an app that signs its users in by session, and what other websites can do with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, abort, redirect, request, session

from flask_refunds import refund_purchase
from flask_refunds.testing import StripeSandbox
from tests.browser.admin_page import AdminPage
from tests.browser.sample_data import add_purchase
from tests.live_server import serving
from tests.shop import Shop, make_app

PAGE = "/api/payments/admin/"
SIGN_IN = '<!doctype html><title>Shop</title><form method="post"><button>Sign in as Ada</button></form>'


@pytest.fixture
def login_url() -> str | None:
    return "/login"


@pytest.fixture
def shop(database: Any, sandbox: StripeSandbox, login_url: str | None) -> Shop:
    app = make_app(
        JWT_SECRET_KEY=None,
        REFUNDS_CURRENT_USER=lambda: shop.db.users.find_one(shop.admin_id) if "ada" in session else None,
        REFUNDS_LOGIN_URL=login_url,
        REFUNDS_MONGO=database,
        SECRET_KEY="of-the-app",
        STRIPE_API_BASE=sandbox.url,
    )
    app.add_url_rule("/login", "login", sign_in, methods=["GET", "POST"])
    shop = Shop(app, database)
    return shop


def sign_in() -> Any:
    if request.method == "GET":
        return SIGN_IN
    session["ada"] = True
    return redirect(request.args.get("next", "/login"))


@pytest.fixture
def tab(context: Any, shop: Shop, url: str) -> Iterator[AdminPage]:
    """A tab in which no user is signed in."""
    tab = AdminPage(context, url + PAGE, shop)
    yield tab
    tab.assert_no_errors()


def sign_in_as_ada(tab: AdminPage) -> None:
    tab.page.get_by_role("button", name="Sign in as Ada").click()


def open_signed_in(tab: AdminPage, url: str) -> None:
    tab.page.goto(f"{url}/login")
    sign_in_as_ada(tab)
    tab.open()


def test_signed_in_admin_refunds_without_a_token(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_signed_in(tab, url)
    tab.open_refund_dialog("Pruning")
    tab.note.fill("By session.")
    tab.submit_button.click()
    tab.wait_for_result("succeeded")
    assert sandbox.money_refunded(payment) == 4800
    [record] = shop.records()
    assert (record["requestedBy"], record["note"]) == (str(shop.admin_id), "By session.")
    assert tab.page.get_by_role("button", name="Sign out").count() == 0
    assert tab.page.locator("header").get_by_text("Signed in as Ann").count() == 1
    assert tab.page.evaluate("() => sessionStorage.getItem('flask_refunds.token')") is None


def test_page_leads_to_the_sign_in_page_and_back(tab: AdminPage, shop: Shop, sandbox: StripeSandbox) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    tab.open("#/purchases?q=ada%40shop.example")
    tab.dialog.get_by_role("heading", name="Sign in").wait_for()
    assert tab.dialog.get_by_text("expired").count() == 0
    assert tab.dialog.get_by_role("textbox").count() == 0
    tab.dialog.get_by_role("link", name="Sign in").click()
    sign_in_as_ada(tab)
    tab.row("Pruning").wait_for()
    assert tab.page.url.endswith("#/purchases?q=ada%40shop.example")


def test_expired_session_keeps_the_input(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    open_signed_in(tab, url)
    tab.open_refund_dialog("Pruning")
    tab.note.fill("A long story.")
    tab.context.clear_cookies()
    tab.submit_button.click()
    tab.page.get_by_text("Your session expired. Your input is kept.").wait_for()
    assert sandbox.refunds() == []
    tab.page.get_by_role("link", name="Sign in").click()
    sign_in_as_ada(tab)
    tab.note.wait_for()
    assert tab.note.input_value() == "A long story."
    tab.submit_button.click()
    tab.wait_for_result("succeeded")
    assert shop.records()[0]["note"] == "A long story."


@pytest.mark.parametrize("view", ["#/refunds", "#/purchases"])
def test_expired_session_keeps_the_comment_of_a_decision(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str, view: str
) -> None:
    """Also if the admin looks at another view first."""
    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    with shop.app.app_context(), sandbox.fault("requires_action"):
        refund_purchase(purchase, requested_by="Ben")
    open_signed_in(tab, url)
    tab.open(f"#/payment/{payment}")
    tab.page.get_by_text("Cancel refund…").click()
    tab.page.get_by_label("Why").fill("Paid in cash, see the receipt.")
    tab.context.clear_cookies()
    tab.page.get_by_role("button", name="Cancel the refund").click()
    tab.page.get_by_text("Your session expired. Your input is kept.").wait_for()
    tab.page.get_by_role("link", name="Sign in").click()
    sign_in_as_ada(tab)
    comment = tab.page.get_by_label("Why")
    comment.wait_for()
    tab.page.evaluate("view => { location.hash = view; }", view)
    comment.wait_for(state="detached")
    assert tab.dialog.count() == 0
    tab.page.go_back()
    assert comment.input_value() == "Paid in cash, see the receipt."
    tab.page.get_by_role("button", name="Cancel the refund").click()
    tab.page.get_by_role("log").get_by_text("Refund of $48.00 canceled").wait_for()
    assert [each["status"] for each in sandbox.refunds(payment)] == ["canceled"]


@pytest.mark.parametrize("login_url", [None])
def test_page_without_sign_in_address_continues_after_sign_in_elsewhere(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    tab.open()
    tab.dialog.get_by_text("Sign in to your app in another tab").wait_for()
    other = tab.context.new_page()
    other.goto(f"{url}/login")
    other.get_by_role("button", name="Sign in as Ada").click()
    tab.dialog.get_by_role("button", name="Continue").click()
    tab.row("Pruning").wait_for()


def test_session_is_used_after_a_stale_token(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str
) -> None:
    add_purchase(shop, sandbox.create_payment(4800))
    open_signed_in(tab, url)
    tab.page.evaluate("() => sessionStorage.setItem('flask_refunds.token', 'of.last.year')")
    tab.page.reload()
    tab.row("Pruning").wait_for()
    assert tab.dialog.count() == 0
    assert tab.page.evaluate("() => sessionStorage.getItem('flask_refunds.token')") is None


# Answers that aren't the API's


def reject_post(status: int) -> Any:
    """Return a hook that answers POST requests once, as an extension would."""
    rejected = []

    def hook() -> Any:
        if request.method != "POST" or request.path == "/login" or rejected:
            return None
        rejected.append(request.path)
        return redirect("/login") if status == 302 else abort(status)

    return hook


@pytest.mark.parametrize("status", [302, 400, 429])
def test_answer_of_another_extension_is_not_a_lost_response(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str, status: int
) -> None:
    shop.app.before_request_funcs[None] = [reject_post(status)]
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_signed_in(tab, url)
    tab.open_refund_dialog("Pruning")
    tab.note.fill("Kept.")
    tab.submit_button.click()
    tab.wait_for_result("rejected_elsewhere")
    text = tab.page.locator("[data-code=rejected_elsewhere]").inner_text()
    assert ("redirected" if status == 302 else f"with status {status}") in text
    assert "Most likely, nothing was sent to Stripe" in text
    assert sandbox.refunds() == []
    if status == 302:
        tab.page.get_by_role("link", name="Sign in").click()
        sign_in_as_ada(tab)
        tab.note.wait_for()
    tab.submit_button.click()
    tab.wait_for_result("succeeded")
    assert sandbox.money_refunded(payment) == 4800


@pytest.mark.parametrize("status", [408, 502])
def test_lost_response_of_a_proxy_may_have_refunded(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str, status: int
) -> None:
    payment = sandbox.create_payment(4800)
    add_purchase(shop, payment)
    open_signed_in(tab, url)
    tab.open_refund_dialog("Pruning")

    def replace(route: Any) -> None:
        route.fetch()
        route.fulfill(status=status, content_type="text/html", body="<h1>Timeout</h1>")

    tab.page.route("**/admin/refund/*", replace)
    tab.submit_button.click()
    tab.wait_for_result("no_response")
    assert sandbox.money_refunded(payment) == 4800


def test_list_shows_the_status_of_an_answer_of_a_proxy(tab: AdminPage, url: str) -> None:
    open_signed_in(tab, url)
    tab.page.route("**/admin/refunds?*", lambda route: route.fulfill(status=403, body="<h1>Forbidden</h1>"))
    tab.open("#/refunds")
    tab.page.get_by_role("alert").get_by_text("rejected this request with status 403").wait_for()


# Other websites


def make_attacker(target: str) -> Flask:
    """Return a website whose page sends requests to a URL: a form, a fetch, and an image."""
    attacker = Flask("attacker")

    @attacker.get("/form")
    def form() -> str:
        return f'<form method="post" action="{target}"></form><script>document.forms[0].submit()</script>'

    @attacker.get("/sandboxed")
    def sandboxed() -> str:
        document = f"<form method=post action={target}></form><script>document.forms[0].submit()</script>"
        return f'<iframe sandbox="allow-scripts allow-forms" srcdoc="{document}"></iframe>'

    @attacker.get("/fetch")
    def fetch() -> str:
        options = "{method: 'POST', mode: 'no-cors', credentials: 'include'}"
        return f"<script>fetch('{target}', {options})</script>"

    return attacker


@pytest.mark.parametrize("way", ["form", "sandboxed", "fetch"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_other_website_cannot_refund_with_the_admins_session(
    tab: AdminPage, shop: Shop, sandbox: StripeSandbox, url: str, way: str, host: str
) -> None:
    """With the shop's host and another port, the browser sends the cookie. It is a different origin."""
    seen: list[tuple[bool, int]] = []

    @shop.app.after_request
    def record(response: Any) -> Any:
        if "/admin/refund/" in request.path:
            seen.append(("session" in request.cookies, response.status_code))
        return response

    payment = sandbox.create_payment(4800)
    purchase = add_purchase(shop, payment)
    open_signed_in(tab, url)
    attacker = make_attacker(f"{url}{PAGE}refund/{purchase}")
    with serving(attacker) as attackers_url:
        tab.page.goto(f"{attackers_url.replace('127.0.0.1', host)}/{way}")
        while not seen:
            tab.page.wait_for_timeout(50)
    [(has_cookie, status)] = seen
    assert status == (403 if has_cookie else 401)
    assert has_cookie or host == "localhost" or way == "sandboxed"
    assert sandbox.refunds() == []
    assert shop.status_of(purchase) == "completed"
    tab.errors.clear()
