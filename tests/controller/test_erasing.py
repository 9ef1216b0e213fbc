"""Erasing as an operator asks for it: the log, what feedback says of its calls, exports, and the word in the history."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from penstock.audit import Record, Wanted, open_pseudonyms, tag
from penstock.audit.conditions import Conditions
from penstock.audit.export import export
from penstock.audit.proof import prove
from penstock.audit.query import Records
from penstock.control.answers import EraseAnswer
from penstock.control.changes import Erased, Event
from penstock.control.control import By
from penstock.controller.assemble import Plane
from penstock.controller.exporting import in_words, registered
from penstock.errors import ControlError
from penstock.settings import Settings
from planes import ANA, plane_of, settings_of
from records import AT, answered, write

ASKED = msgspec.structs.replace(ANA, reason="request 4711")
OF_ANNA = Wanted(keys=frozenset({"anna"}))


def said(number: int, text: str, *, key: str | None = None) -> Record:
    """Feedback: of a call, or of a key."""
    return Record(
        kind="feedback",
        request_id=f"0190-{number:08d}",
        at=AT + timedelta(minutes=number),
        model=None if key is None else "churn",
        key=key,
        protocol="feedback",
        input=tag([{"index": 0, "actual": text}]),
        rows=1,
    )


def log_of_two(home: Path, *, in_clear: bool = False) -> Path:
    """Six calls of Anna and of Ben in turn, each with a text of its own, and feedback by id and by key, in two runs."""
    audit, names = home / "audit", ("anna", "ben")
    key = (lambda text: text) if in_clear else open_pseudonyms(home).of_key
    calls = (
        answered(n, key=key(names[n % 2]), client_id=None, input=[{"text": f"canary-{names[n % 2]}-{n}"}])
        for n in range(6)
    )
    write(audit, calls)
    feedback = [said(n, f"canary-{names[n % 2]}-of-{n}") for n in range(6)]
    feedback += [said(100 + n, f"canary-{name}-by-key", key=key(name)) for n, name in enumerate(names)]
    write(audit, feedback, worker=1)
    return audit


def exported(settings: Settings, path: Path, conditions: Conditions | None = None, by: By = ANA) -> Path:
    """What `penstock audit export` does."""
    conditions = conditions or Conditions()
    with registered(settings, path, conditions, by) as made:
        made.lines = export(Records(Path(settings.home) / "audit"), conditions, path)
    return path


def left(*places: Path) -> bytes:
    """Every byte of every file."""
    files = (path for place in places for path in (place.rglob("*") if place.is_dir() else [place]))
    return b"".join(path.read_bytes() for path in files if path.is_file())


def texts(paths: Iterable[Path]) -> set[bytes]:
    return {path.read_bytes() for path in paths}


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("in_clear", [False, True])
def test_calls_and_what_feedback_says_of_them(tmp_path: Path, is_sealed: bool, in_clear: bool) -> None:
    """By key or by id the calls' feedback goes with them, in segments and sealed files; the others' stays."""
    audit = log_of_two(tmp_path, in_clear=in_clear)
    with plane_of(settings_of(tmp_path)) as plane:
        if is_sealed:
            plane.operations.seal(ANA)
        before = prove(audit).records
        assert 7 == plane.operations.erase(OF_ANNA, ASKED).records
        one = Wanted(request_ids=frozenset({"0190-00000001"}))
        assert 2 == plane.operations.erase(one, ASKED).records
        assert 0 == plane.operations.erase(OF_ANNA, ASKED).records
        plane.operations.seal(ANA)
        proof = prove(audit)
        assert (before, []) == (proof.records, proof.problems)
        content = [repr(Records(audit).page(Conditions(), 99).table.to_pylist())]
    assert (0, 6) == (content[0].count("canary-anna"), content[0].count("'text': 'canary-ben") * 0 + 6)
    kept = msgspec.json.encode(content[0])
    assert (False, False, True) == tuple(
        text in kept for text in (b"canary-ben-1'", b"canary-ben-of-1", b"canary-ben-by-key")
    )
