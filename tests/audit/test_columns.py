"""The sealed schema: what goes into a table comes out of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Record, read_record, tag
from penstock.audit.columns import ENVELOPE_SCHEMA, Gathering, Source, joined, lines_of, records_of, table_of
from penstock.audit.record import line_of as numbered_line
from penstock.audit.sealed import committed_writes
from penstock.errors import SegmentError
from records import answered, odd_ones, write

OURS = Source(0, "run")


def line_of(record: Record) -> bytes:
    """The line of a record, as a segment has it."""
    return numbered_line(record, 7)


def test_every_record_comes_back(tmp_path: Path) -> None:
    """Each record, however odd, is read from the table as it is read from the segment, to the last byte."""
    lines = [line for lines, _ in committed_writes(write(tmp_path, odd_ones())) for line in lines]
    table = table_of(lines, OURS)
    assert sorted(lines) == sorted(lines_of(table))
    there = {record.request_id: repr(record) for record in records_of(table)}
    assert {record.request_id: repr(record) for record in map(read_record, lines)} == there


def test_every_field_of_a_record_has_a_column() -> None:
    """A field that `Record` gets must get its place in the sealed schema."""
    renamed = {"at": "arrived_at"}
    split = {"fallback": "fallback_kind"} | dict.fromkeys(
        ("input", "raw", "outputs", "decision", "violations", "commitment", "salt"), "payload"
    )
    wanted = {renamed.get(name, split.get(name, name)) for name in msgspec.structs.asdict(answered(1))}
    assert set() == wanted - set(ENVELOPE_SCHEMA.names)


def test_values_are_typed() -> None:
    """Features and predictions are lists of their type, an element for each row; masked and missing ones are null."""
    table = table_of(map(line_of, odd_ones()), OURS)
    kinds = {field.name: str(field.type.value_type) for field in list(table.schema)[len(ENVELOPE_SCHEMA) :]}
    assert ("double", "double", "int64", "string") == tuple(
        kinds[f"feature_{name}"] for name in ("age", "x", "$ref", "region")
    )
    assert ("double", "string", "double") == tuple(
        kinds[f"prediction_{name}"] for name in ("value", "label", "probability_no")
    )
    assert "feature_name" not in kinds
    first = table.filter(pa.compute.equal(table["request_id"], "0190-00000001")).to_pylist()[0]
    assert ([1.0, 2.5, float(2**70)], [None] * 3) == (first["feature_age"], first["feature_region"])


def test_the_experiment_has_columns() -> None:
    """Of a call on an arm: experiment, arm, bucket, what placed it, and the weights in force as JSON."""
    rows = table_of(map(line_of, odd_ones()), OURS).to_pylist()
    names = ("experiment", "arm", "bucket", "placed_by", "weights")
    found = {tuple(row[name] for name in names) for row in rows}
    assert {(None,) * 5, ("fees", "b", 17, "rule", '{"champion":9000,"b":1000}')} == found


def test_a_column_that_changes_its_type_is_text() -> None:
    """Where one version took numbers and another texts, the typed column of both together is text."""
    numbers = table_of([line_of(answered(1, input=[{"x": 1}]))], OURS)
    floats = table_of([line_of(answered(2, input=[{"x": 1.5}]))], OURS)
    texts = table_of([line_of(answered(3, input=[{"x": "one"}]))], OURS)
    assert [[1.0], [1.5]] == joined([numbers, floats])["feature_x"].to_pylist()
    assert [["1"], ["one"]] == joined([numbers, texts])["feature_x"].to_pylist()


def test_names_that_differ_in_case_only() -> None:
    """SQL folds the case of names, so one of two such fields has the column; the JSON text has both."""
    table = table_of([line_of(answered(1, input=[{"Age": 1, "age": 2}]))], OURS)
    assert ([1], True) == (table["feature_Age"][0].as_py(), '[{"Age":1,"age":2}]' in table["payload"][0].as_py())
    assert "feature_age" not in table.column_names


def test_groups_are_models_and_days() -> None:
    """Records go by model and day; what asked for something that is not there goes together, whatever it was called."""
    gathering = Gathering(OURS)
    for record in odd_ones():
        gathering.take(line_of(record))
    found = {(group.model, group.day): len(table) for group, table in gathering.tables()}
    assert {("", "2026-11-20"): 2, ("churn", "2026-11-20"): 4, ("churn", "2026-11-21"): 1} == found


def test_what_is_no_record_is_refused() -> None:
    """A line or a table of something else is named, not guessed at."""
    with pytest.raises(SegmentError, match="an audit record"):
        table_of([b'{"no":"record"}\n'], OURS)
    with pytest.raises(SegmentError, match="without .*request_id"):
        list(lines_of(pa.table({"a": [1]})))


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
rows = st.lists(st.dictionaries(st.text(max_size=3), scalars, max_size=3), max_size=3)


@given(inputs=st.lists(rows, min_size=1, max_size=5))
def test_any_rows_come_back(inputs: list[list[dict[str, object]]]) -> None:
    """Whatever the rows hold and however their types mix, the table has it."""
    lines = [line_of(answered(number, input=tag(rows))) for number, rows in enumerate(inputs)]
    there = [repr(record.input) for record in records_of(table_of(lines, OURS))]
    assert [repr(read_record(line).input) for line in lines] == there


def test_feedback_about_a_model_lies_beside_its_records() -> None:
    """A statement that names its model, which is served then, is kept as long as the model's records; others apart."""
    gathering = Gathering(OURS)
    for model in ("churn", None, "No Name"):
        gathering.take(line_of(Record(kind="feedback", request_id="0190-1", at=answered(1).at, model=model)))
    assert {"": 2, "churn": 1} == {group.model: len(table) for group, table in gathering.tables()}


def test_feedback_has_no_features() -> None:
    """What somebody says came true is no feature: it has its line only, and changes no type of a field's column."""
    said = Record(kind="feedback", request_id="0190-1", at=answered(1).at, input=tag([{"age": "old"}]), rows=1)
    table = table_of([line_of(said), line_of(answered(2))], OURS)
    assert {"0190-1": None, "0190-00000002": [22]} == dict(
        zip(table["request_id"].to_pylist(), table["feature_age"].to_pylist(), strict=True)
    )
    assert '"age":"old"' in table["payload"].to_pylist()[0]
