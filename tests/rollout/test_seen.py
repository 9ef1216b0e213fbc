"""Events once a caller, and first requests of callers, in bounded memory."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.rollout.counts import totals
from penstock.rollout.seen import MOST_CALLERS, Callers, OnceEach

Event = tuple[int, int | None, float, bool]
events = st.lists(
    st.tuples(
        st.sampled_from([0, 10_000, 500_000]),
        st.none() | st.integers(0, 10),
        st.integers(0, 1_000).map(float),
        st.booleans(),
    ),
    max_size=40,
)


def seen(happened: list[Event]) -> OnceEach:
    """These events."""
    once = OnceEach()
    for share, key_hash, at, is_canary in happened:
        once.observe(share, key_hash, at, is_canary=is_canary)
    return once


def test_a_caller_counts_once_and_a_stranger_each_time() -> None:
    """Twenty events of one caller are one, of no caller twenty; all are shown."""
    caller, stranger = (seen([(500_000, key_hash, float(at), True) for at in range(20)]) for key_hash in (7, None))
    assert ({500_000: [1, 0]}, (20, 0)) == (caller.counted, caller.totals())
    assert ({500_000: [20, 0]}, (20, 0)) == (stranger.counted, stranger.totals())


def test_a_caller_who_was_moved_counts_where_it_was_first() -> None:
    """The earliest event decides, in whichever order they are told."""
    moved: list[Event] = [(10_000, 7, 1.0, False), (500_000, 7, 2.0, True)]
    assert {10_000: [0, 1]} == seen(moved).counted == seen(moved[::-1]).counted


@given(events, events, events)
def test_parts_are_the_whole(first: list[Event], second: list[Event], third: list[Event]) -> None:
    """However events are split and merged, the same count, callers that several parts saw included."""
    whole = seen(first + second + third)
    left, right = seen(first), seen(third)
    left.merge(seen(second))
    left.merge(seen(third))
    right.merge(seen(first))
    right.merge(seen(second))
    assert whole.counted == left.counted == right.counted
    assert whole.totals() == left.totals() == right.totals()


def test_at_the_bound_every_second_caller_is_left_out() -> None:
    """Memory stays bounded, what was counted stays, nobody counts twice, and both arms are thinned alike."""
    chance = random.Random(1)
    once = OnceEach()
    callers = [chance.getrandbits(63) for _ in range(3 * MOST_CALLERS)]
    for _ in range(2):
        for number, key_hash in enumerate(callers):
            once.observe(500_000, key_hash, float(number), is_canary=number % 2 == 0)
            assert len(once.callers) <= MOST_CALLERS
    canary, champion = totals(once.counted)
    assert (True, True) == (once.thinned > 0, MOST_CALLERS < canary + champion < len(callers))
    assert abs(canary - champion) < 4 * (canary + champion) ** 0.5


def test_a_thinned_part_merges_with_a_whole_one() -> None:
    """What the thinner part leaves out is left out of the other one as well; what was counted stays."""
    thin, full = seen([(500_000, 3, 1.0, True)]), seen([(500_000, 5, 1.0, True), (500_000, 4, 1.0, False)])
    thin.thinned = 1
    full.merge(thin)
    assert ([4], {500_000: [2, 1]}) == (list(full.callers), full.counted)


def test_first_requests_of_callers() -> None:
    """A caller is new once; nobody known is ever taken for new; few that are new are taken for known."""
    chance = random.Random(2)
    callers, numbers = Callers(), [chance.getrandbits(63) for _ in range(20_000)]
    new = sum(callers.is_first(number) for number in numbers)
    assert (True, 0) == (new > 19_990, sum(callers.is_first(number) for number in numbers))


def test_callers_merge_and_are_saved() -> None:
    """A merged filter knows the callers of both parts, and comes back from JSON and MessagePack."""
    first, second = Callers(), Callers()
    first.is_first(1 << 40)
    second.is_first(1 << 50)
    first.merge(second)
    second = Callers()
    second.merge(first)
    assert [False, False, True] == [second.is_first(number) for number in (1 << 40, 1 << 50, 1 << 60 - 1)]
    for codec in (msgspec.json, msgspec.msgpack):
        assert first == codec.decode(codec.encode(first), type=Callers)
