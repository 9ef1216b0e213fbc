"""`Answered`: the short way to write the record of an answer says the same as a whole `Record`."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Answered, Payload, Pseudonyms, Record, opening_of, read_record, tag
from penstock.audit.commitment import Salts
from penstock.audit.record import Lines, line_of

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
    kept = {name: rest[name] for name in ("raw", "key", "client_id") if name in rest}
    told = {name: value for name, value in rest.items() if name not in kept}
    short = Answered("id", AT, 2, 5, *ms, **told)
    times = dict(zip(("queue_ms", "run_ms", "total_ms"), ms, strict=True))
    whole = Record(
        kind="prediction", request_id="id", at=AT, input=rows, outputs=outputs, rows=2, batch_rows=5,
        **common, **times, **rest,
    )  # fmt: skip
    one, other = Lines(Salts(), 7), Lines(Salts(), 7)
    one.add(short, opening_of(**common), Payload(rows, outputs, **kept))
    other.add(whole)
    found = [proofless(read_record(b"".join(lines.written))) for lines in (one, other)]
    assert repr(found[0]) == repr(found[1])  # by their text: NaN is not itself


@given(CONTENTS, CONTENTS, TEXTS)
def test_an_answer_is_recorded_the_same_in_less_time(rows: Any, outputs: Any, client_id: str) -> None:
    """The way of the hot path writes what the other one does; missing values, NaN and lone surrogates, too."""
    answer, opening = Answered("id", AT, 1, 1, 0.5, 0.5, 0.5, client_id), b'"kind":"prediction",'
    encoded = tag(outputs)
    quick, slow = Lines(Salts(), 7), Lines(Salts(), 7)
    quick.add_answer(answer, opening, rows, bytes(encoded))
    slow.add(answer, opening, Payload(rows, encoded))
    found = [b"".join(lines.written) for lines in (quick, slow)]
    assert len(found[0]) == len(found[1])
    assert repr(proofless(read_record(found[0]))) == repr(proofless(read_record(found[1])))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.5, None), b'[{"a":1.5,"b":null}]'),
        ((math.nan, None), b'[{"a":{"$float":"nan"},"b":null}]'),
        ((math.inf, 2.0), b'[{"a":{"$float":"inf"},"b":2.0}]'),
        (("null", None), b'[{"a":"null","b":null}]'),
    ],
)
def test_a_missing_value_is_null_and_no_other(values: tuple[Any, Any], text: bytes) -> None:
    """What stands as null in the rows of an answer was missing; not-a-number and texts are told from it."""
    row = msgspec.defstruct("Row", ["a", "b"])(*values)
    lines = Lines(Salts(), 1)
    lines.add_answer(Answered("id", AT, 1, 1, 0.5, 0.5, 0.5), b'"kind":"prediction",', [row], b"[]")
    assert b'"input":%b,"outputs":[]}\n' % text == b"".join(lines.written)[-len(text) - 23 :]


def proofless(record: Record) -> Record:
    """The record without what is random in it."""
    return msgspec.structs.replace(record, commitment=None, salt=None)


def test_what_can_be_erased_stands_behind_the_commitment() -> None:
    """Rows, answers, violations, a body's hash and ids in clear follow the commitment; pseudonyms do not."""
    secret = Pseudonyms(b"s")
    clear = Record(
        kind="refusal", request_id="id", at=AT, key="KEY", client_id="CLIENT", input=["ROW"], body_sha256="B"
    )
    head, _, tail = line_of(clear, 1).partition(b'"salt"')
    assert [False] * 4 == [word in head for word in (b"KEY", b"CLIENT", b"ROW", b"B")]
    assert [True] * 4 == [word in tail for word in (b"KEY", b"CLIENT", b"ROW", b"B")]
    hidden = msgspec.structs.replace(clear, key=secret.of_key("KEY"), client_id=secret.of_client_id("CLIENT"))
    head, _, tail = line_of(hidden, 1).partition(b'"salt"')
    assert [2, 0] == [part.count(b"hmac:") for part in (head, tail)]


def test_a_record_without_payload_has_no_commitment() -> None:
    """Where nothing can be erased the whole line is covered."""
    lines = Lines(Salts(), 1)
    lines.add(Record(kind="refusal", request_id="id", at=AT))
    assert lines.covered[0] + b"}\n" == b"".join(lines.written)
    assert b"commitment" not in lines.written[0]


def test_the_same_payload_has_another_commitment() -> None:
    """The salt differs from record to record, so equal payloads cannot be told by their commitments."""
    record = Record(kind="prediction", request_id="id", at=AT, input=[1])
    read = [read_record(line_of(record, 1)) for _ in range(200)]
    assert (200, 200) == (len({each.commitment for each in read}), len({each.salt for each in read}))
