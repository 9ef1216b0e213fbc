"""The join of answers with what came true: the latest statement counts, and what finds nothing is told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Masked, Record
from penstock.audit.feedback import Actual, Labels

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def at(minute: float) -> datetime:
    return AT + timedelta(minutes=minute)


def answer(name: str, minute: float = 0, **changes: Any) -> Record:
    given: dict[str, Any] = {"kind": "prediction", "model": "churn", "version": 1, "rows": 2, "input": [{}, {}]}
    return Record(request_id=name, at=at(minute), **{**given, **changes})


def said(name: str, value: Any, minute: float = 60, *, index: int = 0, known: float | None = None) -> Record:
    content = {"index": index, "actual": value}
    if known is not None:
        content["at"] = at(known).isoformat()
    return Record(kind="feedback", request_id=name, at=at(minute), input=[content], rows=1)


def said_of_key(key: str, value: Any, minute: float, **changes: Any) -> Record:
    content = {"index": 0, "actual": value}
    return Record(
        kind="feedback", request_id="own", at=at(minute), key=key, input=[content], **{"model": "churn", **changes}
    )


def joined(records: list[Record]) -> tuple[dict[tuple[str, int], Any], Labels]:
    labels = Labels(records)
    found = list(labels.join(records))
    assert len({(one.record.request_id, one.index) for one in found}) == len(found)
    return {(one.record.request_id, one.index): one.actual.value for one in found}, labels


def test_by_call_and_row() -> None:
    """A statement finds its row; rows without one are left out, as are refusals."""
    records = [answer("a"), answer("b"), said("a", "yes", index=1), said("b", 2.5), answer("c")]
    found, labels = joined(records)
    assert {("a", 1): "yes", ("b", 0): 2.5} == found
    assert ([], 2) == (labels.unknown, labels.statements)


def test_the_latest_counts() -> None:
    """A changed statement replaces one before it; one that is about earlier does not, however late it comes."""
    records = [
        answer("a"), said("a", "no", 1), said("a", "yes", 2),
        answer("b"), said("b", "new", 1, known=50), said("b", "old", 9, known=40),
        answer("c"), said("c", "first", 1, known=5), said("c", "corrected", 2, known=5),
    ]  # fmt: skip
    found, labels = joined(records)
    assert {("a", 0): "yes", ("b", 0): "new", ("c", 0): "corrected"} == found
    assert 6 == labels.statements


def test_unknown_ones_are_told() -> None:
    """What names no answered call, or no row of it, is not dropped in silence."""
    records = [answer("a"), said("gone", 1), said("a", 2, index=7), said_of_key("nobody", 3, 5)]
    found, labels = joined(records)
    assert {} == found
    assert [("gone", None, 0, 1), ("a", None, 7, 2), (None, "nobody", 0, 3)] == sorted(
        ((one.request_id, one.key, one.index, one.actual.value) for one in labels.unknown), key=lambda one: one[3]
    )


def test_by_key() -> None:
    """A key means the last call for it before: of that model, and not of one that came later."""
    records = [
        answer("early", 0, key="k"),
        answer("late", 10, key="k"),
        answer("other", 11, key="k", model="fraud"),
        said_of_key("k", "between", 5),
        said_of_key("k", "after", 20),
        answer("too-late", 30, key="k"),
    ]
    found, labels = joined(records)
    assert {("early", 0): "between", ("late", 0): "after"} == found
    assert [] == labels.unknown


def test_an_id_says_more_than_a_key() -> None:
    """Where a row is named by its call and by a key, the call's statement counts."""
    records = [answer("a", key="k"), said_of_key("k", "by key", 20), said("a", "by id", 5)]
    assert {("a", 0): "by id"} == joined(records)[0]


def test_texts_that_were_not_kept() -> None:
    """A statement whose text no model knew is there, without its text; an erased one is not."""
    records = [answer("a"), said("a", Masked("unlisted")), Record(kind="feedback", request_id="a", at=at(9))]
    labels = Labels(records)
    [one] = labels.join(records)
    assert one.actual == Actual(value=Masked("unlisted"), at=at(60), said_at=at(60))
    assert not one.actual.is_listed
    assert 2 == labels.statements


statements = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 100)), max_size=30)


@given(statements, st.randoms(use_true_random=False))
def test_the_order_of_reading_changes_nothing(given: list[tuple[int, int, int]], chance: random.Random) -> None:
    """Records come from several files in any order: the same labels, and each statement counts once or is told."""
    records = [answer(f"id-{number}") for number in range(3)]
    records += [
        said(f"id-{call}", number, minute + number / 1000, index=index)
        for number, (call, index, minute) in enumerate(given)
    ]
    expected, labels = joined(records)
    shuffled = [*records]
    chance.shuffle(shuffled)
    found, others = joined(shuffled)
    assert (expected, len(labels.unknown)) == (found, len(others.unknown))
    about = {(call, index) for call, index, _ in given}
    assert len(about) == len(found) + len(labels.unknown)
    assert {(call, index) for call, index in about if call < 3 and index < 2} == {
        (int(name.removeprefix("id-")), index) for name, index in found
    }
