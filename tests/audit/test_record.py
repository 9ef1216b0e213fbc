"""`Answered`: the short way to write the record of an answer says the same as a whole `Record`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Answered, Record, opening_of, read_record
from penstock.audit.record import write_record

AT = datetime(2026, 11, 20, 12, 30, 1, 250, tzinfo=UTC)
NAMES = st.text(max_size=8)
TEXTS = st.text(st.characters(), max_size=8)  # lone surrogates, too
CONTENTS = st.lists(st.dictionaries(st.sampled_from(["age", "city"]), st.none() | st.floats() | TEXTS), max_size=2)
MS = st.floats(min_value=0, max_value=1e6)


@given(
    NAMES,
    CONTENTS,
    CONTENTS,
    st.tuples(MS, MS, MS),
    st.fixed_dictionaries(
        {},
        optional={
            "client_id": TEXTS,
            "principal": TEXTS,
            "key": TEXTS,
            "raw": CONTENTS,
            "undeclared": st.integers(0, 9),
        },
    ),
)
def test_an_answered_record_reads_back_as_the_whole_one(
    model: str, rows: list[Any], outputs: list[Any], ms: tuple[float, float, float], rest: dict[str, Any]
) -> None:
    """Opening and rest give the record that all fields written at once give, with NaN and lone surrogates in it too."""
    common: dict[str, Any] = {"model": model, "version": 3, "digest": "sha256:ab", "protocol": "penstock"}
    short = Answered("id", AT, rows, outputs, 2, 5, *ms, **rest)
    times = dict(zip(("queue_ms", "run_ms", "total_ms"), ms, strict=True))
    whole = Record(
        kind="prediction", request_id="id", at=AT, input=rows, outputs=outputs, rows=2, batch_rows=5,
        **common, **times, **rest,
    )  # fmt: skip
    one, other = bytearray(), bytearray()
    write_record(short, 7, one, opening_of(**common))
    write_record(whole, 7, other)
    assert repr(read_record(bytes(one))) == repr(read_record(bytes(other)))  # by their text: NaN is not itself
