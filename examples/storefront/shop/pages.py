"""The shop's pages. Who is signed in is known to the browser only, so they hold nothing private."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template

from .database import db
from .orders import CARDS

pages_bp = Blueprint("pages", __name__)

TYPES = {"course": "Course", "ebook": "E-book", "audiobook": "Audiobook"}


@pages_bp.after_request
def protect(response: Response) -> Response:
    """The token is in the page's reach, so no script may run there but ours."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


@pages_bp.get("/")
def catalogue() -> str:
    """The catalogue, and the checkout beside it."""
    contents = list(db().contents.find({}, {"body": 0}).sort("title", 1))
    return render_template("shop.html", contents=contents, cards=CARDS.values(), types=TYPES)


@pages_bp.get("/sign-in")
def sign_in() -> str:
    """The form, and in a demo its accounts."""
    return render_template("sign_in.html", accounts=current_app.config.get("SHOP_DEMO_ACCOUNTS", ()))


@pages_bp.get("/purchases")
def purchases() -> str:
    """What the customer bought."""
    return render_template("purchases.html", types=TYPES)


@pages_bp.get("/admin")
def admin() -> str:
    """All purchases, and the refund button."""
    return render_template("admin.html", types=TYPES)
