"""What an alias meant at any moment, against a plain list of what it was set to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from states import ANA, FIRST, Clock, control_of, events_of, published

from penstock.control.changes import Event, Moved, Serving
from penstock.control.control import Control
from penstock.control.history import history_of, holds, spans_of
from penstock.errors import ControlError
from penstock.testing import MemoryStore

MODELS = st.sampled_from(["churn", "iris"])
ALIASES = st.sampled_from(["champion", "candidate", "Production", "blue", "Archived"])
NODES = st.sampled_from(["quay", "mole"])
NUMBERS = st.integers(1, 5)
Command = Callable[[Control], Any]
Snapshot = tuple[datetime, dict[str, int], dict[str, dict[str, int]]]


def commands() -> st.SearchStrategy[Command]:
    """Everything that operators and machines do, with what makes no sense among it."""
    contents = st.text("abcdef", min_size=2, max_size=2)
    return st.one_of(
        st.builds(lambda model, text: lambda one: one.publish(Path(model) / text, ANA), MODELS, contents),
        st.builds(
            lambda model, alias, number: lambda one: one.move(model, alias, number, ANA),
            MODELS, ALIASES, NUMBERS | st.none(),
        ),
        st.builds(lambda model: lambda one: one.rollback(model, ANA), MODELS),
        st.builds(lambda model, number: lambda one: one.remove(model, number, ANA), MODELS, NUMBERS),
        st.builds(
            lambda model, node, after: lambda one: one.note(model, Serving(node=node, after=after), ANA.who),
            MODELS, NODES, st.dictionaries(st.sampled_from(["champion", "blue"]), NUMBERS),
        ),
    )  # fmt: skip


@given(steps=st.lists(st.tuples(commands(), st.sampled_from([-5.0, 0.0, 1e-6, 1.0, 60.0])), max_size=40))
def test_history_is_right_at_any_moment(steps: list[tuple[Command, float]]) -> None:
    """At every moment before, at, between and after events it says what a list kept beside them says."""
    clock = Clock()
    control = control_of(MemoryStore(), clock=clock)
    kept: dict[str, list[Snapshot]] = {"churn": [], "iris": []}
    for command, pause_s in steps:
        seen = len(control.events())
        with contextlib.suppress(ControlError):
            command(control)
        for event in control.events()[seen:]:
            kept[event.model].append((event.at, *after(kept[event.model], event)))
        clock.pass_s(pause_s)
    events = control.events()
    assert sorted({event.at for event in events}) == [event.at for event in events]
    near = {event.at + timedelta(microseconds=off) for event in events for off in (-1, 0, 1)}
    for at in {FIRST - timedelta(days=1), FIRST + timedelta(days=1), *near}:
        for name, snapshots in kept.items():
            then = [one for one in snapshots if one[0] <= at]
            _, aliases, serving = then[-1] if then else (at, {}, {})
            found = history_of(name, events, at)
            assert (aliases, serving) == (found.aliases_at, found.serving_at), at


def after(snapshots: list[Snapshot], event: Event) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """The plain list's next entry."""
    _, aliases, serving = snapshots[-1] if snapshots else (None, {}, {})
    change = event.change
    if isinstance(change, Moved):
        others = {alias: number for alias, number in aliases.items() if alias != change.alias}
        aliases = others if change.after is None else {**others, change.alias: change.after}
    if isinstance(change, Serving):
        others_serve = {node: answers for node, answers in serving.items() if node != change.node}
        serving = {**others_serve, change.node: change.after} if change.after else others_serve
    return aliases, serving


def test_spans_have_no_gap() -> None:
    """A span ends where the next one of the alias begins, and the last one is open."""
    events = events_of(
        [
            published(1), Moved(alias="champion", after=1), published(2), Moved(alias="champion", before=1, after=2),
            Moved(alias="blue", after=1), Moved(alias="blue", before=1), Moved(alias="champion", before=2, after=1),
        ]
    )  # fmt: skip
    at = [event.at for event in events]
    champions = [(span.version, span.since, span.until) for span in spans_of(events) if span.alias == "champion"]
    assert [(1, at[1], at[3]), (2, at[3], at[6]), (1, at[6], None)] == champions
    [blue] = [span for span in spans_of(events) if span.alias == "blue"]
    assert (1, at[4], at[5]) == (blue.version, blue.since, blue.until)
    assert (True, False) == (holds(blue, at[4]), holds(blue, at[5]))


def test_what_is_answered_may_differ_from_what_is_wanted() -> None:
    """A machine that cannot serve what is wanted has spans of its own, which end when it stops."""
    events = events_of(
        [
            published(1), Moved(alias="champion", after=1), Serving(node="quay", after={"champion": 1}), published(2),
            Moved(alias="champion", before=1, after=2), Serving(node="quay", before={"champion": 1}),
        ]
    )  # fmt: skip
    found = history_of("churn", events, events[4].at)
    assert ({"champion": 2}, {"quay": {"champion": 1}}) == (found.aliases_at, found.serving_at)
    [served] = found.served
    assert ("quay", 1, events[2].at, events[5].at) == (served.node, served.version, served.since, served.until)


def test_other_models_are_no_part_of_it() -> None:
    """The history of a model has its own events only."""
    events = [*events_of([published(1)]), Event(revision=2, at=FIRST, who=ANA.who, model="iris", change=published(1))]
    assert ["churn"] == [event.model for event in history_of("churn", events).events]
