"""Every order in which concurrent calls can take their steps, and every place where each of them can die.

A step is one MongoDB operation, one Stripe request, or one call of a receiver. Two worlds that are equal,
with actors who stand equally, have one future, so each is explored once; how many schedules that covers is
counted along the way. Wherever nobody can go on, Stripe sends again what was not acknowledged, one reconcile
runs past every lease, and then the promise must hold.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.invariants import DOUBLED, Tally, Violation, violations
from tests.faults.schedules_actors import (
    Actor,
    Cast,
    Library,
    Run,
    Told,
    Unforeseen,
    admin,
    deliver,
    perform,
    reconciler,
    undisturbed,
    webhook,
)
from tests.faults.schedules_state import (
    AMOUNT,
    EVENTS,
    HEARD,
    NO_ANSWER,
    NO_DATABASE,
    PURCHASES,
    ROWS,
    STRIPE,
    THROTTLED,
    WRITES,
    Shared,
    Step,
    Value,
)

UNTRUE = "untrue"
"""A caller was told what was not so."""

CLOCK, FLIGHT, LEFT, FIRST = 4, 5, 6, 7
"""Where a state keeps what is no part of the shared world: the time, Stripe requests that are still on their
way, how much may yet go wrong, and the actors."""

PAST_LEASE = 61
PAST_KEYS = 25 * 3600
MANY = 99

_ENTERED = -1
"""In place of the count of a state's schedules while they are counted; no schedule comes back to a state."""

State = tuple[Any, ...]
Move = tuple[str, int, str]


@dataclass(frozen=True)
class Setting:
    """Who acts, and what may happen meanwhile.

    :param crashes: how many of the actors may die, each once, before or after any of its steps.
    :param cart: how many purchases the payment paid.
    :param card: a test card.
    :param limit: whether Stripe refuses to refund more than was paid.
    :param moments: the times that the clock may show, in seconds; it may move on between any two steps, and
        an actor who has read it may act on what he read.
    :param becomes: what the payment's first refund turns into at Stripe, one after the other, at any time.
    :param dashboard: amounts refunded in Stripe's Dashboard, at any time.
    :param faults: what may happen to a request: ``lost`` (executed, no answer), ``unsent`` (not executed, no
        answer), ``late`` (no answer, and executed at any later time), ``throttled`` (429) at Stripe;
        ``database_lost`` and ``database_unsent`` at MongoDB.
    :param times: how many of these faults happen at most.
    :param retries: of a request to Stripe.
    :param exact_reports: whether a pass of reconcile may report an error where there is none.
    :param at_once: whether all must be well once everybody is finished, before any reconcile. Where somebody
        may die, it need not.
    """

    name: str
    actors: tuple[Actor, ...]
    crashes: int = MANY
    cart: int = 1
    card: str = "4242424242424242"
    limit: bool = False
    moments: tuple[int, ...] = (0,)
    becomes: tuple[str, ...] = ()
    dashboard: tuple[int, ...] = ()
    faults: frozenset[str] = frozenset()
    times: int = 0
    retries: int = 0
    exact_reports: bool = False
    at_once: bool = False

    @property
    def end(self) -> int:
        """When the last reconcile runs: past every lease."""
        return self.moments[-1] + 2 * PAST_LEASE


@dataclass(frozen=True)
class CheckResult:
    """A schedule after which the promise was broken."""

    setting: str
    schedule: tuple[Move, ...]
    violations: tuple[Violation, ...]
    text: str = field(compare=False, default="")

    def __str__(self) -> str:
        broken = "\n".join(f"  {it.kind}: {it.what}" for it in self.violations)
        return f"{self.setting}:\n{self.text}\n{broken}"


@dataclass
class Explored:
    """What an exploration covered.

    ``schedules`` counts complete schedules: distinct sequences of steps, deaths and happenings.
    """

    setting: str
    states: int = 0
    moves: int = 0
    ends: int = 0
    schedules: int = 0
    refunds: int = 0
    seconds: float = 0.0
    findings: list[CheckResult] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.setting}: {self.states:,} states, {self.moves:,} moves, {self.ends:,} different ends, "
            f"{float(self.schedules):.3g} schedules, {len(self.findings)} findings, {self.seconds:.1f} s"
        )


@dataclass
class _Frame:
    state: State
    moves: list[tuple[Move, State]]
    schedules: int
    at: int = 0


class Explorer:
    """All schedules of one setting."""

    def __init__(self, setting: Setting, *, merge: bool = True) -> None:
        self.setting = setting
        self.shared = Shared(card=setting.card, limit=setting.limit, cart=setting.cart)
        self._library = Library(cart=setting.cart, retries=setting.retries)
        self._cast = Cast(setting.actors, self.shared, self._library, merge=merge, moments=setting.moments)
        self._no_answer = self.shared.results.number(NO_ANSWER)
        self._no_database = self.shared.results.number(NO_DATABASE)
        self._throttled = self.shared.results.number(THROTTLED)
        self._news: dict[int, list[int]] = {}
        self._verdicts: dict[tuple[Any, ...], tuple[Violation, ...]] = {}
        self._told: dict[tuple[Told, int], tuple[Violation, ...]] = {}
        self._doubles: dict[int, tuple[Violation, ...]] = {}
        self._faults = {place: self._faults_at(place) for place in (ROWS, PURCHASES, STRIPE, HEARD, EVENTS)}

    @property
    def start(self) -> State:
        """Before anybody did anything."""
        left = (self.setting.crashes, self.setting.times, 0, 0)
        return (*self.shared.start, 0, (), left, *self._cast.start)

    def explore(self, most: int = 1) -> Explored:
        """Go everywhere.

        :param most: after how many findings to stop.
        """
        explored = Explored(self.setting.name)
        began = time.perf_counter()
        counts: dict[State, int] = {self.start: _ENTERED}
        stack = [self._enter(self.start, explored, [])]
        while stack:
            frame = stack[-1]
            if frame.at == len(frame.moves) or len(explored.findings) >= most:
                counts[frame.state] = frame.schedules
                stack.pop()
                if stack:
                    stack[-1].schedules += frame.schedules
                continue
            _, state = frame.moves[frame.at]
            frame.at += 1
            known = counts.get(state)
            if known is None:
                counts[state] = _ENTERED
                stack.append(self._enter(state, explored, stack))
            elif known == _ENTERED:
                raise Unforeseen("\n".join(self._say(it.moves[it.at - 1][0]) for it in stack))
            else:
                frame.schedules += known
        explored.states, explored.schedules = len(counts), counts[self.start]
        explored.ends = len(self._verdicts)
        explored.seconds = time.perf_counter() - began
        return explored

    def shortest(self) -> CheckResult | None:
        """A shortest schedule that breaks the promise."""
        came: dict[State, tuple[State, Move] | None] = {self.start: None}
        queue = deque([self.start])
        while queue:
            state = queue.popleft()
            moves, wrong = self.moves(state), self._judge(state) if self._is_at_rest(state) else ()
            for move, after, found in moves:
                if found:
                    return self._finding([*_way(came, state), move], found)
                if after not in came:
                    came[after] = (state, move)
                    queue.append(after)
            if wrong:
                return self._finding(_way(came, state), wrong)
        return None

    def _enter(self, state: State, explored: Explored, stack: Sequence[_Frame]) -> _Frame:
        moves = self.moves(state)
        explored.moves += len(moves)
        at_rest = self._is_at_rest(state)
        wrong = self._judge(state) if at_rest else ()
        if at_rest:
            explored.refunds += len(self.shared.stripe(state[STRIPE]).live())
        way = [frame.moves[frame.at - 1][0] for frame in stack]
        if wrong:
            explored.findings.append(self._finding(way, wrong))
        for move, _, found in moves:
            if found:
                explored.findings.append(self._finding([*way, move], found))
        return _Frame(state, [(move, after) for move, after, _ in moves], int(at_rest))

    def _finding(self, way: Sequence[Move], wrong: Sequence[Violation]) -> CheckResult:
        text = "\n".join(self._say(move) for move in way)
        return CheckResult(self.setting.name, tuple(way), tuple(wrong), text)

    def _say(self, move: Move) -> str:
        who, step, how = move
        what = str(self.shared.steps[step])[:200] if step >= 0 else ""
        return f"  {who}: {what} {f'[{how}]' if how else ''}".rstrip()

    # Moves

    def moves(self, state: State) -> list[tuple[Move, State, tuple[Violation, ...]]]:
        """Everything that can happen next, where it leads, and what is wrong with that."""
        for place in range(FIRST, len(state)):
            if self._hears(state[place]):
                # What a receiver hears, no actor ever asks: when he hears it, changes nothing for others.
                return list(self._acts(state, place))
        moves = list(self._happenings(state))
        for place in range(FIRST, len(state)):
            moves += self._acts(state, place)
        return moves

    def _hears(self, local: int) -> bool:
        step = self._cast.locals[local].step
        return step is not None and self.shared.steps[step].place == HEARD

    def _acts(self, state: State, place: int) -> Iterator[tuple[Move, State, tuple[Violation, ...]]]:
        at = self._cast.locals[state[place]]
        if at.step is None:
            return
        name = self.setting.actors[place - FIRST].name
        crashes, times, *others = state[LEFT]
        if crashes and not at.had:
            left = (crashes - 1, times, *others)
            yield (name, -1, "dies"), _with(state, {place: self._dead(at), LEFT: left}), ()
        step: Step = self.shared.steps[at.step]
        done = self._do(state, at.step, step)
        if done is None:
            return
        result, part = done
        changes = {} if step.place == EVENTS else {step.place: part}
        yield self._goes_on((name, at.step, ""), state, place, changes, result)
        if crashes:
            left = (crashes - 1, times, *others)
            after = _with(state, changes | {place: self._dead(at), LEFT: left})
            yield (name, at.step, "dies"), after, self._doubled(after[STRIPE])
        if times:
            left = (crashes, times - 1, *others)
            for fault in self._faults[step.place]:
                yield from self._suffers(fault, (name, at.step, fault), state, place, changes | {LEFT: left})

    def _do(self, state: State, number: int, step: Step) -> tuple[int, int] | None:
        """The step's result and the part that it changed; ``None`` where it must wait."""
        if step.place == EVENTS:
            news = self._news_of(state[STRIPE])
            return (news[step.arguments[0]], 0) if step.arguments[0] < len(news) else None
        return self.shared.do(number, state[step.place], self._seconds(state))

    def _goes_on(
        self, move: Move, state: State, place: int, changes: dict[int, Any], result: int
    ) -> tuple[Move, State, tuple[Violation, ...]]:
        local = self._cast.go_on(state[place], result, self._seconds(state))
        at = self._cast.locals[local]
        if at.told is None:
            after = _with(state, changes | {place: local})
            return move, after, self._doubled(after[STRIPE])
        after = _with(state, changes | {place: self._cast.over(at.acknowledged)})
        return move, after, self._doubled(after[STRIPE]) + self._is_true(at.told, after[STRIPE])

    def _suffers(
        self, fault: str, move: Move, state: State, place: int, changes: dict[int, Any]
    ) -> Iterator[tuple[Move, State, tuple[Violation, ...]]]:
        step_number = move[1]
        step: Step = self.shared.steps[step_number]
        unchanged = {key: value for key, value in changes.items() if key != step.place}
        if fault == "lost":
            yield self._goes_on(move, state, place, changes, self._no_answer)
        elif fault == "unsent":
            yield self._goes_on(move, state, place, unchanged, self._no_answer)
        elif fault == "throttled":
            yield self._goes_on(move, state, place, unchanged, self._throttled)
        elif fault == "late" and step.name == "POST":
            flying = unchanged | {FLIGHT: (*state[FLIGHT], step_number)}
            yield self._goes_on(move, state, place, flying, self._no_answer)
            if state[LEFT][0]:
                yield (
                    (*move[:2], "late, dies"),
                    _with(state, flying | {place: self._cast.over(frozenset())}),
                    (),
                )
        elif fault == "database_lost" and step.name in WRITES:
            yield self._goes_on(move, state, place, changes, self._no_database)
        elif fault == "database_unsent":
            yield self._goes_on(move, state, place, unchanged, self._no_database)

    def _happenings(self, state: State) -> Iterator[tuple[Move, State, tuple[Violation, ...]]]:
        for step in sorted(set(state[FLIGHT])):
            _, part = self.shared.do(step, state[STRIPE], self._seconds(state))
            flight = list(state[FLIGHT])
            flight.remove(step)
            yield (
                ("network", step, "arrives"),
                _with(state, {STRIPE: part, FLIGHT: tuple(flight)}),
                self._doubled(part),
            )
        if state[CLOCK] + 1 < len(self.setting.moments):
            yield from self._time_passes(state)
        yield from self._stripe_changes(state)

    def _time_passes(self, state: State) -> Iterator[tuple[Move, State, tuple[Violation, ...]]]:
        """Whoever has read the clock since his last step may have done so before or after."""
        moment = state[CLOCK] + 1
        seconds = self.setting.moments[moment]
        forgotten = seconds >= PAST_KEYS
        if forgotten and state[FLIGHT]:
            # The one assumption on time: no request is on its way to Stripe for a day.
            return
        locals_ = [self._readings(local, forgotten) for local in state[FIRST:]]
        for chosen in itertools.product(*locals_):
            how = f"{seconds} s"
            yield ("clock", -1, how), (*state[:CLOCK], moment, *state[FLIGHT:FIRST], *chosen), ()

    def _readings(self, local: int, forgotten: bool) -> tuple[int, ...]:
        at = self._cast.locals[local]
        if at.later is None:
            return (local,)
        about_to_pay = self.shared.steps[at.step].name == "POST"
        return (at.later,) if forgotten and about_to_pay else (local, at.later)

    def _stripe_changes(self, state: State) -> Iterator[tuple[Move, State, tuple[Violation, ...]]]:
        crashes, times, become, dashboard = state[LEFT]
        seconds = self._seconds(state)
        if become < len(self.setting.becomes):
            refunds = self.shared.stripe(state[STRIPE]).account.refunds_of(self.shared.payment)
            if refunds:
                status, first = self.setting.becomes[become], refunds[0]["id"]
                part = self.shared.change_stripe(
                    state[STRIPE], seconds, lambda account: account.settle(first, status)
                )
                left = (crashes, times, become + 1, dashboard)
                yield ("bank", -1, status), _with(state, {STRIPE: part, LEFT: left}), ()
        if dashboard < len(self.setting.dashboard):
            amount = self.setting.dashboard[dashboard]
            part = self._refund_in_dashboard(state[STRIPE], seconds, amount)
            left = (crashes, times, become, dashboard + 1)
            yield ("dashboard", -1, str(amount)), _with(state, {STRIPE: part, LEFT: left}), ()

    def _refund_in_dashboard(self, part: int, seconds: int, amount: int) -> int:
        paid = self.shared.payment
        charge = self.shared.stripe(part).account.payment_intent(paid)["latest_charge"]
        held = self.shared.stripe(part).account.charge(charge)
        if held["amount"] - held["amount_refunded"] < amount:
            return part
        return self.shared.change_stripe(
            part, seconds, lambda account: account.create_refund(payment_intent=paid, amount=amount)
        )

    def _faults_at(self, place: int) -> list[str]:
        at_database = place in (ROWS, PURCHASES)
        return sorted(
            fault
            for fault in self.setting.faults
            if (at_database and fault.startswith("database")) or (place == STRIPE and "database" not in fault)
        )

    def _dead(self, at: Any) -> int:
        return self._cast.over(at.acknowledged)

    def _seconds(self, state: State) -> int:
        return self.setting.moments[state[CLOCK]]

    def _news_of(self, part: int) -> list[int]:
        news = self._news.get(part)
        if news is None:
            told = self.shared.stripe(part).news()
            news = self._news[part] = [self.shared.results.number(Value.of(event)) for event in told]
        return news

    # Judgement

    def _is_at_rest(self, state: State) -> bool:
        for local in state[FIRST:]:
            at = self._cast.locals[local]
            if at.step is not None and self._do(state, at.step, self.shared.steps[at.step]) is not None:
                return False
        return True

    def _judge(self, state: State) -> tuple[Violation, ...]:
        acknowledged = frozenset().union(*(self._cast.locals[local].acknowledged for local in state[FIRST:]))
        key = (*state[:CLOCK], acknowledged)
        found = self._verdicts.get(key)
        if found is None:
            before = self._violations(state[:CLOCK]) if self.setting.at_once else []
            parts = self._put_right(list(state[:CLOCK]), acknowledged)
            found = self._verdicts[key] = tuple(before + self._violations(parts))
        return found

    def _put_right(self, parts: list[int], acknowledged: frozenset[int]) -> list[int]:
        """Send again what was not acknowledged, and reconcile once, with nobody else at work."""
        last = _Last(self, parts)
        perform(self._library, _put_right(len(self._news_of(parts[STRIPE])), acknowledged), last)
        return parts

    def _violations(self, parts: Sequence[int]) -> list[Violation]:
        shared = self.shared
        found = violations(
            shared.payment,
            at_stripe=shared.stripe(parts[STRIPE]).account.refunds_of(shared.payment),
            rows=shared.rows(parts[ROWS]),
            purchases=shared.purchases(parts[PURCHASES]),
            heard=shared.parts[HEARD][parts[HEARD]],
        )
        return found + list(self._doubled(parts[STRIPE]))

    def _doubled(self, part: int) -> tuple[Violation, ...]:
        """At no time are two refunds of ours alive."""
        found = self._doubles.get(part)
        if found is None:
            live = self.shared.stripe(part).live()
            what = f"{len(live)} of our refunds are alive: {[it['metadata']['refund_id'] for it in live]}"
            found = (Violation(DOUBLED, self.shared.payment, what),) if len(live) > 1 else ()
            self._doubles[part] = found
        return found

    def _is_true(self, told: Told, part: int) -> tuple[Violation, ...]:
        found = self._told.get((told, part))
        if found is None:
            muddled = self.setting.exact_reports and told.what == "errors"
            wrong = muddled or not _is_true(
                told, self.shared.stripe(part).account.refunds_of(self.shared.payment)
            )
            violation = Violation(UNTRUE, self.shared.payment, f"a caller was told {told}")
            found = self._told[told, part] = (violation,) if wrong else ()
        return found


class _Last(Run):
    """A run that nobody interrupts: each step is taken at once."""

    def __init__(self, explorer: Explorer, parts: list[int]) -> None:
        super().__init__("last", [], explorer.setting.end)
        self._explorer = explorer
        self._parts = parts

    def take(self, step: Step) -> Any:
        shared = self._explorer.shared
        if step.place == EVENTS:
            return shared.results[self._explorer._news_of(self._parts[STRIPE])[step.arguments[0]]].give()
        result, part = shared.do(shared.step(step), self._parts[step.place], self.seconds)
        self._parts[step.place] = part
        return shared.results[result].give()


def _put_right(events: int, acknowledged: frozenset[int]) -> Any:
    def program(library: Library) -> Told:
        for number in range(events):
            if number not in acknowledged:
                deliver(library, number)
        return reconciler().program(library)

    return program


def _is_true(told: Told, refunds: Sequence[dict[str, Any]]) -> bool:
    of_it = [it["status"] for it in refunds if it["metadata"].get("refund_id") == told.refund_id]
    if told.what == "succeeded":
        # It may have failed since: nobody can know that before he is told.
        return any(status in ("succeeded", "failed") for status in of_it)
    if told.what in ("RefundFailed", "StripeRateLimited", "StripeKeyRejected"):
        return all(status in ("failed", "canceled") for status in of_it)
    if told.what == "DatabaseUnavailable":
        return not told.asked
    return True


def _with(state: State, changes: dict[int, Any]) -> State:
    after = list(state)
    for place, value in changes.items():
        after[place] = value
    return tuple(after)


def _way(came: dict[State, tuple[State, Move] | None], state: State) -> list[Move]:
    way: list[Move] = []
    while (step := came[state]) is not None:
        state, move = step
        way.append(move)
    return way[::-1]


def explore(setting: Setting, *, merge: bool = True) -> Explored:
    """Explore one setting."""
    with undisturbed():
        return Explorer(setting, merge=merge).explore()


def find_shortest(setting: Setting) -> CheckResult | None:
    """A shortest schedule of one setting that breaks the promise."""
    with undisturbed():
        return Explorer(setting).shortest()


ANN, BOB, EVE = admin("ann"), admin("bob"), admin("eve", purchase=1)
FROZEN = (0, PAST_LEASE)
"""Between any two of an actor's steps his lease may end, as if his process had been frozen."""

PENDING = "4000000000007726"
NETWORK = frozenset({"late", "lost", "throttled", "unsent"})
DATABASE = frozenset({"database_lost", "database_unsent"})

NOBODY_DIES = Setting(
    "admin, reconcile, webhook, failed later, nobody dies",
    (ANN, reconciler(), webhook(0, 1)),
    crashes=0,
    becomes=("failed",),
)

SHORT = (
    Setting("two admins", (ANN, BOB), moments=FROZEN),
    Setting("two purchases of one cart", (ANN, EVE), cart=2),
    Setting(
        "admin, reconcile, two faults at Stripe", (ANN, reconciler()), moments=FROZEN, faults=NETWORK, times=2
    ),
    Setting("admin, reconcile, a fault of the database", (ANN, reconciler()), faults=DATABASE, times=1),
    Setting("admin, reconcile, a day", (ANN, reconciler()), moments=(0, PAST_KEYS), faults=NETWORK, times=1),
)

WITH_WEBHOOKS = (
    Setting("admin, webhook, failed later", (ANN, webhook(0, 1)), becomes=("failed",)),
    Setting("two admins, webhook, nobody dies", (ANN, BOB, webhook(0)), crashes=0, at_once=True),
    NOBODY_DIES,
    Setting("admin, events in any order", (ANN, webhook(0), webhook(1)), becomes=("failed",)),
    Setting("admin, webhook, pending", (ANN, webhook(0, 1)), card=PENDING, becomes=("succeeded", "failed")),
    Setting("admin, webhook, Dashboard", (ANN, webhook(0)), limit=True, dashboard=(AMOUNT,)),
)

EVERY_DAY = (*SHORT, *WITH_WEBHOOKS)
"""A few seconds each."""

NOT_CHECKED_TOO_SOON = (
    Setting(
        "admin, reconcile, webhook, failed later", (ANN, reconciler(), webhook(0, 1)), becomes=("failed",)
    ),
    Setting(
        "admin, reconcile, webhook, pending",
        (ANN, reconciler(), webhook(0, 1)),
        card=PENDING,
        becomes=("succeeded", "failed"),
    ),
)
"""What reconcile may call checked: not a row that it moved in this pass, while a call that read it before may
still write the purchases, and die."""

FROZEN_AND_KILLED = Setting(
    "admin, reconcile, webhook, failed later, frozen",
    (ANN, reconciler(), webhook(0, 1)),
    moments=FROZEN,
    becomes=("failed",),
)
"""What no order of writes can mend: a call that is frozen for longer than anybody waits for it, writes the
purchases when it wakes, and is killed before it looks at the row again."""

FAILS_WHILE_READ = Setting(
    "admin, webhook, failed later, nobody dies",
    (ANN, webhook(0, 1)),
    crashes=0,
    becomes=("failed",),
    at_once=True,
)
"""One call writes the purchases back to completed and then climbs; between the two, another finds the row
still succeeded, and writes refunded. Who climbs to a failure looks again."""

FULL = (
    *EVERY_DAY,
    Setting("two admins, webhook, failed later, one dies", (ANN, BOB, webhook(0, 1)), 1, becomes=("failed",)),
    Setting("two purchases of one cart, frozen", (ANN, EVE), cart=2, moments=FROZEN),
    Setting("two admins, a fault of the database", (ANN, BOB), moments=FROZEN, faults=DATABASE, times=1),
    Setting("two admins, Dashboard, webhook", (ANN, BOB, webhook(0)), limit=True, dashboard=(AMOUNT,)),
    Setting(
        "admin, two webhooks, two parts in the Dashboard",
        (ANN, webhook(0), webhook(1)),
        limit=True,
        dashboard=(500, AMOUNT - 500),
    ),
    Setting("two admins, webhook, failed later", (ANN, BOB, webhook(0, 1)), becomes=("failed",)),
    Setting("two admins, events in any order", (ANN, BOB, webhook(0), webhook(1)), becomes=("failed",)),
    Setting("two admins, reconcile, frozen", (ANN, BOB, reconciler()), moments=FROZEN),
    Setting(
        "two admins, reconcile, frozen, 429",
        (ANN, BOB, reconciler()),
        moments=FROZEN,
        faults=frozenset({"throttled"}),
        times=1,
    ),
    Setting("two admins, webhook, reconcile", (ANN, BOB, webhook(0), reconciler())),
    Setting("two admins, webhook, reconcile, frozen", (ANN, BOB, webhook(0), reconciler()), moments=FROZEN),
    Setting(
        "two admins, webhook, reconcile, failed later",
        (ANN, BOB, webhook(0, 1), reconciler()),
        becomes=("failed",),
    ),
    *NOT_CHECKED_TOO_SOON,
)


def run(full: bool) -> Tally:
    """Explore every setting; a history of the tally is a state that was explored."""
    tally = Tally("all schedules")
    for setting in FULL if full else EVERY_DAY:
        explored = explore(setting)
        print(explored, flush=True)
        tally.histories += explored.states
        tally.refunds += explored.refunds
        for finding in explored.findings:
            print(finding, flush=True)
            tally.violations += finding.violations
    if full:
        print(f"Known, and no violation of the tally:\n{find_shortest(FROZEN_AND_KILLED)}", flush=True)
    return tally
