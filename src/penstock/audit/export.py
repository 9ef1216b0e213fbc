"""Records as a file for others: Parquet or CSV, with the column names that users of inference tables know."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from penstock.audit.conditions import Conditions, quoted_name
from penstock.audit.query import Records
from penstock.audit.typed_lists import FEATURE, PREDICTION
from penstock.errors import QueryRefused

# What a column is called there, and what it is here.
_CALL: Final = {
    "request_id": "request_id",
    "client_request_id": "client_id",
    "request_date": "CAST(arrived_at AS DATE)",
    "request_time": "arrived_at",
    "requester": "principal",
    "model_name": "model",
    "model_version": "version",
    "model_digest": "digest",
    "key": "key",
    "status": "code",
    "execution_duration_ms": "total_ms",
}
_CONTENTS: Final = {"request": "input", "response": "outputs"}
WRITERS: Final[dict[str, Any]] = {
    ".parquet": lambda path, schema: pq.ParquetWriter(path, schema, compression="zstd"),
    ".csv": pa_csv.CSVWriter,
}


def export(records: Records, conditions: Conditions, path: Path, *, by_row: bool = False) -> int:
    """Write the records of which `conditions` hold to a new file `path`, and say how many lines it has.

    A line is a call, with its rows and answers as JSON (`request`, `response`); or with `by_row` a row, with a column
    for each feature and each member of its prediction; conditions on features then choose rows, not
    calls. Raises QueryRefused, SegmentError and OSError; then there is no such file.
    """
    if path.suffix not in WRITERS:
        raise QueryRefused(f"Expected a file that ends in {' or '.join(WRITERS)}, got {path.name}")
    if path.exists():
        raise QueryRefused(f"{path}: there is something at this path already; name another")
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with records.batches(conditions, _rows if by_row else _calls, by_row=by_row) as reader:
            with WRITERS[path.suffix](partial, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
                    count += len(batch)
            partial.replace(path)
    except pa.ArrowInvalid as error:
        raise QueryRefused(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def write_rows(rows: Iterable[dict[str, Any]], path: Path, kind: str) -> int:
    """Write rows to `path`, and say how many: as lines of JSON, or (`kind` is `.parquet`) as a table, for which all are
    held in memory. Raises OSError, and QueryRefused for a column that no type of a table holds.
    """
    if kind != ".parquet":
        count = 0
        with path.open("wb") as out:
            for row in rows:
                out.write(msgspec.json.encode(row) + b"\n")
                count += 1
        return count
    held = list(rows)
    columns = {}
    for name in dict.fromkeys(name for row in held for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in held])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise QueryRefused(
                f"`{name}` has values of several types: write .jsonl, which has any ({error})"
            ) from error
    pq.write_table(pa.table(columns), path, compression="zstd")
    return len(held)


def _calls(names: Iterable[str]) -> str:
    return _named({**_CALL, **_CONTENTS})


def _rows(names: Iterable[str]) -> str:
    """Features under the names of their fields; one that is called as a column is keeps `feature_` before it."""
    columns = {**_CALL, "row": "row"}
    for name in names:
        if name.startswith(FEATURE):
            bare = name.removeprefix(FEATURE)
            columns[name if bare in columns or bare.startswith(PREDICTION) else bare] = quoted_name(name)
    return _named(columns | {name: quoted_name(name) for name in names if name.startswith(PREDICTION)})


def _named(columns: dict[str, str]) -> str:
    return ", ".join(f"{source} AS {quoted_name(name)}" for name, source in columns.items())
