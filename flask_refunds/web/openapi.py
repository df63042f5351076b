"""The HTTP contract as an OpenAPI document: ``openapi.json``, kept by hand beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from flask import Response

from .responses import json_errors, no_store


@json_errors
def show_contract() -> Response:
    """``GET /openapi.json``: the contract, the same for everybody.

    It asks for no token and reads no config: it tells what the package tells whoever installs it, and who
    sets an app up can read it before anything else works.
    """
    return no_store(Response(_document(), mimetype="application/json"))


@cache
def _document() -> bytes:
    return Path(__file__).parents[1].joinpath("openapi.json").read_bytes()
