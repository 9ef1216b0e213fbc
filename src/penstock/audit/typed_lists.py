"""The typed lists of the sealed schema: a column for each member of rows and answers, in the narrowest type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import pyarrow as pa

FEATURE: Final = "feature_"
PREDICTION: Final = "prediction_"
_STEMS: Final = {"probabilities": "probability_", "values": "value_"}
_OBJECTS: Final = {dict}
_INT64: Final = range(-(2**63), 2**63)
_TEXT: Final = pa.string()
_encode = msgspec.json.Encoder().encode
_decode_contents = msgspec.json.Decoder().decode


def typed_lists(prefix: str, contents: Sequence[msgspec.Raw]) -> Iterator[tuple[str, pa.Array]]:
    """A list column for each member of the rows that are objects; records with other contents have null there."""
    calls = _decode_contents(b"[" + b",".join([bytes(each) or b"null" for each in contents]) + b"]")
    offsets: list[int | None] = []
    rows: list[dict[str, Any]] = []
    for call in calls:
        if type(call) is list and set(map(type, call)) == _OBJECTS:
            offsets.append(len(rows))
            rows.extend(call)
        else:
            offsets.append(None)
    if not rows:
        return
    starts = pa.array([*offsets, len(rows)], pa.int32())
    if prefix == PREDICTION:
        rows = [_flat(row) for row in rows]
    seen: set[str] = set()
    for name in dict.fromkeys(chain.from_iterable(rows)):
        array = _typed([row.get(name) for row in rows])
        # Engines of SQL fold the case of names: of two that differ in it only, the JSON text has the second.
        if array is not None and name.casefold() not in seen:
            seen.add(name.casefold())
            yield prefix + (name[1:] if name.startswith("$$") else name), pa.ListArray.from_arrays(starts, array)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """`{"probabilities": {"no": 0.1}}` as `{"probability_no": 0.1}`; `values` likewise. No column for other objects."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if type(value) is not dict or _is_tag(value):
            flat[name] = value
        elif name in _STEMS:
            stem = _STEMS[name]
            for key, member in value.items():
                flat[stem + key] = member
    return flat


def _typed(values: list[Any]) -> pa.Array | None:
    """`values` in the narrowest type that holds them; None where there is nothing but nulls. Masked values are null."""
    kinds = set(map(type, values))
    if dict in kinds or list in kinds:
        values = [_untagged(value) if type(value) in (dict, list) else value for value in values]
        kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds:
        return None
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or value in _INT64 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        if int in kinds:  # of any size: Arrow takes those only that a double holds exactly
            values = [value if value is None else float(value) for value in values]
        return pa.array(values, pa.float64())
    if kinds == {str}:
        return pa.array(values, _TEXT)
    return pa.array([value if value is None or type(value) is str else _shown(value) for value in values], _TEXT)


def _untagged(value: Any) -> Any:
    """A tag as the number that it stands for; None for what no typed column holds; anything nested as its JSON."""
    if not _is_tag(value):
        return _shown(value)
    [(name, content)] = value.items()
    if name == "$float":
        return float(content)
    return int(content, 16) if name == "$int" else None


def _is_tag(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and next(iter(value)).startswith("$")


def _shown(value: Any) -> str:
    return _encode(value).decode()
