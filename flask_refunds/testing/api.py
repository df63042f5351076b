"""The steps between a request and its response, in Stripe's order.

They are: API key, rate limit, parameters, idempotency key, endpoint. A request that is rejected before
the endpoint runs isn't stored (https://docs.stripe.com/error-low-level#content-errors).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from .account import Account
from .api_versions import check_version
from .endpoints import Endpoint, resolve
from .errors import (
    ApiError,
    account_forbidden,
    invalid,
    key_missing,
    key_rejected,
    missing,
    rate_limited,
    unauthorized,
)
from .events import ApiCall
from .http_server import Request, Response
from .idempotency import IdempotencyKeys, KeyRecord
from .objects import JsonObject
from .params import parse_form

_SECRET_KEY = re.compile(r"(?:sk|rk)_(test|live)_\w+", re.ASCII)
_KINDS = {
    "pi_": "payment_intent",
    "ch_": "charge",
    "py_": "charge",
    "re_": "refund",
    "cs_": "checkout.session",
}
_FORM = "application/x-www-form-urlencoded"

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True)
class AcceptedRequest:
    """A request that passed all checks.

    If ``key_record`` has a response, the request is a retry and that response is replayed.
    """

    account: Account
    endpoint: Endpoint
    call: ApiCall
    headers: tuple[tuple[str, str], ...]
    key_record: KeyRecord | None


class RateLimit:
    """A limit on the requests per second; None means no limit."""

    def __init__(self, per_second: int | None, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self._now = now
        self._recent: deque[float] = deque()

    def exceeded(self) -> bool:
        """Count this request, and return whether it exceeds the limit."""
        if self.per_second is None:
            return False
        now = self._now()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if len(self._recent) >= self.per_second:
            return True
        self._recent.append(now)
        return False

    def clear(self) -> None:
        """Reset the count."""
        self._recent.clear()


class Api:
    """Stripe's API on top of the accounts.

    :param account: returns the account of a mode: ``livemode -> account``.
    :param now: returns seconds since the epoch.
    :param secret_key: the only accepted key; None accepts every well-formed key.
    """

    def __init__(
        self,
        account: Callable[[bool], Account],
        *,
        keys: IdempotencyKeys,
        limit: RateLimit,
        now: Callable[[], float],
        secret_key: str | None = None,
    ) -> None:
        self._account = account
        self._now = now
        self._keys = keys
        self._limit = limit
        self._secret_key = secret_key

    def accept(self, request: Request, request_id: str) -> AcceptedRequest:
        """Do every check that comes before the endpoint.

        :raises ApiError: the request is rejected; nothing is stored.
        """
        livemode = self._authenticate(request.headers)
        if self._limit.exceeded():
            raise rate_limited(livemode)
        account = self._find_account(request.headers, livemode)
        version = check_version(request.headers.get("stripe-version", account.api_version))
        params = parse_parameters(request)
        endpoint = _check_hidden(resolve(request.method, request.path, params), request.path, params)
        key = read_idempotency_key(request)
        record = None
        if key is not None:
            scope = f"{account.account_id} {livemode}"
            record = self._keys.claim(
                key, scope=scope, path=request.path, params=params, request_id=request_id
            )
        headers = self.common_headers(request, request_id) + _key_headers(record)
        call = ApiCall(request_id, key, api_version=version)
        return AcceptedRequest(account, endpoint, call, headers, record)

    def run(self, accepted: AcceptedRequest, call: ApiCall) -> Response:
        """Run the endpoint and return its response."""
        account = accepted.account
        try:
            result = account.at_version(accepted.endpoint(account, call), call.api_version)
            return Response(200, _encode(result).encode())
        except ApiError as error:
            return error_response(error, call.request_id or "", livemode=account.livemode)

    def common_headers(self, request: Request, request_id: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that every response has."""
        version = request.headers.get("stripe-version", self._account(False).api_version)
        date = formatdate(self._now(), usegmt=True)
        return (("Date", date), ("Request-Id", request_id), ("Stripe-Version", version))

    def _find_account(self, headers: Mapping[str, str], livemode: bool) -> Account:
        """Return the account of ``Stripe-Account`` or ``Stripe-Context``, or the key's own account."""
        platform = self._account(livemode)
        account_id = read_account(headers)
        if account_id is None:
            return platform
        for account in platform.with_connected():
            if account.account_id == account_id:
                return account
        raise account_forbidden(read_secret_key(headers), account_id)

    def _authenticate(self, headers: Mapping[str, str]) -> bool:
        key = read_secret_key(headers)
        if not key:
            raise key_missing()
        if key.startswith("pk_"):
            raise unauthorized(
                "This API call cannot be made with a publishable API key. Please use a secret API "
                "key. You can find a list of your API keys at "
                "https://dashboard.stripe.com/account/apikeys.",
                code="secret_key_required",
            )
        match = _SECRET_KEY.fullmatch(key)
        if match is None or self._secret_key not in (None, key):
            raise key_rejected(key)
        return match.group(1) == "live"


def _check_hidden(endpoint: Endpoint, path: str, params: Mapping[str, Any]) -> Endpoint:
    """Return the endpoint with a check that the request names no hidden object."""
    path = path.replace("/checkout/", "/")
    named = {"id": path.split("/")[3] if path.count("/") > 2 else ""}
    named |= {name: params[name] for name in ("payment_intent", "charge") if name in params}

    def checked(account: Account, call: ApiCall) -> JsonObject:
        for param, identifier in named.items():
            if identifier in account.hidden:
                raise missing(_KINDS[str(identifier)[:3]], identifier, param=param)
        return endpoint(account, call)

    return checked


def store_response(accepted: AcceptedRequest, response: Response) -> None:
    """Store the response under the request's idempotency key, if it has one."""
    if accepted.key_record is not None:
        accepted.key_record.response = response


def read_secret_key(headers: Mapping[str, str]) -> str:
    """Return the key of Bearer or Basic authentication, or an empty string."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def read_account(headers: Mapping[str, str]) -> str | None:
    """Return the connected account of ``Stripe-Account`` or ``Stripe-Context``, or None."""
    return headers.get("stripe-account") or headers.get("stripe-context") or None


def read_idempotency_key(request: Request) -> str | None:
    """Return the idempotency key of a POST request. Stripe ignores the header on other methods."""
    return request.headers.get("idempotency-key") if request.method == "POST" else None


def parse_parameters(request: Request) -> dict[str, Any]:
    """Return the parameters from the form body, or from the query string if the method isn't POST.

    :raises ApiError: 400 if the body isn't a form.
    """
    if request.method != "POST":
        return parse_form(request.query)
    content_type = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    body = request.body.decode("utf-8", "replace")
    if body and (content_type != _FORM or "\ufffd" in body):
        raise invalid(
            f"Invalid request (check that your POST content type is {_FORM}). If you have any "
            "questions, we can help at https://support.stripe.com/."
        )
    return parse_form(body)


def error_response(error: ApiError, request_id: str, *, livemode: bool = False) -> Response:
    """Return the response for an error."""
    mode = "" if livemode else "test/"
    log_url = f"https://dashboard.stripe.com/{mode}logs/{request_id}"
    body = _encode({"error": {**error.error, "request_log_url": log_url}})
    return Response(error.status, body.encode(), error.headers)


def _key_headers(record: KeyRecord | None) -> tuple[tuple[str, str], ...]:
    if record is None:
        return ()
    replayed = (("Idempotent-Replayed", "true"),) if record.response is not None else ()
    return (("Idempotency-Key", record.key), ("Original-Request", record.request_id), *replayed)
