"""The API endpoints: the parameters of each, and what it does with an account.

Sources: https://docs.stripe.com/api/refunds, …/payment_intents, …/charges, …/checkout/sessions, …/transfers,
…/application_fees, …/events, …/balance, …/webhook_endpoints, …/v2/core/events,
…/v2/core/event_destinations
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import params as p
from .account import Account
from .endpoint_params import (
    EXPAND,
    INTENT_ARGS,
    INTENT_CANCEL,
    INTENT_CAPTURE,
    INTENT_CONFIRM,
    INTENT_CREATE,
    PAGE,
    REFUND_ARGS,
    REFUND_CREATE,
    read_card,
)
from .errors import ApiError, invalid, missing
from .events import ApiCall
from .objects import JsonObject

Endpoint = Callable[[Account, ApiCall], JsonObject]
Builder = Callable[..., Endpoint]

# object type -> its expandable properties -> the type of the object that each refers to
_EXPANDABLE: dict[str, dict[str, str]] = {
    "refund": {"charge": "charge", "payment_intent": "payment_intent"},
    "payment_intent": {"latest_charge": "charge"},
    "checkout.session": {"payment_intent": "payment_intent"},
    "charge": {
        "application_fee": "application_fee",
        "payment_intent": "payment_intent",
        "transfer": "transfer",
    },
    "refunds": {"data": "refund"},
}


def resolve(method: str, path: str, params: p.Params) -> Endpoint:
    """Return the endpoint for a request, with validated parameters.

    :raises ApiError: 404 for an unknown URL, 400 for invalid parameters.
    """
    for route_method, pattern, builder in _ROUTES:
        match = pattern.fullmatch(path) if route_method == method else None
        if match is not None:
            return builder(*match.groups(), params)
    raise ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/.",
    )


def _create_refund(params: p.Params) -> Endpoint:
    read = p.read(params, REFUND_CREATE)
    if "charge" in read and "payment_intent" in read:
        raise invalid("You may only specify one of these parameters: charge, payment_intent.")
    if "charge" not in read and "payment_intent" not in read:
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge.",
            code="parameter_missing",
        )
    args = {name: read[name] for name in REFUND_ARGS if name in read}
    return _with_expansion("refund", read, lambda account, call: account.create_refund(call=call, **args))


def _get_refund(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, EXPAND)
    return _with_expansion(
        "refund", read, lambda account, call: account.refund(identifier, version=call.api_version)
    )


def _update_refund(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, {"metadata": p.metadata, **EXPAND})
    metadata = read.get("metadata")
    return _with_expansion(
        "refund",
        read,
        lambda account, call: account.update_refund(identifier, metadata=metadata, call=call),
    )


def _cancel_refund(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, EXPAND)
    return _with_expansion("refund", read, lambda account, call: account.cancel_refund(identifier, call=call))


def _list_refunds(params: p.Params) -> Endpoint:
    read = p.read(params, {"charge": p.string, "payment_intent": p.string, **PAGE})
    filters = {name: read[name] for name in ("charge", "payment_intent") if name in read}

    def endpoint(account: Account, call: ApiCall) -> JsonObject:
        found = account.refunds(**filters, version=call.api_version)
        visible = [refund for refund in found if refund["id"] not in account.hidden]
        return _page("refund", "/v1/refunds", visible, read)

    return _with_expansion("refunds", read, endpoint)


def _create_intent(params: p.Params) -> Endpoint:
    read = p.read(params, INTENT_CREATE)
    p.required(read, "amount", "currency")
    card = read_card(read)
    args = {name: read[name] for name in INTENT_ARGS if name in read}
    return _with_expansion(
        "payment_intent",
        read,
        lambda account, call: account.create_payment_intent(card=card, call=call, **args),
    )


def _confirm_intent(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, INTENT_CONFIRM)
    card = read_card(read)
    return _with_expansion(
        "payment_intent",
        read,
        lambda account, call: account.confirm_payment_intent(
            identifier, card=card, capture_method=read.get("capture_method"), call=call
        ),
    )


def _capture_intent(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, INTENT_CAPTURE)
    return _with_expansion(
        "payment_intent",
        read,
        lambda account, call: account.capture_payment_intent(
            identifier,
            read.get("amount_to_capture"),
            final=read.get("final_capture", True),
            application_fee_amount=read.get("application_fee_amount"),
            transfer_amount=read.get("transfer_data", {}).get("amount"),
            call=call,
        ),
    )


def _cancel_intent(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, INTENT_CANCEL)
    reason = read.get("cancellation_reason")
    return _with_expansion(
        "payment_intent",
        read,
        lambda account, call: account.cancel_payment_intent(identifier, reason=reason, call=call),
    )


def _get_intent(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, {"client_secret": p.string, **EXPAND})
    return _with_expansion("payment_intent", read, lambda account, call: account.payment_intent(identifier))


def _get_charge(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, EXPAND)
    return _with_expansion("charge", read, lambda account, call: account.charge(identifier))


def _get_checkout_session(identifier: str, params: p.Params) -> Endpoint:
    read = p.read(params, EXPAND)
    return _with_expansion(
        "checkout.session", read, lambda account, call: account.checkout_session(identifier)
    )


def _list_checkout_sessions(params: p.Params) -> Endpoint:
    read = p.read(params, {"payment_intent": p.string, **PAGE})
    url, payment_intent = "/v1/checkout/sessions", read.get("payment_intent")
    return lambda account, call: _page(
        "checkout.session", url, account.checkout_sessions(payment_intent), read
    )


def _list_disputes(params: p.Params) -> Endpoint:
    read = p.read(params, {"charge": p.string, "payment_intent": p.string, **PAGE})
    filters: dict[str, str] = {name: read[name] for name in ("charge", "payment_intent") if name in read}
    return lambda account, call: _page("dispute", "/v1/disputes", account.disputes(filters), read)


def _get_balance_transaction(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, EXPAND)
    return lambda account, call: account.balance_transaction(identifier)


def _get_transfer(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, EXPAND)
    return lambda account, call: account.transfer(identifier)


def _get_application_fee(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, EXPAND)
    return lambda account, call: account.application_fee(identifier)


def _get_event(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, {})
    return lambda account, call: account.event(identifier)


def _get_thin_event(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, {})
    return lambda account, call: account.thin_event(identifier)


def _get_event_destination(identifier: str, params: p.Params) -> Endpoint:
    p.read(params, {"include": p.string_list})
    return lambda account, call: account.event_destination(identifier)


def _list_event_destinations(params: p.Params) -> Endpoint:
    p.read(params, {"include": p.string_list, "limit": p.limit})
    return lambda account, call: {
        "data": account.event_destinations[::-1],
        "next_page_url": None,
        "previous_page_url": None,
    }


def _list_events(params: p.Params) -> Endpoint:
    read = p.read(params, {"type": p.string, "types": p.string_list, **PAGE})
    types = {read["type"]} if "type" in read else set(read.get("types", ()))

    def endpoint(account: Account, call: ApiCall) -> JsonObject:
        events = (event for event in account.events if event.exists_in(account.api_version))
        matching = (event for event in events if not types or event.type in types)
        stubs = ({"id": event.id, "created": event.created} for event in matching)
        page = _page("event", "/v1/events", stubs, read)
        return {**page, "data": [account.event(stub["id"]) for stub in page["data"]]}

    return endpoint


def _get_balance(params: p.Params) -> Endpoint:
    p.read(params, {})
    return lambda account, call: account.balance()


def _list_webhook_endpoints(params: p.Params) -> Endpoint:
    read = p.read(params, PAGE)
    url = "/v1/webhook_endpoints"
    return lambda account, call: _page("webhook_endpoint", url, account.webhook_endpoints, read)


def _page(kind: str, url: str, items: Iterable[JsonObject], read: Mapping[str, Any]) -> JsonObject:
    """Return a page of a list, newest first (https://docs.stripe.com/api/pagination)."""
    first, last = p.first_and_last(read.get("created", {}))
    size = read.get("limit", 10)
    found = [item for item in items if first <= item["created"] <= last][::-1]
    if "starting_after" in read:
        found = found[_position(kind, found, read, "starting_after") + 1 :]
    if "ending_before" in read:
        found = found[: _position(kind, found, read, "ending_before")]
        shown = found[-size:]
    else:
        shown = found[:size]
    more = len(found) > len(shown)
    return {"object": "list", "data": shown, "has_more": more, "url": url}


def _position(kind: str, found: list[JsonObject], read: Mapping[str, Any], param: str) -> int:
    cursor = read[param]
    for position, item in enumerate(found):
        if item["id"] == cursor:
            return position
    raise missing(kind, cursor, param=param)


def _with_expansion(kind: str, read: Mapping[str, Any], endpoint: Endpoint) -> Endpoint:
    paths = [path.split(".") for path in read.get("expand", ())]
    for path in paths:
        _check_expandable(kind, path)
    if not paths:
        return endpoint

    def expanded(account: Account, call: ApiCall) -> JsonObject:
        result = endpoint(account, call)
        for path in paths:
            result = _expand(account, kind, result, path)
        return result

    return expanded


def _check_expandable(kind: str, path: list[str]) -> None:
    for name in path:
        if name not in _EXPANDABLE.get(kind, {}):
            raise invalid(f"This property cannot be expanded ({name}).", param="expand")
        kind = _EXPANDABLE[kind][name]


def _expand(account: Account, kind: str, item: JsonObject, path: list[str]) -> JsonObject:
    if not path:
        return item
    name, rest = path[0], path[1:]
    target_kind, value = _EXPANDABLE[kind][name], item.get(name)
    if isinstance(value, list):
        return {**item, name: [_expand(account, target_kind, each, rest) for each in value]}
    if isinstance(value, str):
        find = {
            "application_fee": (account.platform or account).application_fee,
            "charge": account.charge,
            "payment_intent": account.payment_intent,
            "transfer": account.transfer,
        }
        value = find[target_kind](value)
    if value is not None:
        value = _expand(account, target_kind, value, rest)
    return {**item, name: value}


_ID = r"([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Builder]] = [
    (method, re.compile(pattern), builder)
    for method, pattern, builder in (
        ("POST", r"/v1/refunds", _create_refund),
        ("GET", r"/v1/refunds", _list_refunds),
        ("GET", rf"/v1/refunds/{_ID}", _get_refund),
        ("POST", rf"/v1/refunds/{_ID}", _update_refund),
        ("POST", rf"/v1/refunds/{_ID}/cancel", _cancel_refund),
        ("POST", r"/v1/payment_intents", _create_intent),
        ("GET", rf"/v1/payment_intents/{_ID}", _get_intent),
        ("POST", rf"/v1/payment_intents/{_ID}/confirm", _confirm_intent),
        ("POST", rf"/v1/payment_intents/{_ID}/capture", _capture_intent),
        ("POST", rf"/v1/payment_intents/{_ID}/cancel", _cancel_intent),
        ("GET", rf"/v1/charges/{_ID}", _get_charge),
        ("GET", r"/v1/checkout/sessions", _list_checkout_sessions),
        ("GET", rf"/v1/checkout/sessions/{_ID}", _get_checkout_session),
        ("GET", r"/v1/disputes", _list_disputes),
        ("GET", rf"/v1/balance_transactions/{_ID}", _get_balance_transaction),
        ("GET", rf"/v1/transfers/{_ID}", _get_transfer),
        ("GET", rf"/v1/application_fees/{_ID}", _get_application_fee),
        ("GET", r"/v1/events", _list_events),
        ("GET", rf"/v1/events/{_ID}", _get_event),
        ("GET", r"/v1/balance", _get_balance),
        ("GET", r"/v1/webhook_endpoints", _list_webhook_endpoints),
        ("GET", rf"/v2/core/events/{_ID}", _get_thin_event),
        ("GET", r"/v2/core/event_destinations", _list_event_destinations),
        ("GET", rf"/v2/core/event_destinations/{_ID}", _get_event_destination),
    )
]
