"""Check responses against the package's OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

import flask_refunds

DOCUMENT: dict[str, Any] = json.loads(
    Path(flask_refunds.__file__).with_name("openapi.json").read_text(encoding="utf-8")
)
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PARAMETER = re.compile(r"<(?:\w+:)?\w+>")


def resolve(node: Any) -> Any:
    """Return a node, or the node that its ``$ref`` names."""
    while isinstance(node, dict) and set(node) == {"$ref"}:
        found: Any = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every operation: its path, its method in lower case, and its description."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def shape(path: str) -> str:
    """Return a path of Werkzeug or OpenAPI without the names of its parameters."""
    return _PARAMETER.sub("{}", re.sub(r"\{\w+\}", "{}", path))


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


def faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Return how a value violates a schema of the document."""
    found = _validator(json.dumps(schema)).iter_errors(value)
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in found]


def answer_faults(operation: Mapping[str, Any], answer: Response, *, head: bool = False) -> list[str]:
    """Return how a response violates the description of its operation.

    :param head: whether the method is HEAD, so that there is no body.
    """
    allowed = resolve(operation["responses"].get(str(answer.status_code)))
    if allowed is None:
        return [f"{answer.status} is not documented"]
    wrong = [
        f"header {name} is {answer.headers.get(name)}"
        for name, header in allowed.get("headers", {}).items()
        if _header_faults(resolve(header), answer.headers.get(name))
    ]
    content = allowed.get("content", {})
    media = content.get(answer.mimetype, content.get("*/*"))
    if media is None:
        return [*wrong, f"{answer.mimetype} is not documented"]
    if answer.mimetype == "application/json" and not head:
        wrong += faults(media["schema"], json.loads(answer.get_data()))
    return wrong


def _header_faults(header: Mapping[str, Any], value: str | None) -> list[str]:
    if value is None:
        return ["missing"] if header.get("required") else []
    return faults(header["schema"], int(value) if header["schema"].get("type") == "integer" else value)


def operation_of(app: Flask, path: str, method: str) -> Mapping[str, Any] | None:
    """Return the operation of a request, under any prefix; ``None`` if it isn't one of ours."""
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except HTTPException:
        return None
    view = app.view_functions[rule.endpoint]
    if not view.__module__.startswith("flask_refunds."):
        return None
    ours = [path for path in DOCUMENT["paths"] if shape(rule.rule).endswith(shape(path))]
    item = DOCUMENT["paths"][max(ours, key=len)]
    found: Mapping[str, Any] | None = item.get("get" if method == "HEAD" else method.lower())
    return found


class ContractClient(FlaskClient):
    """A client that fails on a response that the OpenAPI document doesn't allow.

    Set ``app_answers`` if hooks or handlers of the app answer on our paths.
    """

    app_answers = False

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        if not self.app_answers:
            self.check(answer)
        return answer

    def check(self, answer: TestResponse) -> None:
        request = answer.request
        operation = operation_of(self.application, request.path, request.method)
        if operation is not None:
            wrong = answer_faults(operation, answer, head=request.method == "HEAD")
            assert not wrong, f"{request.method} {request.path}: {wrong}: {answer.get_data(as_text=True)}"
