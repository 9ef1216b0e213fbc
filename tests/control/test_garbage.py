"""Which versions are garbage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.changes import Change, Configured, Event, ModelConfig, Moved, Published, Removed, Serving, Who
from penstock.control.garbage import KeepRule, removable, seals_of
from penstock.control.state import State, folded
from penstock.routing import CHAMPION, FallbackOptions, ModelOptions

START = datetime(2026, 1, 1, tzinfo=UTC)


def published(version: int) -> Published:
    return Published(version=version, digest=f"d{version}", seal=f"s{version}", size_bytes=1, flavour="onnx")


def state_of(*changes: Change) -> State:
    """A model `m`, one change a day."""
    return folded(
        Event(revision=number, at=START + timedelta(days=number), who=Who("x"), model="m", change=change)
        for number, change in enumerate(changes, 1)
    )


def garbage(state: State, *, day: float = 1000, last: int = 0, days: float = 0, loaded: int = 0) -> list[int]:
    rule = KeepRule(last=last, days=days, loaded=loaded)
    return removable(state, START + timedelta(days=day), rule).get("m", [])


FIVE = [published(number) for number in range(1, 6)]


def test_what_nothing_refers_to_goes() -> None:
    """Old versions without an alias are garbage, oldest first."""
    assert [1, 2, 4, 5] == garbage(state_of(*FIVE, Moved(alias=CHAMPION, after=3)))


def test_aliases_rollbacks_and_fallbacks_stay() -> None:
    """So do the version that a rollback would go back to, and one that a declared fallback answers by."""
    moves = [Moved(alias=CHAMPION, after=1), Moved(alias=CHAMPION, before=1, after=2), Moved(alias="shadow", after=3)]
    options = ModelOptions(fallback=FallbackOptions(kind="version", version=4))
    declared = Configured(before=ModelConfig(), after=ModelConfig(options=options))
    assert [5] == garbage(state_of(*FIVE, *moves, declared))


def test_what_a_machine_serves_or_keeps_loaded_stays() -> None:
    """Former champions that stay in memory, and whatever a machine says that it answers by, have their files."""
    champions = [Moved(alias=CHAMPION, after=number) for number in (1, 2, 3, 4)]
    assert [5] == garbage(state_of(*FIVE, *champions), loaded=3)
    assert [1, 5] == garbage(state_of(*FIVE, *champions, Serving(node="a", after={"champion": 2})))


def test_the_last_and_the_young_stay() -> None:
    """The last published of those that are there stay, and those younger than the rule's days."""
    champion = Moved(alias=CHAMPION, after=5)
    assert [1, 2] == garbage(state_of(*FIVE, champion), last=3)
    assert [1] == garbage(state_of(*FIVE, champion, Removed(version=3, digest="d3")), last=3)
    assert [1, 2] == garbage(state_of(*FIVE, champion), day=12.5, days=10)
    assert [] == garbage(state_of(*FIVE, champion), last=100)


def test_removed_versions_need_no_files() -> None:
    """The seals of what is there, and not of what was removed or is about to be."""
    state = state_of(*FIVE, Removed(version=2, digest="d2"))
    assert {"s1", "s4", "s5"} == seals_of(state, without={"m": [3]})


@given(
    st.lists(st.tuples(st.sampled_from([CHAMPION, "candidate"]), st.integers(1, 5)), max_size=12),
    st.integers(0, 6),
    st.integers(0, 3),
)
def test_garbage_is_never_referred_to(moves: list[tuple[str, int]], last: int, loaded: int) -> None:
    """Whatever the moves were: no alias, rollback or memory has a version that goes, and it is not of the last."""
    state = state_of(*FIVE, *(Moved(alias=alias, after=number) for alias, number in moves))
    found = set(garbage(state, last=last, loaded=loaded))
    model = state.model("m")
    former = [number for number in model.recent if number not in model.aliases.values()][:loaded]
    assert not found & {*model.aliases.values(), *model.champions[-2:], *former, *model.present[5 - min(5, last) :]}
