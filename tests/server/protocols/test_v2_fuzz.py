"""The tensor decoders under random rows, tensors and bytes: the rows of our own API, or a refusal; nothing else."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import CallFailure
from penstock.schema import Check, Field, Schema
from penstock.server.call import Call
from penstock.server.protocols import V2, Own
from penstock.server.protocols.v2_json import _DATA
from penstock.server.protocols.v2_tensors import tensor_of_bytes
from penstock.server.rpc.face import Rpc
from penstock.server.rpc.messages import message

CHECK: Final = Check(
    Schema(
        fields=(
            Field(name="height", type="float", nullable=True, range=(-1e9, 1e9)),
            Field(name="count", type="int", range=(-500, 5000)),
            Field(name="calls", type="int", default=3),
            Field(name="member", type="bool"),
            Field(name="town", type="category", allowed=("Bern", "Zürich", ""), on_unknown="map", unknown_as="Bern"),
            Field(name="note", type="string"),
            Field(name="at", type="timestamp"),
        )
    )
)
NUMBERS: Final = Check(Schema(fields=(Field(name="a", type="float"), Field(name="b", type="int"))))
MAX_ROWS: Final = 6

VALUES: Final[dict[str, tuple[str, st.SearchStrategy[Any]]]] = {
    "height": ("FP64", st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)),
    "count": ("INT64", st.integers(-600, 6000)),
    "calls": ("INT64", st.integers(-(2**63), 2**63 - 1)),
    "member": ("BOOL", st.booleans()),
    "town": ("BYTES", st.sampled_from(["Bern", "Zürich", "", "Genf"]) | st.text(max_size=4)),
    "note": ("BYTES", st.text(max_size=300)),
    "at": ("BYTES", st.sampled_from(["2024-05-01T10:00:00Z", "2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00", "x"])),
}
DTYPES: Final = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns of one length, some of whose values break the schema; the one with a default may be left out."""
    rows = draw(st.integers(1, 4))
    names = [name for name in VALUES if name != "calls" or draw(st.booleans())]
    return {name: draw(st.lists(VALUES[name][1], min_size=rows, max_size=rows)) for name in names}


def raw(name: str, values: list[Any]) -> bytes:
    datatype = VALUES[name][0]
    if datatype == "BYTES":
        texts = [value.encode("utf-8", "surrogatepass") for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values, DTYPES[datatype]).tobytes()


def read(face: Any, body: bytes, headers: dict[bytes, bytes] | None = None, check: Check = CHECK) -> Any:
    """The rows that a face reads, or its refusal; anything else fails the test."""
    call = Call(face, body, 1)
    call.headers = headers or {}
    try:
        asked = face.reader(check, MAX_ROWS)(face.open(call))
    except CallFailure as failure:
        assert face.refusal(failure, "id")
        return type(failure)
    return list(asked.rows), asked.raw is not None


def of_json(columns: dict[str, list[Any]]) -> bytes:
    inputs = [
        {"name": name, "shape": [len(values)], "datatype": VALUES[name][0], "data": values}
        for name, values in columns.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def of_bytes(columns: dict[str, list[Any]]) -> tuple[bytes, dict[bytes, bytes]]:
    tails = [raw(name, values) for name, values in columns.items()]
    inputs = [
        {
            "name": name,
            "shape": [len(values), 1],
            "datatype": VALUES[name][0],
            "parameters": {"binary_data_size": len(tail)},
        }
        for (name, values), tail in zip(columns.items(), tails, strict=True)
    ]
    head = json.dumps({"inputs": inputs}).encode()
    return b"".join([head, *tails]), {b"inference-header-content-length": b"%d" % len(head)}


def of_message(columns: dict[str, list[Any]]) -> bytes:
    asked = message("ModelInferRequest")(model_name="m")
    for name, values in columns.items():
        asked.inputs.add(name=name, shape=[len(values)], datatype=VALUES[name][0])
        asked.raw_input_contents.append(raw(name, values))
    return asked.SerializeToString()


@given(tables())
@settings(max_examples=150, deadline=None)
def test_the_rows_of_our_own_api(columns: dict[str, list[Any]]) -> None:
    """JSON tensors, binary tensors and messages are read as our own API reads the same values, or refused as there."""
    expected = read(Own(), json.dumps({"columns": columns}).encode())
    assert expected == read(V2(), of_json(columns))
    assert expected == read(V2(), *of_bytes(columns))
    assert expected == read(Rpc(), of_message(columns))


@given(tables(), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes(columns: dict[str, list[Any]], data: st.DataObject) -> None:
    """Bytes that are changed, cut off or added anywhere end in rows or a refusal."""
    body, headers = of_bytes(columns)
    sent = of_message(columns)
    for face, whole, given_headers in ((V2(), body, headers), (Rpc(), sent, {}), (V2(), of_json(columns), {})):
        begin = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(begin, min(len(whole), begin + 9)))
        read(face, whole[:begin] + data.draw(st.binary(max_size=9)) + whole[end:], given_headers)


SHAPES: Final = st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**64]), max_size=3)
DATA: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-400, 70000) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["a", "b", "c"]), "datatype": st.sampled_from([*_DATA, "FP8"]), "shape": SHAPES},
            optional={
                "data": DATA,
                "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 40) | DATA),
            },
        ),
        max_size=3,
    ),
    st.binary(max_size=40),
)
@settings(max_examples=300, deadline=None)
def test_random_tensors(inputs: list[dict[str, Any]], tail: bytes) -> None:
    """Tensors of any name, datatype, shape and data end in rows or a refusal."""
    head = json.dumps({"inputs": inputs}).encode()
    headers = {b"inference-header-content-length": b"%d" % len(head)}
    found = read(V2(), head + tail, headers, NUMBERS)
    if isinstance(found, tuple):
        assert all(-(2**53) <= row.f1 <= 2**53 and abs(row.f0) < float("inf") for row in found[0])


@given(st.lists(st.text(max_size=200), max_size=8))
@settings(max_examples=200, deadline=None)
def test_texts_come_back(texts: list[str]) -> None:
    """A BYTES tensor holds the texts that were put into it, however short, long, empty or full of NULs."""
    tail = raw("note", texts)
    assert texts == tensor_of_bytes("note", "BYTES", [len(texts)], tail).values


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_texts_of_any_bytes(tail: bytes) -> None:
    """Whatever is read as texts is put together to the same bytes again."""
    for count in range(4):
        try:
            found = tensor_of_bytes("note", "BYTES", [count], tail).values
        except CallFailure:
            continue
        assert tail == raw("note", found)


@given(st.lists(st.integers(0, 127), min_size=1, max_size=30))
@settings(max_examples=300, deadline=None)
def test_short_texts_of_any_bytes(values: list[int]) -> None:
    """The quick way through short texts finds what the slow way finds."""
    tail = b"".join(bytes([value % 5, 0, 0, 0]) + bytes([value]) * (value % 5) for value in values)
    texts = tensor_of_bytes("note", "BYTES", [len(values)], tail).values
    assert [chr(value) * (value % 5) for value in values] == texts
