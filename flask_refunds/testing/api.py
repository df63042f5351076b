"""What a request goes through before it is answered, in the order in which Stripe does it.

The key, the rate limit, the parameters, the idempotency key, the endpoint. Nothing refused before
the endpoint ran is remembered (https://docs.stripe.com/error-low-level#content-errors).
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
from .endpoints import Endpoint, resolve
from .errors import ApiError, invalid, key_missing, key_rejected, rate_limited, unauthorized
from .events import ApiCall
from .idempotency import IdempotencyKeys, KeyRecord
from .params import parse_form
from .signatures import API_VERSION
from .http_server import Request, Response

_KEY = re.compile(r"(?:sk|rk)_(test|live)_\w+", re.ASCII)
_FORM = "application/x-www-form-urlencoded"

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True)
class AcceptedRequest:
    """A request that may run: ``ticket`` is its key's, and answered if it ran before."""

    account: Account
    endpoint: Endpoint
    call: ApiCall
    headers: tuple[tuple[str, str], ...]
    ticket: KeyRecord | None


class RateLimit:
    """At most so many requests in any second; None for no limit."""

    def __init__(self, per_second: int | None, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self._now = now
        self._recent: deque[float] = deque()

    def exceeded(self) -> bool:
        """Whether this request is one too many."""
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
        """Forget what was asked so far."""
        self._recent.clear()


class Api:
    """Stripe's API above the accounts.

    :param account: gives the account of a mode: ``livemode -> account``.
    :param now: gives the time in seconds since the epoch.
    :param secret_key: the only key that is good; None for any that is well formed.
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

    def admit(self, request: Request, request_id: str) -> AcceptedRequest:
        """Everything up to the endpoint.

        :raises ApiError: when the request is refused; nothing is remembered of it.
        """
        livemode = self._authenticate(request.headers)
        if self._limit.exceeded():
            raise rate_limited(livemode)
        params = parameters(request)
        endpoint = resolve(request.method, request.path, params)
        key = idempotency_key(request)
        ticket = None
        if key is not None:
            ticket = self._keys.claim(
                key, livemode=livemode, path=request.path, params=params, request_id=request_id
            )
        headers = self.common_headers(request, request_id) + _key_headers(ticket)
        return AcceptedRequest(self._account(livemode), endpoint, ApiCall(request_id, key), headers, ticket)

    def run(self, admitted: AcceptedRequest, call: ApiCall) -> Response:
        """Run the endpoint, or refuse to."""
        try:
            return Response(200, _encode(admitted.endpoint(admitted.account, call)).encode())
        except ApiError as error:
            return error_response(error, call.request_id or "", livemode=admitted.account.livemode)

    def conclude(self, admitted: AcceptedRequest, answer: Response) -> None:
        """Store what the endpoint answered."""
        if admitted.ticket is not None:
            self._keys.answered(admitted.ticket, answer)

    def common_headers(self, request: Request, request_id: str) -> tuple[tuple[str, str], ...]:
        """The headers that every answer has."""
        version = request.headers.get("stripe-version", API_VERSION)
        date = formatdate(self._now(), usegmt=True)
        return (("Date", date), ("Request-Id", request_id), ("Stripe-Version", version))

    def _authenticate(self, headers: Mapping[str, str]) -> bool:
        key = secret_key(headers)
        if not key:
            raise key_missing()
        if key.startswith("pk_"):
            raise unauthorized(
                "This API call cannot be made with a publishable API key. Please use a secret API "
                "key. You can find a list of your API keys at "
                "https://dashboard.stripe.com/account/apikeys.",
                code="secret_key_required",
            )
        match = _KEY.fullmatch(key)
        if match is None or self._secret_key not in (None, key):
            raise key_rejected(key)
        return match.group(1) == "live"


def secret_key(headers: Mapping[str, str]) -> str:
    """The key of Bearer or Basic authentication; empty if there is none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def idempotency_key(request: Request) -> str | None:
    """The key of a POST: other methods are idempotent by themselves, and ignore it."""
    return request.headers.get("idempotency-key") if request.method == "POST" else None


def parameters(request: Request) -> dict[str, Any]:
    """Those of the form, or of the query.

    :raises ApiError: 400 for a body that is no form.
    """
    if request.method != "POST":
        return parse_form(request.query)
    kind = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    body = request.body.decode("utf-8", "replace")
    if body and (kind != _FORM or "\ufffd" in body):
        raise invalid(
            f"Invalid request (check that your POST content type is {_FORM}). If you have any "
            "questions, we can help at https://support.stripe.com/."
        )
    return parse_form(body)


def error_response(error: ApiError, request_id: str, *, livemode: bool = False) -> Response:
    """An error as a response."""
    mode = "" if livemode else "test/"
    log = f"https://dashboard.stripe.com/{mode}logs/{request_id}"
    body = _encode({"error": {**error.error, "request_log_url": log}})
    return Response(error.status, body.encode(), error.headers)


def _key_headers(ticket: KeyRecord | None) -> tuple[tuple[str, str], ...]:
    if ticket is None:
        return ()
    replayed = (("Idempotent-Replayed", "true"),) if ticket.answer is not None else ()
    return (("Idempotency-Key", ticket.key), ("Original-Request", ticket.request_id), *replayed)
