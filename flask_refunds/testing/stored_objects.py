"""The objects of one Stripe account in one mode, and how API versions show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from .api_versions import API_VERSION, LAST_WITH_RELEASES, shows_releases
from .cards import Card
from .errors import missing
from .events import NO_API_CALL, ApiCall, EventLog, StoredEvent
from .objects import JsonObject, new_id, new_refund

FAILED_OR_CANCELED = frozenset({"failed", "canceled"})


class StoredObjects:
    """The objects of one account in one mode.

    ``_refund_origins`` has the charge and amount of each refund, which :meth:`money_refunded` needs even if
    a test makes the refund unreadable.

    A charge that was made without a payment intent has one here, in ``_unshown_intents``, that isn't shown.

    A *release* is the part of an authorization that wasn't captured. Stripe stores it as a refund if the
    request that released it had an old API version. Otherwise only readers with an old version see it.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        livemode: bool,
        account_id: str | None = None,
        api_version: str = API_VERSION,
        on_event: Callable[[StoredEvent], None] | None = None,
    ) -> None:
        self.livemode = livemode
        self.account_id = account_id
        self.api_version = api_version
        self.other_mode: StoredObjects | None = None
        self.hidden: set[str] = set()
        self.events = EventLog(now=now, livemode=livemode, on_event=on_event, account=account_id)
        self._now = now
        self._intents: dict[str, JsonObject] = {}
        self._charges: dict[str, JsonObject] = {}
        self._refunds: dict[str, JsonObject] = {}
        self._refunds_of: dict[str, list[JsonObject]] = {}
        self._refund_origins: dict[str, tuple[str, int]] = {}
        self._releases_of: dict[str, JsonObject] = {}
        self._stored_releases: set[str] = set()
        self._disputes_of: dict[str, list[JsonObject]] = {}
        self._sessions: dict[str, JsonObject] = {}
        self._unshown_intents: set[str] = set()
        self._transfers: dict[str, JsonObject] = {}
        self._application_fees: dict[str, JsonObject] = {}
        self._cards: dict[str, Card] = {}

    # Reading

    def payment_intent(self, identifier: str, *, param: str = "intent") -> JsonObject:
        """Return a payment intent, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("payment_intent", identifier, param))

    def charge(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return a charge, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("charge", identifier, param))

    def refund(self, identifier: str, *, param: str = "id", version: str | None = None) -> JsonObject:
        """Return a refund, or a release that this API version shows as one.

        :raises ApiError: 404.
        """
        for release in self._releases_of.values():
            if release["id"] == identifier and self._is_shown(release, version):
                return release
        return cast(JsonObject, self._get("refund", identifier, param))

    def balance_transaction(self, identifier: str) -> JsonObject:
        """Return what a refund or a release did to the balance (only the fields that tell which it was).

        :raises ApiError: 404.
        """
        for category, found in (
            ("partial_capture_reversal", self._releases_of.values()),
            ("refund", self._refunds.values()),
        ):
            if any(each["balance_transaction"] == identifier for each in found):
                return {"id": identifier, "object": "balance_transaction", "reporting_category": category}
        raise missing("balance_transaction", identifier)

    def checkout_session(self, identifier: str, *, param: str = "session") -> JsonObject:
        """Return a Checkout session, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("checkout.session", identifier, param))

    def checkout_sessions(self, payment_intent: str | None = None) -> list[JsonObject]:
        """Return the Checkout sessions of a payment intent, or all; oldest first."""
        found = self._sessions.values()
        return [it for it in found if payment_intent in (None, it["payment_intent"])]

    def disputes(self, filters: Mapping[str, str]) -> list[JsonObject]:
        """Return the disputes whose ``charge`` and ``payment_intent`` are these; oldest first."""
        found = [dispute for disputes in self._disputes_of.values() for dispute in disputes]
        return [each for each in found if filters.items() <= each.items()]

    def intent_of(self, payment: str) -> str:
        """Return the ID of the payment intent of a charge or a Checkout session, or of a payment intent.

        :raises ApiError: 404.
        """
        if payment.startswith("cs_"):
            return str(self.checkout_session(payment)["payment_intent"])
        intent = self.payment_intent(payment)["id"] if payment.startswith("pi_") else None
        return str(intent or self.charge(payment)["payment_intent"])

    def transfer(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return a transfer, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("transfer", identifier, param))

    def application_fee(self, identifier: str, *, param: str = "id") -> JsonObject:
        """Return an application fee, or raise a 404 :class:`ApiError`."""
        return cast(JsonObject, self._get("application_fee", identifier, param))

    def event(self, identifier: str, *, param: str = "id", version: str | None = None) -> JsonObject:
        """Return an event, or raise a 404 :class:`ApiError`."""
        stored = cast(StoredEvent, self._get("event", identifier, param))
        return stored.load(version or self.api_version)

    def thin_event(self, identifier: str) -> JsonObject:
        """Return a thin event as https://docs.stripe.com/api/v2/core/events/retrieve does.

        :raises ApiError: 404.
        """
        stored = self.events.find_by_thin_id(identifier)
        if stored is None:
            raise missing("v2.core.event", identifier)
        return {**stored.load_thin(), "changes": None, "snapshot_event": stored.id}

    def refunds(
        self, *, payment_intent: str | None = None, charge: str | None = None, version: str | None = None
    ) -> list[JsonObject]:
        """Return the refunds of a payment intent, of a charge, or all; oldest first.

        :param version: the API version; None for the account's.
        :raises ApiError: 404 if the payment intent or charge doesn't exist.
        """
        if charge is not None:
            payment_intent = self.charge(charge, param="charge")["payment_intent"]
        elif payment_intent is not None:
            self.payment_intent(payment_intent, param="payment_intent")
        found = self.refunds_of(payment_intent, version)
        return found if charge is None else [refund for refund in found if refund["charge"] == charge]

    def refunds_of(self, payment_intent: str | None, version: str | None = None) -> list[JsonObject]:
        """Return the refunds of a payment intent, oldest first. None returns all refunds."""
        if payment_intent is None:
            found, releases = list(self._refunds.values()), list(self._releases_of.values())
        else:
            found = list(self._refunds_of.get(payment_intent, ()))
            releases = [self._releases_of[payment_intent]] if payment_intent in self._releases_of else []
        shown = [release for release in releases if self._is_shown(release, version)]
        return sorted(found + shown, key=lambda refund: int(refund["created"])) if shown else found

    def money_refunded(self, payment_intent: str) -> int:
        """Return the sum of the refunds that are neither failed nor canceled, in minor units."""
        refunds = self._refunds_of.get(payment_intent, ())
        paid = [each["id"] for each in refunds if each["status"] not in FAILED_OR_CANCELED]
        return sum(amount for _, amount in map(self._refund_origins.__getitem__, paid))

    def at_version(self, value: Any, version: str | None = None) -> Any:
        """Return a JSON value as an API version shows it: payment intents and charges know releases."""
        if not self._releases_of and not self._unshown_intents:
            return value
        if isinstance(value, list):
            return [self.at_version(item, version) for item in value]
        if not isinstance(value, dict) or value.get("object") == "event":  # an event has its own version
            return value
        value = {key: self.at_version(item, version) for key, item in value.items()}
        intent = value.get("payment_intent")
        if (intent["id"] if isinstance(intent, dict) else intent) in self._unshown_intents:
            value["payment_intent"] = None
        old = shows_releases(version or self.api_version)
        if value.get("object") == "charge":
            return self._charge_with_release(value, version)
        if value.get("object") == "payment_intent" and value["cancellation_reason"] == "expired" and old:
            value["cancellation_reason"] = "automatic"
        return value

    def _charge_with_release(self, charge: JsonObject, version: str | None) -> JsonObject:
        release = self._releases_of.get(charge["payment_intent"])
        if release is None or not self._is_shown(release, version):
            return charge
        refunded = charge["amount_refunded"] + release["amount"]
        captured = charge["amount_captured"] or None
        return {
            **charge,
            "amount_captured": captured,
            "amount_refunded": refunded,
            "refunded": refunded >= charge["amount"],
        }

    def _is_shown(self, release: Mapping[str, Any], version: str | None) -> bool:
        return release["id"] in self._stored_releases or shows_releases(version or self.api_version)

    # Changing

    def _release(self, charge: JsonObject, amount: int, call: ApiCall, reason: str | None = None) -> None:
        """Store the part of an authorization that wasn't captured."""
        release = new_refund(charge, amount=amount, created=self._time(), reason=reason)
        transaction = new_id("txn") if charge["amount_captured"] else None
        release.update(status="succeeded", balance_transaction=transaction)
        self._releases_of[charge["payment_intent"]] = release
        is_stored = shows_releases(call.api_version or self.api_version)
        if is_stored:
            self._stored_releases.add(release["id"])
        for event_type, subject in (("refund.created", release), ("charge.refunded", charge)):
            self._emit(event_type, subject, call, is_about_release=not is_stored)

    def _emit(
        self,
        event_type: str,
        subject: JsonObject,
        call: ApiCall = NO_API_CALL,
        previous: Mapping[str, Any] | None = None,
        *,
        is_about_release: bool = False,
    ) -> None:
        if subject["id"] in self._unshown_intents:
            return
        self.events.emit(
            event_type,
            self.at_version(subject, API_VERSION),
            call,
            previous,
            with_releases=self.at_version(subject, LAST_WITH_RELEASES) if self._releases_of else None,
            is_about_release=is_about_release,
        )

    def _get(self, kind: str, identifier: str, param: str) -> Any:
        found = self._objects(kind).get(identifier)
        if found is None:
            raise missing(kind, identifier, param=param, hint=self._hint(kind, identifier))
        return found

    def _hint(self, kind: str, identifier: str) -> str:
        if self.other_mode is None or identifier not in self.other_mode._objects(kind):
            return ""
        other, this = ("live", "test") if self.other_mode.livemode else ("test", "live")
        return (
            f"; a similar object exists in {other} mode, but a {this} mode key was used to make this request."
        )

    def _objects(self, kind: str) -> Mapping[str, Any]:
        by_kind: dict[str, Mapping[str, Any]] = {
            "payment_intent": self._intents,
            "charge": self._charges,
            "refund": self._refunds,
            "checkout.session": self._sessions,
            "transfer": self._transfers,
            "application_fee": self._application_fees,
            "event": self.events.by_id,
        }
        return by_kind[kind]

    def _time(self) -> int:
        return int(self._now())
