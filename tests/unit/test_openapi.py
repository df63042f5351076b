"""The OpenAPI document matches the code."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

import flask_refunds
from flask_refunds import errors, models, refunds_bp
from flask_refunds.schemas import inputs
from flask_refunds.web import query_params
from tests.contract import DOCUMENT, answer_faults, faults, operations, resolve, shape
from tests.shop import make_app

SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = {operation["operationId"]: operation for _, _, operation in operations()}


def all_objects(node: Any = DOCUMENT) -> Iterator[Any]:
    """Yield every object of the document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from all_objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from all_objects(value)


def error_classes() -> dict[str, type[errors.RefundsError]]:
    """Return the errors of the HTTP API by the name of their schema."""
    found = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.RefundsError)
    }
    return {"InternalError": found.pop("RefundsError"), **found}


def test_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()  # type: ignore[arg-type]


def test_every_component_is_referenced_and_every_reference_exists() -> None:
    used = {node["$ref"] for node in all_objects() if isinstance(node.get("$ref"), str)}
    kept = {
        f"#/components/{kind}/{name}"
        for kind, named in DOCUMENT["components"].items()
        for name in named
        if kind != "securitySchemes"
    }
    assert used == kept


# Routes


def documented_routes() -> set[tuple[str, str]]:
    return {(method.upper(), shape(path)) for path, method, _ in operations()}


def routes(app: Flask, prefix: str) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith("refunds."):
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, shape(rule.rule).removeprefix(prefix)


def test_documented_routes_are_the_blueprints_routes() -> None:
    assert set(routes(make_app(), "/api/payments")) == documented_routes()


def test_undocumented_route_is_detected() -> None:
    app = make_app()
    app.add_url_rule("/api/payments/more", "refunds.more", lambda: "")
    assert set(routes(app, "/api/payments")) - documented_routes() == {("GET", "/more")}


# Errors


def test_documented_error_codes_are_the_error_classes_codes() -> None:
    documented = {
        name: schema["properties"]["code"]["const"]
        for name, schema in SCHEMAS.items()
        if "const" in schema.get("properties", {}).get("code", {})
    }
    assert documented == {name: kind.code for name, kind in error_classes().items()}


@pytest.mark.parametrize("name", error_classes())
def test_example_of_an_error_has_its_code_and_message(name: str) -> None:
    kind = error_classes()[name]
    [example] = SCHEMAS[name]["examples"]
    assert example["code"] == kind.code
    assert example["error"] == kind.default_message or kind is errors.InvalidRequest


def errors_of(answer: Mapping[str, Any]) -> set[str]:
    """Return the names of the errors that a response can have."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    refs = [each.get("$ref", "") for each in schema.get("anyOf", [schema])]
    return {ref.rpartition("/")[2] for ref in refs} & error_classes().keys()


def test_every_error_is_documented_with_its_status_and_headers() -> None:
    documented = set()
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            answer = resolve(response)
            for name in errors_of(answer):
                kind = error_classes()[name]
                documented.add(name)
                assert str(kind.status) == status, name
                assert kind.headers.keys() <= answer["headers"].keys(), name
    assert documented == error_classes().keys()


def test_protected_operation_documents_401_and_403() -> None:
    for path, _, operation in operations():
        protected = operation["security"] == [{"bearer": []}, {"session": []}]
        assert protected or operation["security"] == []
        assert protected == ("401" in operation["responses"]) == ("403" in operation["responses"])
        admin = operation["responses"].get("403") == {"$ref": "#/components/responses/Forbidden"}
        assert admin == (protected and path.startswith("/admin"))
        assert "500" in operation["responses"] or operation["operationId"] == "showOpenapi"


# Schemas


def test_every_example_matches_its_schema() -> None:
    count = 0
    for node in all_objects():
        schema = node.get("schema", node)
        examples = node.get("examples", [node["example"]] if "example" in node else [])
        if isinstance(examples, dict):
            examples = [each["value"] for each in examples.values()]
        for example in examples:
            count += 1
            assert not faults(schema, example), example
    assert count > 50


def test_every_success_response_has_an_example() -> None:
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            media = resolve(response).get("content", {}).get("application/json")
            if status.startswith("2") and media is not None and name != "showOpenapi":
                assert media["examples"], name


def test_every_object_schema_sets_additional_properties() -> None:
    for node in all_objects(SCHEMAS):
        if node.get("type") == "object" and "properties" in node:
            assert node.get("additionalProperties") is not None or node in (
                SCHEMAS["RefundFields"],
                SCHEMAS["ReportFields"],
                SCHEMAS["Event"],
                SCHEMAS["Event"]["properties"]["data"],
            )


def test_enums_and_limits_match_the_code() -> None:
    assert SCHEMAS["RefundStatus"]["enum"] == [each.value for each in models.RefundStatus]
    assert SCHEMAS["Reason"]["enum"] == list(get_args(models.Reason))
    assert resolve({"$ref": "#/components/parameters/purchaseStatus"})["schema"]["maxLength"] == (
        query_params._MAX_TEXT
    )
    assert SCHEMAS["RefundFields"]["properties"]["source"]["enum"] == list(get_args(models.Source))
    assert SCHEMAS["RefundRequest"]["properties"]["note"]["maxLength"] == inputs.MAX_NOTE_LENGTH
    limit = resolve({"$ref": "#/components/parameters/limit"})["schema"]
    assert (limit["default"], limit["maximum"]) == (query_params.DEFAULT_LIMIT, query_params.MAX_LIMIT)


PARSERS = {
    "listPurchases": query_params.parse_purchase_query,
    "listRefunds": query_params.parse_refund_query,
    "showMetrics": query_params.parse_report_query,
}


@pytest.mark.parametrize("name", PARSERS)
def test_documented_parameters_are_the_parsed_ones(name: str) -> None:
    source = inspect.getsource(PARSERS[name]) + inspect.getsource(query_params._parse_range)
    if "_parse_limit(" in source:
        source += inspect.getsource(query_params._parse_limit)
    documented = {resolve(each)["name"] for each in OPERATIONS[name]["parameters"]}
    assert documented == set(re.findall(r'params\.read\("(\w+)"', source))


def test_every_link_names_an_operation_and_its_parameters() -> None:
    for link in DOCUMENT["components"]["links"].values():
        target = OPERATIONS[link["operationId"]]
        item = next(
            item for item in DOCUMENT["paths"].values() if target in [item.get("get"), item.get("post")]
        )
        parameters = [*item.get("parameters", []), *target.get("parameters", [])]
        assert link["parameters"].keys() <= {resolve(each)["name"] for each in parameters}


# How the document is served


@pytest.mark.parametrize("prefix", ["/api/payments", "/shop/money"])
def test_document_is_served_under_any_prefix(prefix: str) -> None:
    app = Flask("shop")  # without any config
    app.register_blueprint(refunds_bp, url_prefix=prefix)
    answer = app.test_client().get(f"{prefix}/openapi.json")
    assert answer.status_code == 200
    assert answer.get_data() == Path(flask_refunds.__file__).with_name("openapi.json").read_bytes()
    assert answer_faults(OPERATIONS["showOpenapi"], answer) == []
    assert json.loads(answer.get_data())["servers"][0]["url"] == "."


def test_document_is_the_same_with_a_token() -> None:
    client = make_app().test_client()
    plain = client.get("/api/payments/openapi.json")
    signed = client.get("/api/payments/openapi.json", headers={"Authorization": "Bearer x"})
    assert (plain.get_data(), list(plain.headers)) == (signed.get_data(), list(signed.headers))
