"""The admin's page: files that hold no secret, and the few facts about this app that they need."""

from __future__ import annotations

from flask import Response, abort, request
from markupsafe import escape

from ..config import Settings
from ..extension import current_refunds
from ..web.responses import json_errors
from .assets import Asset, find_asset, modules, version

_CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_FOR_GOOD = "public, max-age=31536000, immutable"


@json_errors
def show_page() -> Response:
    """``GET /admin/``: the page, the same for everybody; what it shows, it asks with the admin's token."""
    settings = _open_console()
    if not request.path.endswith("/"):
        # Its links are relative to its own address, and so is this, to be right behind any proxy.
        return Response(status=308, headers={"Location": "admin/"})
    response = _serve(Asset(_page(settings).encode(), "text/html"))
    response.headers.update(_PAGE_HEADERS)
    return response


@json_errors
def send_asset(of_version: str, name: str) -> Response:
    """``GET /admin/assets/<version>/<name>``: a file of the page, which any cache may keep for good."""
    _open_console()
    asset = find_asset(name) if of_version == version() else None
    if asset is None:
        abort(404)
    response = _serve(asset)
    response.headers["Cache-Control"] = _FOR_GOOD
    return response


def _open_console() -> Settings:
    settings = current_refunds().settings
    if not settings.refunds_admin_page:
        abort(404)
    return settings


def _serve(asset: Asset) -> Response:
    response = Response(asset.content, mimetype=asset.mimetype)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"]:
        response.set_data(asset.gzipped)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _page(settings: Settings) -> str:
    """The page with its facts. Not by Jinja, whose environment is the host's."""
    base = f"assets/{version()}"
    preloads = "\n".join(f'<link rel="modulepreload" href="{base}/{name}">' for name in modules())
    facts = {
        "{{assets}}": base,
        "{{login_url}}": str(escape(settings.refunds_login_url or "")),
        "{{mode}}": "live" if settings.livemode else "test",
        "{{payment_intent_field}}": str(escape(settings.payment_field)),
        "{{preloads}}": preloads,
    }
    page = find_asset("index.html")
    assert page is not None  # noqa: S101 - a file of this package
    text = page.content.decode()
    for name, value in facts.items():
        text = text.replace(name, value)
    return text
