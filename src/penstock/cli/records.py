"""Records of the audit log as people read them: a line each, or one with everything in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.cli.screen import console, print_table

if TYPE_CHECKING:
    from penstock.audit.record import Record

COLUMNS = ("at", "request id", "model", "version", "outcome", "rows", "answer", "ms")
_SHOWN_ROWS = 4


def line_of(record: Record) -> tuple[object, ...]:
    """A record as a line of a table with `COLUMNS`."""
    outcome = record.code if record.code != "ok" or record.fallback is None else f"fallback: {record.fallback.kind}"
    outcome = f"shadow: {outcome}" if record.kind == "shadow" else outcome
    answer = _short(record.outputs[0]) if record.outputs else ""
    at = record.at.isoformat(" ", "milliseconds").replace("+00:00", "Z")
    return at, record.request_id, record.model, record.version, outcome, record.rows, answer, f"{record.total_ms:.2f}"


def _short(prediction: Any) -> str:
    """The answer for one row, in a few characters."""
    if not isinstance(prediction, dict):
        return str(prediction)
    given = next((prediction[name] for name in ("label", "value", "values") if name in prediction), None)
    shown = f"{given:.6g}" if isinstance(given, float) else str(given)
    if given in (probabilities := {_plain(key): p for key, p in (prediction.get("probabilities") or {}).items()}):
        shown += f" ({probabilities[given]:.4g})"
    return shown


def _plain(key: str) -> object:
    """A class, as the JSON text that is its key in probabilities says it."""
    try:
        return msgspec.json.decode(key.encode())
    except msgspec.DecodeError:
        return key


def print_record(record: Record, home: Path) -> None:
    """Everything in a record, and how to compute its answer again with what is loaded in `home`."""
    envelope = msgspec.to_builtins(record)
    contents = {name: envelope.pop(name, None) for name in ("input", "raw", "outputs", "decision", "violations")}
    print_table("", [(name, value) for name, value in envelope.items() if value not in (None, "")], columns=("", ""))
    got = "what came true" if record.kind == "feedback" else "what the model got"
    for title, rows in (("what was sent", contents["raw"]), (got, contents["input"])):
        if rows:
            _print_objects(title, rows)
    if contents["outputs"]:
        _print_objects("what was answered", contents["outputs"])
    if contents["decision"]:
        console().print(f"decided by: {contents['decision']}", markup=False)
    for violation in record.violations:
        console().print(f"  {violation}", markup=False)
    _print_again(record, home)


def _print_objects(title: str, rows: list[Any]) -> None:
    """A column for each row; of many the first ones."""
    shown = rows[:_SHOWN_ROWS]
    names = dict.fromkeys(name for row in shown if isinstance(row, dict) for name in row)
    table = [(name, *(row.get(name) if isinstance(row, dict) else "" for row in shown)) for name in names]
    print_table(title, table or [(str(row),) for row in shown], columns=("",) * (len(shown) + 1 if table else 1))
    if len(rows) > len(shown):
        console().print(f"  and {len(rows) - len(shown)} rows more: --json has them")


def _print_again(record: Record, home: Path) -> None:
    """How to compute the answer again, where there is one."""
    if not record.outputs or not record.input or not isinstance(record.version, int) or record.model is None:
        return
    from penstock.audit.tags import Masked
    from penstock.routing import read_wanted

    screen = console()
    screen.print(f"[bold]again[/]: version {record.version} of {record.model}, content digest {record.digest}")
    if any(isinstance(value, Masked) for row in record.input if isinstance(row, dict) for value in row.values()):
        screen.print("  a field of the row is personal and was masked: put its value in its place")
    path = read_wanted(home).paths.get(record.model, {}).get(record.version)
    where = str(path) if path is not None else "BUNDLE"
    if path is None:
        screen.print(f"  `penstock model {record.model}` says where its bundle is", markup=False)
    screen.print(
        f"  penstock audit show {record.request_id} --rows | penstock predict {where} - --bundle", markup=False
    )
