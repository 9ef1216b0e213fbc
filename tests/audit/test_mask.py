"""Personal data are gone before a record is a line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Masked, Masker, Record, read_record
from penstock.audit.record import line_of
from penstock.schema import Check, Field, Schema

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)
CANARY = "canary-7f3a"
PLAIN = Schema(fields=(Field(name="age", type="int"), Field(name="城市", type="string", nullable=True)))
PERSONAL = Schema(
    fields=(
        Field(name="age", type="float"),
        Field(name="email", type="string", pii="email", nullable=True),
        Field(name="phone", type="string", pii="phone", default="none"),
        Field(name="born", type="timestamp"),
    )
)


def recorded(content: Any) -> tuple[Any, bytes]:
    """`content` as a reader of the log gets it, and the line."""
    line = line_of(Record(kind="prediction", request_id="r", at=AT, input=content), 1)
    return read_record(line).input, line


def checked(schema: Schema, *rows: dict[str, object]) -> list[msgspec.Struct]:
    """Rows as the schema's check makes them, not settled."""
    check = Check(schema)
    return msgspec.convert(list(rows), list[check.row])  # type: ignore[name-defined]


def test_rows_without_personal_data_are_recorded_as_they_are() -> None:
    """Without a pii class the very same rows are given back: masking costs nothing."""
    rows = checked(PLAIN, {"age": 41, "城市": None})
    assert rows is Masker(PLAIN).rows(rows)
    assert [{"age": 41, "城市": None}] == recorded(rows)[0]


def test_fields_with_a_class_are_masked() -> None:
    """Every value of such a field is its class only, null included; the other fields keep their values."""
    rows = checked(
        PERSONAL,
        {"age": 41.5, "email": CANARY, "phone": CANARY, "born": "1985-01-31T00:00:00Z"},
        {"age": 1, "email": None, "phone": "x", "born": "1985-01-31T00:00:00Z"},
    )
    rest = {"email": Masked("email"), "phone": Masked("phone"), "born": "1985-01-31T00:00:00Z"}
    back, line = recorded(Masker(PERSONAL).rows(rows))
    assert [{"age": 41.5, **rest}, {"age": 1.0, **rest}] == back
    assert CANARY.encode() not in line


def test_absent_fields_of_unsettled_rows_stay_absent() -> None:
    """A field that the caller left out is not in the record of what was sent, masked or not."""
    rows = checked(PERSONAL, {"age": 41.5, "email": None, "born": "1985-01-31T00:00:00Z"})
    expected = [{"age": 41.5, "email": Masked("email"), "born": "1985-01-31T00:00:00Z"}]
    assert expected == recorded(Masker(PERSONAL).rows(rows))[0]


@pytest.mark.parametrize("name", ["$float", "$masked", "$$", "$"])
def test_names_like_tags_are_read_back(name: str) -> None:
    """A field whose name looks like a tag comes back under its name."""
    schema = Schema(fields=(Field(name=name, type="float"),))
    assert [{name: 1.5}] == recorded(Masker(schema).rows(checked(schema, {name: 1.5})))[0]


def test_raw_objects_are_masked_and_undeclared_fields_dropped() -> None:
    """Declared pii fields are masked whatever their type; undeclared fields are counted and gone."""
    content, undeclared = Masker(PERSONAL).raw(
        [{"age": "41", "email": {"nested": [CANARY]}, "mail": CANARY}, {CANARY: 1, "age": {"x": CANARY}, "phone": 7}]
    )
    back, line = recorded(content)
    assert [{"age": "41", "email": Masked("email")}, {"age": Masked("nested"), "phone": Masked("phone")}] == back
    assert 2 == undeclared
    assert CANARY.encode() not in line


def test_raw_lists_are_masked_by_position() -> None:
    """Rows given as lists are masked in the schema's order; what is beyond it is dropped and counted."""
    content, undeclared = Masker(PERSONAL).raw([[41, CANARY, CANARY, "1985", CANARY], [1]])
    assert ([[41, Masked("email"), Masked("phone"), "1985"], [1]], 1) == (recorded(content)[0], undeclared)


def test_raw_rows_of_no_shape_are_masked_whole() -> None:
    """What is neither an object nor a list could be anything, so nothing of it is recorded."""
    content, undeclared = Masker(PLAIN).raw([CANARY, 7, None])
    assert ([Masked("shapeless")] * 3, 0) == (recorded(content)[0], undeclared)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["age", "email", "phone", "born", "$float", "extra", CANARY]), JSON)
        | st.lists(JSON, max_size=6)
        | JSON,
        max_size=4,
    )
)
def test_nothing_undeclared_or_personal_is_kept_of_anything(rows: list[Any]) -> None:
    """Whatever is sent, a recorded row has declared fields only, masks in the personal ones, and scalars elsewhere."""
    content, _ = Masker(PERSONAL).raw(rows)
    masks = {"email": Masked("email"), "phone": Masked("phone")}
    for row in recorded(content)[0]:
        if row == Masked("shapeless"):
            continue
        named = row if isinstance(row, dict) else dict(zip(PERSONAL.names, row, strict=False))
        assert len(named) == len(row)
        assert set(named) <= set(PERSONAL.names)
        assert {name: mask for name, mask in masks.items() if name in named} == {
            name: value for name, value in named.items() if name in masks
        }
        assert not any(isinstance(value, dict | list) for value in named.values())
