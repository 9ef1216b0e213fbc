"""Fields with a `pii` class at packing: what stands in for their values, and where a bundle still holds some.

A bundle travels: into a repository, to other machines, into backups. Its golden rows need no person; its model may hold
values of people where it was fitted so, which packing can find and tell, but not mend.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from penstock.bundle.compile.lattice import lattice_of
from penstock.schema import Columns, Field, Schema
from penstock.schema.soundness import LARGEST_INT

_NULL_EVERY: Final = 8
_FIRST_DAY: Final = np.datetime64("2000-01-01", "ns")
_DAYS: Final = 10_000
_LOOKED_FOR: Final = 200
_LEAST_CHARS: Final = 4
_LEAST_WORDS: Final = 3
_WORD: Final = re.compile(r"\w{4,}")


def with_stand_ins(columns: Columns, schema: Schema, sample: Columns) -> Columns:
    """`columns` with stand-ins in place of every value of a field with a `pii` class; the same each time.

    A stand-in is one of the declared `allowed` values, or else made up: `masked-1`, a day after 2000, a number within
    the declared range. Of an end that is open only the sign and the power of ten of the `sample` are used. Whether a
    value is missing is made up, too.
    """
    random = np.random.default_rng(0)
    personal = [field for field in schema.fields if field.pii is not None]
    return columns | {field.name: _stand_ins(field, columns, sample[field.name], random) for field in personal}


def _stand_ins(field: Field, columns: Columns, sample: np.ndarray, random: np.random.Generator) -> np.ndarray:
    old = columns[field.name]
    places = random.permutation(len(old))
    made = np.empty_like(old)
    made[:] = _made_up(field, places, sample, random)
    if field.nullable:
        null = None if old.dtype == object else np.datetime64("NaT") if old.dtype.kind == "M" else np.nan
        made[places % _NULL_EVERY == _NULL_EVERY - 1] = null
    return made


def _made_up(field: Field, places: np.ndarray, sample: np.ndarray, random: np.random.Generator) -> Any:
    if field.allowed is not None:
        return [field.allowed[place % len(field.allowed)] for place in places]
    if field.type in ("string", "category"):
        return [f"masked-{place + 1}" for place in places]
    if field.type == "bool":
        return places % 2
    if field.type == "timestamp":
        return _FIRST_DAY + random.integers(0, _DAYS, len(places)).astype("timedelta64[D]")
    low, high = _ends(field, sample)
    share = random.random(len(places))
    lattice = lattice_of(field)
    return lattice.values(lattice.places(low * (1 - share) + high * share))


def _ends(field: Field, sample: np.ndarray) -> tuple[float, float]:
    """The declared range; where that is open, the power of ten above all values of the sample."""
    known = sample[np.isfinite(sample)]
    largest = float(np.abs(known).max()) if len(known) else 1.0
    scale = min(float(10 ** min(np.ceil(np.log10(max(largest, 1.0))), 300)), _largest(field))
    low, high = field.range or (None, None)
    if low is None:
        low = min(-scale if (known < 0).any() else 0.0, scale if high is None else high)
    return low, max(low, scale) if high is None else high


def _largest(field: Field) -> float:
    """The largest number that a column of the training frame holds."""
    kind = (field.dtype or "").lower()
    if field.type == "int":
        return float(min(np.iinfo(kind).max, LARGEST_INT)) if re.fullmatch(r"u?int\d+", kind) else LARGEST_INT
    return float(np.finfo(kind if re.fullmatch(r"float\d+", kind) else "float64").max)


def remarks_on_personal(schema: Schema, sample: Columns, model: bytes, *, is_proven: bool) -> tuple[str, ...]:
    """What the packer should know of personal values that are in the bundle all the same, a sentence a place.

    `is_proven`: whether the original takes any golden row with stand-ins.

    The model file is searched for values of the sample, not understood: what is found is in it, what is not found may
    be in another form (a threshold of a tree lies between two values, a scaler keeps a mean).
    """
    personal = [field for field in schema.fields if field.pii is not None]
    if not personal:
        return ()
    content = b"".join(_unpacked(model))
    said = []
    for field in personal:
        if field.allowed is not None:
            said.append(f"{field.name}: {_DECLARED}")
        if _is_held(field, sample[field.name], content):
            said.append(f"{field.name}: {_HELD}")
    if not is_proven:
        said.append(f"golden rows: {_NONE} ({', '.join(field.name for field in personal)}): {_NONE_SO}")
    return tuple(said)


_DECLARED: Final = (
    "personal, and `allowed` lists its values in clear: golden rows, the API document and error bodies show them. If "
    "they say anything of a person, declare a `string` without `allowed`"
)
_HELD: Final = (
    "personal, and the fitted model itself holds values of it (as an encoder, a vocabulary or a neighbour does), which "
    "packing cannot take out. Fit it on groups or hashes of the values, or guard the bundle like the data"
)
_NONE: Final = "none, for the model refuses every made-up value of its personal fields"
_NONE_SO: Final = (
    "a load is proven by digests alone. Let it take unknown values (handle_unknown='ignore'), or declare `allowed`"
)


def _unpacked(data: bytes) -> Iterator[bytes]:
    """The bytes, and what is compressed in them."""
    if not data.startswith(b"PK"):
        yield data
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            yield from _unpacked(archive.read(name))


def _is_held(field: Field, column: np.ndarray, content: bytes) -> bool:
    if field.type in ("string", "category"):
        texts = {text for text in column if text is not None and len(text) >= _LEAST_CHARS} - set(field.allowed or ())
        if any(_has_text(text, content) for text in _some(sorted(texts))):
            return True
        words = {word.lower() for text in texts for word in _WORD.findall(text)}
        return sum(_has_text(word, content) for word in _some(sorted(words))) >= _LEAST_WORDS
    if field.type == "timestamp":
        known = np.unique(column[~np.isnat(column)].astype("datetime64[ns]").astype(np.int64))
        return any(struct.pack("<q", value) in content for value in _some(known.tolist()))
    known = np.unique(column[np.isfinite(column)])
    # A small whole number is in any file, and says nothing of a person.
    telling = [value for value in known.tolist() if not (value.is_integer() and abs(value) < 1000)]
    return any(_has_number(value, content) for value in _some(telling) if value not in (field.allowed or ()))


def _some(values: list[Any]) -> list[Any]:
    """At most 200 of sorted values, evenly spaced, the first and last among them: a scaler may keep just these."""
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), _LOOKED_FOR)).round().astype(int))
    return [values[place] for place in places]


def _has_text(text: str, content: bytes) -> bool:
    forms = (text.encode(errors="replace"), json.dumps(text)[1:-1].encode(), text.encode("utf-32-le", "replace"))
    return any(form in content for form in forms)


def _has_number(value: float, content: bytes) -> bool:
    written = repr(value).encode()
    return struct.pack("<d", value) in content or (len(written) > 6 and written in content)
