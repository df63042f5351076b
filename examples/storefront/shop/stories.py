"""A year in the shop: who bought what, and every way in which refunds end. All names are invented."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

from . import orders
from .past import SETTLES, Bought, Past, Story

CUSTOMERS = (
    *("Amara Nwosu", "Anders Lindqvist", "Beatriz Carvalho", "Bilal Haidari", "Chen Wei", "Chiara Fontana"),
    *(
        "Daniel Okonkwo",
        "Dilnoza Karimova",
        "Eilidh Campbell",
        "Elif Demir",
        "Fatou Diallo",
        "Georgi Petrov",
    ),
    *("Hana Novotná", "Henrik Sørensen", "Ikram Benali", "Imogen Clarke", "Jakub Wiśniewski", "Joon-ho Park"),
    *("Kalani Mahoe", "Katarina Horvat", "Kwame Mensah", "Lakshmi Iyer", "Léa Fournier", "Luca Brunner"),
    *("Mai Tanaka", "Mateo Quispe", "Mira Halonen", "Nadia Rahman", "Niamh Gallagher", "Oleksandr Bondar"),
    *("Paloma Reyes", "Quang Tran", "Rania Khoury", "Ruben de Vries", "Sakura Ishii", "Sipho Dlamini"),
    *("Soraya Tehrani", "Tāne Walker", "Tess Abernathy", "Vasiliki Pappas", "Yara Haddad", "Zofia Mazur"),
)
SUPPORT = "Noor Vermeulen"
"""Another admin, who helps with refunds."""
INES = "Ines Admin"

PRUNING, SEED, COMPOST = "Pruning Fruit Trees", "Saving Your Own Seed", "The Compost Handbook"
KITCHEN, BONSAI = "A Year in the Kitchen Garden", "Bonsai for Beginners"
BEES, ROSES, MUSHROOMS = "Keeping Bees in the City", "Roses without Poison", "Mushrooms on Straw"
HERBS, MOSS = "Herbs on a Balcony", "Moss Gardens of Kyoto"
IN_DOLLARS, IN_EUROS, IN_YEN = (PRUNING, SEED, ROSES), (COMPOST, KITCHEN, BEES, HERBS), (BONSAI, MOSS)

_REQUESTS = (
    ("requested_by_customer", "Bought the wrong one."),
    ("requested_by_customer", "Didn't find the time for it."),
    ("requested_by_customer", "Wrote within 14 days."),
    ("requested_by_customer", "Audio doesn't play on an old phone."),
    ("duplicate", "Bought twice within a minute."),
    ("requested_by_customer", None),
    (None, None),
)
_YEAR = 364.0
_ORDINARY = 170
_SHARE_REFUNDED = 0.24


def stories_of(past: Past) -> dict[float, list[Story]]:
    """Return what happened, by how many days ago it began. It is the same at every start."""
    stories = Stories(past)
    found: dict[float, list[Story]] = {}
    for days, story in (*stories.ordinary(), *stories.special()):
        found.setdefault(days, []).append(story)
    return found


class Stories:
    """Each story is a generator, which waits between two things that happen."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._rng = random.Random("a year in the shop")

    def ordinary(self) -> Iterator[tuple[float, Story]]:
        """Yield purchases, more of them in the last months, of which some are refunded."""
        for _ in range(_ORDINARY):
            # A shop that grows: the square root moves purchases towards the present.
            days = _YEAR - (_YEAR - 1.5) * self._rng.random() ** 0.6
            yield days, self._ordinary()

    def special(self) -> Iterator[tuple[float, Story]]:
        """Yield one story for each thing that an admin can see."""
        yield 330, self._returned_and_refunded_again()
        yield 290, self._canceled_card_paid_by_transfer()
        yield 236, self._recalled()
        yield 203, self._refunded_in_dashboard()
        yield 151, self._rejected_and_refunded_later()
        yield 118, self._two_parts()
        yield 97, self._not_enough_in_balance_for_a_week()
        yield 61, self._found_after_it_was_given_up()
        yield 55, self._shown_twice()
        yield 47, self._customer_did_not_act()
        yield 38, self._sent_to_a_closed_account()
        yield 34, self._returned()
        yield 29, self._other_amount()
        yield 27, self._disputed_while_pending()
        yield 24, self._sold_for_a_teacher()
        yield 21, self._refund_of_a_disputed_payment()
        yield 18.3, self._lost()
        yield 18, self._one_of_two()
        yield 13, self._hidden()
        yield 9, self._low_balance()
        yield 8, self._waits_for_customer()
        yield 6, self._on_its_way()
        yield 4, self._partly_refunded_in_dashboard()

    # Ordinary purchases

    def _ordinary(self) -> Story:
        rng, past = self._rng, self._past
        customer, titles = rng.choice(CUSTOMERS), self._choose()
        is_refunded, agent = rng.random() < _SHARE_REFUNDED, rng.choice((INES, INES, SUPPORT))
        reason, note = rng.choice(_REQUESTS)
        decline, wait, card = rng.random() < 0.04, rng.uniform(0.2, 12), orders.SUCCEEDS
        if decline:
            past.buy_and_keep(customer, *titles, card=orders.DECLINED, status=orders.FAILED)
            return
        if not is_refunded:
            past.buy_and_keep(customer, *titles)
            return
        if rng.random() < 0.2:
            card = orders.PENDING_REFUND
        bought = past.buy(customer, *titles, card=card)
        yield timedelta(days=wait)
        past.refund(bought, agent, **_body(reason, note))
        if card is orders.PENDING_REFUND:
            yield _SETTLES
            past.report(bought)
        yield timedelta(days=4)
        past.stripe.assign_reference(past.latest(bought)["id"], f"7492{rng.randrange(10**19):019d}")
        past.report(bought)

    def _choose(self) -> list[str]:
        group = self._rng.choices((IN_DOLLARS, IN_EUROS, IN_YEN), (5, 6, 2))[0]
        return self._rng.sample(group, 2 if self._rng.random() < 0.12 else 1)

    # Refunds that ended well, or were resolved

    def _returned_and_refunded_again(self) -> Story:
        past, bought = self._past, self._past.buy("Henrik Sørensen", KITCHEN)
        yield timedelta(days=2)
        past.refund(bought, INES, reason="requested_by_customer", note="Wanted the e-book.")
        yield timedelta(days=9)
        past.change(bought, "failed", "declined")
        yield timedelta(days=1)
        past.resolve(bought, INES, "retry", "The bank says it was a mistake of theirs.")

    def _canceled_card_paid_by_transfer(self) -> Story:
        past, bought = self._past, self._past.buy("Rania Khoury", BEES)
        yield timedelta(days=3)
        past.refund(bought, SUPPORT, reason="requested_by_customer", note="Moved to a flat without balcony.")
        yield timedelta(days=6)
        past.change(bought, "failed", "expired_or_canceled_card")
        yield timedelta(days=2)
        past.resolve(bought, INES, "dismiss", "Paid by bank transfer, receipt 2207.")

    def _recalled(self) -> Story:
        past, names = self._past, ("Chen Wei", "Fatou Diallo", "Luca Brunner", "Mira Halonen", "Zofia Mazur")
        bought = [past.buy(name, MUSHROOMS) for name in names]
        yield timedelta(days=5)
        note = "The course named a poisonous mushroom."
        past.refund_all("mushrooms-recall", bought, INES, note=note)

    def _refunded_in_dashboard(self) -> Story:
        past, bought = self._past, self._past.buy("Imogen Clarke", PRUNING, SEED)
        yield timedelta(days=7)
        past.refund_at_stripe(bought)

    def _rejected_and_refunded_later(self) -> Story:
        past, bought = self._past, self._past.buy("Quang Tran", ROSES)
        yield timedelta(days=2)
        with past.stripe.fault("lock_timeout"):
            past.refund(bought, INES, note="Asked by phone.")
        yield timedelta(minutes=4)
        past.refund_by_command(bought, "noor")

    def _two_parts(self) -> Story:
        past, bought = self._past, self._past.buy("Léa Fournier", KITCHEN)
        yield timedelta(days=12)
        past.refund_part(bought, SUPPORT, 1200, note="Goodwill: the March chapter was missing.")
        yield timedelta(days=5)
        past.refund(bought, SUPPORT, note="Doesn't want the rest either.")

    def _not_enough_in_balance_for_a_week(self) -> Story:
        past, bought = self._past, self._past.buy("Sipho Dlamini", BEES)
        yield timedelta(days=1)
        with past.stripe.fault("insufficient_balance"):
            past.refund(bought, INES, reason="requested_by_customer")
        yield timedelta(days=6)
        past.refund(bought, INES, reason="requested_by_customer", note="Topped up.")

    def _customer_did_not_act(self) -> Story:
        past, bought = self._past, self._buy_by_konbini("Sakura Ishii")
        yield timedelta(days=2)
        past.refund(bought, SUPPORT, reason="requested_by_customer")
        yield timedelta(days=20)
        past.change(bought, "canceled", "merchant_request")

    # Refunds that need review

    def _found_after_it_was_given_up(self) -> Story:
        past, bought = self._past, self._past.buy("Oleksandr Bondar", COMPOST)
        yield timedelta(days=3)
        with past.stripe.fault("request_lost"):
            past.refund(bought, SUPPORT)
        metadata = past.stripe.last_request.params["metadata"]
        yield timedelta(days=1, minutes=5)
        past.reconcile()
        yield timedelta(hours=6)
        past.resolve(bought, INES, "failed", "Stripe's Dashboard shows no refund.")
        yield timedelta(days=11)
        late = past.stripe.dashboard_refund(bought.payment)
        past.stripe.set_refund(late["id"], metadata=metadata)
        past.report(bought)

    def _shown_twice(self) -> Story:
        past, bought = self._past, self._past.buy("Kwame Mensah", HERBS)
        yield timedelta(days=2)
        past.refund_part(bought, INES, 400, note="Coupon forgotten at the checkout.")
        metadata = past.latest(bought)["metadata"]
        yield timedelta(days=8)
        copied = past.stripe.dashboard_refund(bought.payment, 400)
        past.stripe.set_refund(copied["id"], metadata=metadata)
        past.report(bought)

    def _sent_to_a_closed_account(self) -> Story:
        past, bought = self._past, self._buy_by_konbini("Mai Tanaka")
        yield timedelta(days=3)
        past.refund(bought, INES, reason="requested_by_customer", note="Course overlaps with work.")
        yield timedelta(days=2)
        past.change(bought, "pending")
        yield timedelta(days=4)
        past.change(bought, "succeeded")
        yield timedelta(days=10)
        past.change(bought, "requires_action")

    def _returned(self) -> Story:
        past, bought = self._past, self._past.buy("Tess Abernathy", PRUNING)
        yield timedelta(days=5)
        past.refund(bought, SUPPORT, reason="requested_by_customer", note="Moves to a houseboat.")
        yield timedelta(days=26)
        past.change(bought, "failed", "lost_or_stolen_card")

    def _other_amount(self) -> Story:
        past, bought = self._past, self._past.buy("Georgi Petrov", BEES)
        yield timedelta(days=4)
        past.refund(bought, INES)
        yield timedelta(days=3)
        past.stripe.set_refund(past.latest(bought)["id"], amount=past.latest(bought)["amount"] + 150)
        past.report(bought)

    def _disputed_while_pending(self) -> Story:
        past, bought = self._past, self._past.buy("Jakub Wiśniewski", ROSES, card=orders.PENDING_REFUND)
        yield timedelta(days=20)
        past.refund(bought, INES, reason="requested_by_customer", note="Waited three weeks for an answer.")
        yield timedelta(days=1)
        past.stripe.dispute(bought.payment)
        past.report(bought)

    def _sold_for_a_teacher(self) -> Story:
        past, bought = (
            self._past,
            self._past.buy("Soraya Tehrani", BONSAI, transfer_to="acct_bonsaiTeacher", transfer_amount=5000),
        )
        yield timedelta(days=6)
        past.refund(bought, SUPPORT, reason="requested_by_customer")

    def _refund_of_a_disputed_payment(self) -> Story:
        past, bought = self._past, self._past.buy("Bilal Haidari", SEED, card=orders.DISPUTED)
        yield timedelta(days=9)
        past.refund(bought, SUPPORT, note="Says that the charge is unknown.")

    def _one_of_two(self) -> Story:
        past, bought = self._past, self._past.buy("Paloma Reyes", COMPOST, HERBS)
        yield timedelta(days=3)
        past.refund_part(bought, INES, 900, note="Only the herbs.", markRefunded=False)

    def _lost(self) -> Story:
        past, bought = self._past, self._past.buy("Niamh Gallagher", PRUNING)
        yield timedelta(days=13)
        with past.stripe.fault("request_lost"):
            past.refund(bought, INES, reason="requested_by_customer")
        yield timedelta(days=1, minutes=7)
        past.reconcile()

    def _hidden(self) -> Story:
        past, bought = self._past, self._past.buy("Vasiliki Pappas", HERBS)
        yield timedelta(days=9)
        with past.stripe.fault("request_lost"):
            past.refund(bought, SUPPORT, reason="requested_by_customer")
        past.stripe.hide(bought.payment)
        yield timedelta(days=1, minutes=3)
        past.reconcile()

    def _low_balance(self) -> Story:
        past, bought = self._past, self._past.buy("Daniel Okonkwo", BEES, KITCHEN)
        yield timedelta(days=7)
        past.stripe.refund_settles_after, usual = _NEVER, past.stripe.refund_settles_after
        with past.stripe.fault("pending"):
            past.refund(bought, INES, reason="requested_by_customer", note="Called on Tuesday.")
        past.stripe.refund_settles_after = usual

    # Refunds under way

    def _waits_for_customer(self) -> Story:
        past, bought = self._past, self._buy_by_konbini("Joon-ho Park")
        yield timedelta(days=5)
        past.refund(bought, INES, reason="requested_by_customer", note="Ordered the wrong course.")

    def _on_its_way(self) -> Story:
        past, bought = self._past, self._past.buy("Dilnoza Karimova", KITCHEN, card=orders.PENDING_REFUND)
        yield timedelta(days=5)
        past.refund(bought, SUPPORT, reason="requested_by_customer")

    def _partly_refunded_in_dashboard(self) -> Story:
        past, bought = self._past, self._past.buy("Eilidh Campbell", PRUNING)
        yield timedelta(days=2)
        past.refund_at_stripe(bought, 1000)

    def _buy_by_konbini(self, customer: str) -> Bought:
        return self._past.buy(customer, MOSS, method="konbini")


_SETTLES = SETTLES + timedelta(minutes=1)
_NEVER = 400 * 86400.0


def _body(reason: str | None, note: str | None) -> dict[str, str]:
    fields = {"reason": reason, "note": note}
    return {name: value for name, value in fields.items() if value is not None}
