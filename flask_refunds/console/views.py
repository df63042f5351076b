"""Views of the admin page and its static files. Neither contains a secret."""

from __future__ import annotations

from flask import Response, abort, request
from markupsafe import escape

from ..config import Settings
from ..config.tokens import TokenSettings
from ..extension import current_refunds
from ..schemas.rendering import render_text, to_json
from ..web.responses import json_errors
from .assets import Asset, content_version, find_asset, script_names

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
_IMMUTABLE = "public, max-age=31536000, immutable"


@json_errors
def show_page() -> Response:
    """``GET /admin/``: return the page. It contains no data: its scripts load that as the admin."""
    settings = _page_settings()
    tokens = current_refunds().verifier.settings
    if not request.path.endswith("/"):
        # Relative, like the links of the page, so that it is correct behind any proxy.
        return Response(status=308, headers={"Location": "admin/"})
    response = _asset_response(Asset(_render_page(settings, tokens).encode(), "text/html"))
    response.headers.update(_PAGE_HEADERS)
    return response


@json_errors
def send_asset(version: str, name: str) -> Response:
    """``GET /admin/assets/<version>/<name>``: return a static file, which caches may store forever."""
    _page_settings()
    asset = find_asset(name) if version == content_version() else None
    if asset is None:
        abort(404)
    response = _asset_response(asset)
    response.headers["Cache-Control"] = _IMMUTABLE
    return response


def _statuses(settings: Settings) -> list[str | None]:
    """Return the statuses that the page offers as a filter: the app's own, and two that most apps have."""
    words = (*settings.refunds_status_completed, settings.refunds_status_refunded, "pending", "failed")
    return list(dict.fromkeys(map(render_text, words)))


def _page_settings() -> Settings:
    settings = current_refunds().settings
    if not settings.refunds_admin_page:
        abort(404)
    return settings


def _asset_response(asset: Asset) -> Response:
    response = Response(asset.content, mimetype=asset.mimetype)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"]:
        response.set_data(asset.gzipped)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _render_page(settings: Settings, tokens: TokenSettings) -> str:
    """Fill the placeholders of the page. Jinja isn't used because its environment is your app's."""
    base = f"assets/{content_version()}"
    preloads = "\n".join(f'<link rel="modulepreload" href="{base}/{name}">' for name in script_names())
    placeholders = {
        "{{assets}}": base,
        "{{login_url}}": str(escape(settings.refunds_login_url or "")),
        "{{order_url}}": str(escape(settings.refunds_order_url or "")),
        "{{mode}}": "live" if settings.livemode else "test",
        "{{preloads}}": preloads,
        "{{session}}": "false" if settings.refunds_current_user is None else "true",
        "{{statuses}}": str(escape(to_json(_statuses(settings)))),
        "{{token_header}}": str(escape(tokens.jwt_header_name)),
        "{{token_type}}": str(escape(tokens.jwt_header_type)),
    }
    page = find_asset("index.html")
    assert page is not None  # noqa: S101 - part of this package
    text = page.content.decode()
    for name, value in placeholders.items():
        text = text.replace(name, value)
    return text
