"""What a machine ought to serve, of versions that can be served there and such that cannot."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from states import published, state_of

from penstock.control.changes import Change, Configured, ModelConfig, Moved, Serving
from penstock.control.state import State
from penstock.control.wanted import wanted_of, wanted_versions
from penstock.routing import NOTHING, FallbackOptions, ModelOptions, Wanted


def deployed(*champions: int, more: tuple[Change, ...] = ()) -> State:
    """Four versions, and the champions one after the other; a 0 is a rollback."""
    changes: list[Change] = [published(number) for number in (1, 2, 3, 4)]
    stack: list[int] = []
    for number in champions:
        before = stack[-1] if stack else None
        if number:
            stack.append(number)
        else:
            stack.pop()
        changes.append(Moved(alias="champion", before=before, after=stack[-1], is_rollback=not number))
    return state_of(*changes, *more)


def here(state: State, kept: int = 1, before: Wanted = NOTHING, without: tuple[int, ...] = ()) -> Wanted:
    """What is wanted on the machine `quay`, where all versions but those `without` can be served."""
    numbers = wanted_versions(state.model("churn"), kept, before, "quay")
    paths = {"churn": {number: f"/bundles/{number}" for number in numbers if number not in without}}
    return wanted_of(state, paths, before=before, kept=kept, node="quay")


def routes(wanted: Wanted) -> tuple[list[int], Mapping[str, int]]:
    """The versions that are loaded, and what aliases mean."""
    model = wanted.table.models.get("churn")
    if model is None:
        return [], {}
    assert list(model.versions) == list(wanted.paths["churn"])
    return list(model.versions), model.aliases


def test_the_champion_and_the_one_before_it_are_loaded() -> None:
    """A rollback is a change of the table alone: the version that it goes back to is there."""
    assert ([1, 2], {"champion": 2}) == routes(here(deployed(1, 2)))
    assert ([2], {"champion": 2}) == routes(here(deployed(1, 2), kept=0))
    assert ([2, 3, 4], {"champion": 4}) == routes(here(deployed(1, 2, 3, 4), kept=2))


def test_a_shadow_is_there_and_answers_nothing() -> None:
    """The version that shadows is fetched and tried on the machine, and is in no table; what else names it, is."""
    state = deployed(1, more=(Moved(alias="shadow", after=3),))
    assert [1, 3] == wanted_versions(state.model("churn"), 1)
    assert ([1], {"champion": 1}) == routes(here(state))
    both = deployed(1, more=(Moved(alias="shadow", after=3), Moved(alias="candidate", after=3)))
    assert ([1, 3], {"candidate": 3, "champion": 1}) == routes(here(both))


def test_after_a_rollback_both_ways_are_open() -> None:
    """Where there is one to go back to it comes first; else the version that was rolled back stays loaded."""
    assert ([1, 2], {"champion": 1}) == routes(here(deployed(1, 2, 0)))
    assert ([1, 2], {"champion": 2}) == routes(here(deployed(1, 2, 3, 0)))
    assert ([1, 2, 3], {"champion": 2}) == routes(here(deployed(1, 2, 3, 0), kept=2))


def test_every_alias_and_the_fallback_are_loaded() -> None:
    """Versions that aliases name, and that answer in place of others, are beside those that are kept."""
    config = ModelConfig(options=ModelOptions(fallback=FallbackOptions(kind="version", version=4)))
    state = deployed(1, 2, more=(Moved(alias="blue", after=3), Configured(before=ModelConfig(), after=config)))
    found = here(state, kept=0)
    assert ([2, 3, 4], {"champion": 2, "blue": 3}) == routes(found)
    assert config.options == found.table.models["churn"].options
    lost = here(state, kept=0, without=(4,))
    assert ([2, 3], None) == (routes(lost)[0], lost.table.models["churn"].options.fallback)


def test_a_version_that_cannot_be_served_leaves_the_old_one() -> None:
    """What was served before goes on, even where nothing is kept loaded."""
    for kept in (0, 1):
        before = here(deployed(1), kept)
        assert ([1], {"champion": 1}) == routes(here(deployed(1, 2), kept, before, without=(2,)))


def test_so_does_one_that_failed_only_in_the_workers() -> None:
    """The table named it already; the version before it is put back."""
    before = here(deployed(1, 2), kept=0)
    assert ([2], {"champion": 2}) == routes(before)
    assert ([1], {"champion": 1}) == routes(here(deployed(1, 2), 0, before, without=(2,)))


def test_two_failures_in_a_row_leave_what_was_served() -> None:
    """The version that all workers answer by goes on however many failed since, and whatever the table named."""
    state = deployed(1, 2, 3, more=(Serving(node="quay", after={"champion": 1}),))
    for before in (here(deployed(1)), here(state), NOTHING):
        assert {"champion": 1} == routes(here(state, 0, before, without=(2, 3)))[1]


def test_a_new_machine_begins_with_what_it_can() -> None:
    """Where nothing was served yet and the champion cannot be, the one before it answers; else nobody does."""
    assert ([1], {"champion": 1}) == routes(here(deployed(1, 2), without=(2,)))
    assert ([], {}) == routes(here(deployed(1, 2), without=(1, 2)))


def test_an_alias_that_means_nothing_here_is_left_out() -> None:
    """A failing candidate does not touch the champion."""
    state = deployed(1, more=(Moved(alias="blue", after=3),))
    assert ([1], {"champion": 1}) == routes(here(state, without=(3,)))


@given(
    champions=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    bad=st.sets(st.integers(2, 4)),
    kept=st.integers(0, 2),
)
def test_there_is_always_a_champion(champions: list[int], bad: set[int], kept: int) -> None:
    """However deploys follow each other, and whichever versions fail: once a champion was served, one is."""
    before = here(deployed(1), kept)
    for count in range(1, len(champions) + 1):
        served = before.table.models["churn"].aliases
        state = deployed(1, *champions[:count], more=(Serving(node="quay", after=served),))
        before = here(state, kept, before, without=tuple(bad))
        versions, aliases = routes(before)
        assert aliases["champion"] in versions
        last = champions[count - 1]
        assert aliases["champion"] == last if last not in bad else aliases == served
