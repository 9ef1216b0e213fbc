"""Random commands by two Controls at once, with crashes, restarts and a clock that jumps, against plain lists.

Two things must never be seen: a model without a version that answers once it had one, and a history with a gap.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ledger import Command, Ledger, line_of
from store_contract import OpensStore

from penstock.control import rollout_decisions
from penstock.control.changes import Change, Event, ModelConfig, Moved, Published, Serving, Who
from penstock.control.control import By, Control
from penstock.control.history import history_of
from penstock.control.sql_store import SqlStore
from penstock.control.state import ModelState, State, folded
from penstock.control.wanted import wanted_of
from penstock.errors import ControlError
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Action, Reason
from penstock.routing import NOTHING, ModelOptions

EXAMPLES = int(os.environ.get("PENSTOCK_TEST_EXAMPLES", "8"))  # `make soak-control` does 500
BEGIN = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
BY = By(who=Who("ana@quay"), reason="because")
PLAN = Plan(steps=(5.0, 50.0), replay=None)

MODELS = st.sampled_from(["churn", "churn", "churn", "iris"])
CONTENTS = st.integers(0, 5)
NUMBERS = st.integers(1, 3)
ALIASES = st.sampled_from(["champion", "Production", "candidate", "Staging", "blue", "shadow"])
PUBLISH = st.tuples(st.just("publish"), MODELS, CONTENTS)
DEPLOY = st.tuples(st.just("move"), MODELS, st.just("champion"), NUMBERS)
ROLLBACK = st.tuples(st.just("rollback"), MODELS)
REMOVE = st.tuples(st.just("remove"), MODELS, NUMBERS)
START = st.tuples(st.just("start"), MODELS, NUMBERS, st.booleans())
ROLL = st.tuples(st.just("roll"), MODELS, st.sampled_from(["wait", "hold", "go", "go", "abort"]))
TOLD = st.tuples(st.just("told"), MODELS, st.sampled_from(["hold", "resume", "approve", "abort", "promote"]))
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    *(PUBLISH, PUBLISH, PUBLISH, DEPLOY, DEPLOY, ROLLBACK, ROLLBACK, REMOVE, REMOVE, START, START, ROLL, ROLL, TOLD),
    st.tuples(st.just("move"), MODELS, ALIASES, NUMBERS | st.none()),
    st.tuples(st.just("move"), MODELS, st.just("Archived"), NUMBERS),
    st.tuples(st.just("configure"), MODELS, st.booleans()),
    st.tuples(st.just("serve"), MODELS, st.sampled_from(["quay", "pier"]), st.none() | NUMBERS),
)


class Crash(Exception):
    """The process ends here."""


class Shelf:
    """Bundles that are nothing but a name and a content: `churn/3`."""

    def add(self, bundle: Path) -> tuple[str, Published]:
        digest = f"sha256:{bundle.name}"
        return bundle.parent.name, Published(version=0, digest=digest, seal=digest, size_bytes=1, flavour="onnx")


class OpenGate:
    """Nothing speaks against a move."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        return [], []

    def misfits(self, model: ModelState, options: ModelOptions, numbers: Iterable[int]) -> list[str]:
        return []


class Faulty:
    """A store that does something just before, or just after, the next append."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None
        self.since, self.back_up, self.close = store.since, store.back_up, store.close

    def append(self, events: Sequence[Event]) -> None:
        before, self.before = self.before, None
        if before is not None:
            before()
        self.store.append(events)
        after, self.after = self.after, None
        if after is not None:
            after()


def crash() -> None:
    raise Crash


def run(control: Control, command: Command) -> list[Event]:
    """What a command adds."""
    verb, name, *rest = command
    commands: dict[str, Callable[..., Any]] = {
        "publish": lambda content: control.publish(Path(name) / str(content), BY)[2],
        "move": lambda alias, number: control.move(name, alias, number, BY),
        "rollback": lambda: control.rollback(name, BY),
        "remove": lambda number: control.remove(name, number, BY),
        "configure": lambda lazy: control.configure(name, ModelConfig(options=ModelOptions(is_lazy=lazy)), BY),
        "serve": lambda node, version: control.note(
            name, Serving(node=node, after={} if version is None else {"champion": version}), BY.who
        ),
        "start": lambda number, is_forced: control.start_rollout(
            name, number, PLAN, msgspec.structs.replace(BY, is_forced=is_forced)
        ),
        "roll": lambda verdict: control.roll(name, BY, lambda state: decided(state, name, verdict)),
        "told": lambda verb: control.roll(name, BY, lambda state: rollout_decisions.told(state, name, verb, "so")),
    }
    done: list[Event] = commands[verb](*rest)
    return done


def decided(state: State, name: str, verdict: str) -> list[Change]:
    """What a controller changes; "go" is whatever comes next."""
    now = state.model(name).rollout
    if now is None:
        return []
    is_last = now.stage == "step" and now.step + 1 == len(PLAN.steps)
    made = {"wait": Action("wait"), "hold": Action("hold", (Reason("slow", "5 of 20"),)), "abort": Action("abort")}
    action = made.get(verdict) or Action("promote" if is_last else "advance")
    return rollout_decisions.roll(state, name, now.id, action)


def outcome(control: Control, command: Command) -> list[tuple[Any, ...]] | type[ControlError]:
    """What a command adds, as lines, or the kind of error it ends with."""
    try:
        return [line_of(event) for event in run(control, command)]
    except ControlError as error:
        return type(error)


class ControlMachine(RuleBasedStateMachine):
    """Two Controls on one state, and the ledger."""

    new_state: ClassVar[Callable[[], OpensStore]]

    @initialize(
        published=st.integers(0, 4), commands=st.lists(COMMANDS, max_size=12), unfit=st.sets(CONTENTS, max_size=3)
    )
    def begin(self, published: int, commands: list[Command], unfit: set[int]) -> None:
        self.opens = self.new_state()
        self.ledger = Ledger()
        self.now = BEGIN
        self.wanted = NOTHING
        self.served: set[str] = set()
        self.unfit = {f"sha256:{content}" for content in unfit}
        self.reader = self.opens()
        self.stores = [Faulty(self.opens()), Faulty(self.opens())]
        self.controls = [self.made(store) for store in self.stores]
        first = [("publish", "churn", content) for content in range(published)]
        self.do([(command, 0) for command in (*first, *commands)])

    def made(self, store: Faulty) -> Control:
        return Control(store, Shelf(), OpenGate(), clock=lambda: self.now)

    @rule(commands=st.lists(st.tuples(COMMANDS, st.integers(0, 1)), min_size=2, max_size=8))
    def do(self, commands: list[tuple[Command, int]]) -> None:
        for command, which in commands:
            assert self.ledger.do(command) == outcome(self.controls[which], command)

    @rule(first=COMMANDS, second=COMMANDS)
    def do_at_once(self, first: Command, second: Command) -> None:
        """The second comes between what the first reads and what it adds, if it adds anything."""
        comes_between = self.ledger.would_change(first)
        found: list[Any] = []
        self.stores[0].before = lambda: found.append(outcome(self.controls[1], second))
        told = outcome(self.controls[0], first)
        self.stores[0].before = None
        if not found:
            found.append(outcome(self.controls[1], second))
        if comes_between:
            assert self.ledger.do(second) == found[0]
            assert self.ledger.do(first) == told
        else:
            assert self.ledger.do(first) == told
            assert self.ledger.do(second) == found[0]

    @rule(command=COMMANDS, is_added=st.booleans(), which=st.integers(0, 1))
    def crash_at(self, command: Command, is_added: bool, which: int) -> None:
        """The process ends before, or after, its events are in the database, and does not know which."""
        store = self.stores[which]
        if is_added:
            store.after = crash
        else:
            store.before = crash
        with contextlib.suppress(Crash, ControlError):
            run(self.controls[which], command)
        store.before = store.after = None
        if is_added:
            self.ledger.do(command)
        self.restart(which)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = Faulty(self.opens())
        self.controls[which] = self.made(self.stores[which])

    @rule(by=st.timedeltas(timedelta(days=-2), timedelta(days=2)))
    def clock_jumps(self, by: timedelta) -> None:
        self.now += by

    @rule(content=CONTENTS)
    def bundle_does_not_load(self, content: int) -> None:
        """From now on, on this machine, unless it serves already."""
        self.unfit.add(f"sha256:{content}")

    @invariant()
    def holds(self) -> None:
        events = self.reader.since(0)
        assert list(range(1, len(events) + 1)) == [event.revision for event in events]
        assert all(one.at < other.at for one, other in itertools.pairwise(events))
        assert self.ledger.lines == [line_of(event) for event in events]
        state = folded(events)
        for name, kept in self.ledger.models.items():
            model = state.models[name]
            assert kept.aliases == model.aliases
            assert kept.weight == sum(arm.weight for arm in ([] if model.experiment is None else model.experiment.arms))
            assert [number for number, digest in enumerate(kept.digests, 1) if digest is not None] == model.present
            assert "champion" in model.aliases or not model.versions
        self.converge(state)

    def converge(self, state: State) -> None:
        """This machine serves what loads on it; a model that once answered always does, by a version that is there."""
        paths = {
            name: {
                number: f"/{number}"
                for number, version in model.versions.items()
                if number in self.wanted.paths.get(name, {})
                or (not version.is_removed and version.published.digest not in self.unfit)
            }
            for name, model in state.models.items()
        }
        self.wanted = wanted_of(state, paths, before=self.wanted)
        self.served |= {name for name, routes in self.wanted.table.models.items() if "champion" in routes.aliases}
        for name in self.served:
            assert self.wanted.table.choose(name)[1] in self.wanted.paths[name]

    def teardown(self) -> None:
        """At any moment the history says what plain lists say."""
        if not hasattr(self, "reader"):
            return
        events = self.reader.since(0)
        ticks = [BEGIN - timedelta(days=99), BEGIN + timedelta(days=9999)]
        ticks += [event.at + timedelta(microseconds=by) for event in events for by in (-1, 0, 1)]
        for name in {event.model for event in events}:
            for at in ticks:
                told = history_of(name, events, at)
                assert at_in_list(events, name, at) == (told.aliases_at, told.serving_at)
        for store in (self.reader, *self.stores):
            store.close()


def at_in_list(events: list[Event], name: str, at: datetime) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """What aliases meant, and what machines served, by going through the lines up to a moment."""
    aliases: dict[str, int] = {}
    serving: dict[str, dict[str, int]] = {}
    for event in events:
        model, kind, *rest = line_of(event)
        if model == name and event.at <= at:
            if kind == "moved":
                aliases[rest[0]] = rest[1]
            elif kind == "serving":
                serving[rest[0]] = rest[1]
    return (
        {alias: number for alias, number in aliases.items() if number is not None},
        {node: meant for node, meant in serving.items() if meant},
    )


@pytest.mark.parametrize("new_state", ["sqlite", "postgresql"], indirect=True)
def test_random_commands(new_state: Callable[[], OpensStore]) -> None:
    """No sequence of commands, crashes and races shows a gap, a lost event, a time that goes back, or no champion."""
    machine = type("Machine", (ControlMachine,), {"new_state": staticmethod(new_state)})
    rules = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=rules)


def test_operators_at_once(opens: OpensStore) -> None:
    """Of operators in several threads, at several Controls, each finds what it was told it did in the history, once."""
    stores = [opens(), opens()]
    controls = [Control(store, Shelf(), OpenGate()) for store in stores]
    for content in range(3):
        run(controls[0], ("publish", "churn", content))

    def operate(number: int) -> list[Event]:
        control = controls[number % 2]
        moves = (("move", "churn", ("champion", "blue")[number % 3 == 0], 1 + turn % 3) for turn in range(8))
        return [event for command in moves for event in run(control, command)]

    with ThreadPoolExecutor(4) as threads:
        done = [event for found in threads.map(operate, range(4)) for event in found]
    events = stores[0].since(0)
    assert sorted(done, key=lambda event: event.revision) == events[4:]
    assert all(event.change.before != event.change.after for event in done if isinstance(event.change, Moved))
    assert folded(events) == controls[0].state() == controls[1].state()
