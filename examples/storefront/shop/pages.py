"""The shop's pages. They contain no private data: the browser holds the token and calls the API."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template

from .database import db
from .orders import CARDS

pages_bp = Blueprint("pages", __name__)

TYPES = {"course": "Course", "ebook": "E-book", "audiobook": "Audiobook"}


@pages_bp.after_request
def add_security_headers(response: Response) -> Response:
    """Allow scripts from this server only, because scripts in the page can read the token."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@pages_bp.get("/")
def catalogue() -> str:
    """Show the catalogue and the checkout."""
    contents = list(db().contents.find({}, {"body": 0}).sort("title", 1))
    return render_template("shop.html", contents=contents, cards=CARDS.values(), types=TYPES)


@pages_bp.get("/sign-in")
def sign_in() -> str:
    """Show the sign-in form and the demo's accounts."""
    return render_template("sign_in.html", accounts=current_app.config.get("SHOP_DEMO_ACCOUNTS", ()))


@pages_bp.get("/purchases")
def purchases() -> str:
    """Show the customer's purchases."""
    return render_template("purchases.html", types=TYPES)


@pages_bp.get("/admin")
def admin() -> str:
    """Show all purchases, with refund buttons."""
    return render_template("admin.html", types=TYPES)
