"""`kill -9` of a process that seals, retains or erases, at every step: the next one does the rest, and all counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

import kills
from kills import Outcome
from penstock.audit import Record, open_pseudonyms, tag
from penstock.audit.conditions import Conditions
from penstock.audit.export import export
from penstock.audit.query import Records
from penstock.audit.seal import Sealer
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.exporting import registered
from records import AT, answered, write


def home_of(place: Path, *, is_sealed: bool) -> Path:
    """Two runs with records of two models and of two owners, with feedback and an export; half of it sealed."""
    home = place / "home"
    audit, key = home / "audit", open_pseudonyms(home).of_key
    owners = [key("anna"), key("ben")]

    def call(number: int, model: str) -> Record:
        text = f"canary-{number % 2}-"
        return answered(number, model=model, key=owners[number % 2], client_id=None, input=[{"text": text}])

    write(audit, [*(call(n, "churn") for n in range(6)), *(call(n, "growth") for n in range(6, 10))])
    if is_sealed:
        Sealer(audit).seal()
    said = tag([{"index": 0, "actual": "canary-0-"}])
    feedback = Record(kind="feedback", request_id="0190-00000004", at=AT, protocol="feedback", input=said, rows=1)
    write(audit, [feedback, call(10, "churn"), call(11, "churn")], worker=1)
    with registered(kills.settings_of(home), home / "all.csv", Conditions(), By(who=Who("ana"))) as made:
        made.lines = export(Records(audit), Conditions(), made.path)
    return home


def outcomes(work: str, home: Path) -> list[Outcome]:
    """What was found after a kill at each step, and another run."""
    command = [sys.executable, kills.__file__, work, str(home), str(home.with_name("before"))]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert (0, b"") == (done.returncode, done.stderr)
    return [msgspec.json.decode(line, type=Outcome) for line in done.stdout.splitlines()]


def test_killed_while_it_seals_and_retains(tmp_path: Path) -> None:
    """Every record is in one file of the index or gone by the rule, and nothing else is left."""
    found = outcomes("seal", home_of(tmp_path, is_sealed=False))
    assert [True] * 16 + [False] == [one.was_killed for one in found]
    assert {(13, 8, 2)} == {(one.records, one.gone, len(one.files)) for one in found}
    assert [] == [what for one in found for what in (*one.problems, *one.strays)]


def test_killed_while_it_erases(tmp_path: Path) -> None:
    """Nothing of one owner is left in segments, exports and what feedback says, and the history tells why."""
    found = outcomes("erase", home_of(tmp_path, is_sealed=True))
    assert [True] * 18 + [False] == [one.was_killed for one in found]
    assert {13} == {one.records for one in found}
    assert [] == [what for one in found for what in (*one.problems, *one.strays)]
    assert {(False, True)} == {(b"canary-0-" in one.content, b"canary-1-" in one.content) for one in found}
    assert {("exported", "erased")} == {tuple(dict.fromkeys(one.events)) for one in found}
