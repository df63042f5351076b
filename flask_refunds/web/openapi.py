"""Serve the API's OpenAPI document, ``openapi.json``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from flask import Response

from .responses import json_errors, no_store


@json_errors
def show_openapi() -> Response:
    """``GET /openapi.json``: show the OpenAPI document.

    It needs no token and no config: it is public, and useful before the app is configured.
    """
    return no_store(Response(_document(), mimetype="application/json"))


@cache
def _document() -> bytes:
    return Path(__file__).parents[1].joinpath("openapi.json").read_bytes()
