"""Erasing as an operator asks for it: the log, feedback about its calls, exports, and the word in the history."""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest

from governed import governed
from loads import wait_for
from penstock.audit import Record, Wanted, open_pseudonyms, tag
from penstock.audit.conditions import Conditions
from penstock.audit.export import export
from penstock.audit.proof import prove
from penstock.audit.query import Records
from penstock.audit.retention import Bounds, Retention, retain
from penstock.control.answers import EraseAnswer
from penstock.control.changes import Erased, Event
from penstock.control.control import By
from penstock.controller.assemble import Plane
from penstock.controller.exporting import in_words, registered
from penstock.errors import ControlError, StateUnavailable
from penstock.settings import AuditSettings, Settings
from penstock.settings.sections import RetentionSettings
from planes import ANA, plane_of, settings_of
from records import AT, answered, write
from rows import IRIS_ROW

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


def kept(audit: Path) -> set[str]:
    """The texts that are in any record yet."""
    return set(re.findall(r"canary[-a-z0-9]+", repr(Records(audit).page(Conditions(), 99).table.to_pylist())))


OF_BEN = {f"canary-ben-{n}" for n in (1, 3, 5)} | {f"canary-ben-of-{n}" for n in (1, 3, 5)} | {"canary-ben-by-key"}


def erasures(plane: Plane) -> list[Event]:
    """What the history says of erasing."""
    return [event for event in plane.control.events() if isinstance(event.change, Erased)]


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
        assert OF_BEN == kept(audit)
        assert 2 == plane.operations.erase(Wanted(request_ids=frozenset({"0190-00000001"})), ASKED).records
        assert 0 == plane.operations.erase(OF_ANNA, ASKED).records
        plane.operations.seal(ANA)
        assert OF_BEN - {"canary-ben-1", "canary-ben-of-1"} == kept(audit)
        proof = prove(audit)
        assert (before, []) == (proof.records, proof.problems)
        if not is_sealed:
            assert b"canary-anna" not in left(tmp_path)


def test_exports_follow(tmp_path: Path) -> None:
    """An export that lies where it was written loses the lines, again and again; what was changed, moved or does not
    say of which call a line is, is left to a person; one that cannot hold them is not spoken of.
    """
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    log_of_two(home)
    settings = settings_of(home)
    by_format = [exported(settings, out / name) for name in ("all.parquet", "all.csv", "mine.csv")]
    jsonl = out / "set.jsonl"
    for path, ids in ((jsonl, True), (out / "bare.jsonl", False)):
        with registered(settings, path, Conditions(model="churn"), ANA):
            lines = [({"request_id": f"0190-{n:08d}"} if ids else {}) | {"text": f"canary-{n}"} for n in range(6)]
            path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    exported(settings, out / "growth.csv", Conditions(model="growth"))
    exported(settings, out / "older.csv", Conditions(until=AT - timedelta(days=1)))
    exported(settings, out / "moved.csv").rename(out / "elsewhere.csv")
    by_format[2].write_bytes(by_format[2].read_bytes() + b"\n")
    mode = by_format[0].stat().st_mode
    with plane_of(settings) as plane:
        found = {Path(one.path).name: one for one in plane.operations.erase(OF_ANNA, ASKED).exports}
        assert {"all.parquet": 7, "all.csv": 7, "set.jsonl": 3} == {
            name: one.lines for name, one in found.items() if one.by_hand is None
        }
        assert {
            "mine.csv": "it is not the file that was written",
            "bare.jsonl": "it does not say of which call each line is",
            "moved.csv": "it is not at this path any more",
        } == {name: one.by_hand for name, one in found.items() if one.by_hand is not None}
        assert b"canary-anna" not in left(by_format[1])
        assert 7 == len(pq.read_table(by_format[0]))
        assert "canary-anna" not in repr(pq.read_table(by_format[0]).to_pylist())
        assert [b"canary-1", b"canary-3", b"canary-5"] == re.findall(rb"canary-[0-9]", jsonl.read_bytes())
        assert mode == by_format[0].stat().st_mode
        again = plane.operations.erase(Wanted(keys=frozenset({"ben"})), ASKED)
        assert 7 == {Path(one.path).name: one.lines for one in again.exports}["all.csv"]
        event = erasures(plane)[0]
        assert ("request 4711", ("churn",), 7) == (event.reason, event.change.models, event.change.records)  # type: ignore[union-attr]
        assert (3, 3) == (len(event.change.exports), len(event.change.by_hand))  # type: ignore[union-attr]
        history = plane.operations.history("churn")
        assert Counter(exported=7, erased=2) == Counter(one.kind for one in history.events)
        assert {} == plane.control.state().models
    proof = prove(home / "audit")
    assert [] == proof.problems


def test_what_a_csv_may_hold(tmp_path: Path) -> None:
    """Line feeds and quotes in a text are of its record, which goes or stays as a whole."""
    home = tmp_path / "home"
    key = open_pseudonyms(home).of_key
    odd = 'a "b"\n0190-00000001,\n'
    write(home / "audit", (answered(n, key=key(f"k{n}"), input=[{"text": odd}]) for n in range(3)))
    settings = settings_of(home)
    path = exported(settings, tmp_path / "odd.csv")
    with plane_of(settings) as plane:
        [one] = plane.operations.erase(Wanted(keys=frozenset({"k1"})), ASKED).exports
    assert 1 == one.lines
    with path.open(newline="") as file:
        assert ["0190-00000000", "0190-00000002"] == sorted(row["request_id"] for row in csv.DictReader(file))


def test_an_export_that_cannot_be_registered_is_not_left(tmp_path: Path) -> None:
    """Where the history cannot say so there is no such file: no copy that nobody knows of."""
    home = tmp_path / "home"
    write(home / "audit", map(answered, range(3)))
    (home / "state.db").write_bytes(b"no database" * 100)
    with pytest.raises(StateUnavailable):
        exported(settings_of(home), tmp_path / "all.csv")
    assert ["home"] == [path.name for path in tmp_path.iterdir()]


def test_conditions_in_words_name_nobody() -> None:
    """What the history keeps for good of an export has no key, principal or value in it."""
    asked = Conditions(model="churn", version=2, key=("anna", "hmac:1"), principal="bob", where=(("mail", "a@b"),))
    assert "model churn, version 2, of one principal, of one key, by mail" == in_words(asked)


def test_erasing_needs_a_reason(tmp_path: Path) -> None:
    """Without one nothing is erased."""
    audit = log_of_two(tmp_path)
    with plane_of(settings_of(tmp_path)) as plane, pytest.raises(ControlError, match="say why"):
        plane.operations.erase(OF_ANNA, ANA)
    assert len(OF_BEN) * 2 == len(kept(audit))


def test_what_retention_removed_is_in_the_history(tmp_path: Path) -> None:
    """An event for each model, also of what a process removed that was killed before it could tell; told once."""
    audit = tmp_path / "audit"
    write(audit, [*map(answered, range(8)), *(answered(n, model="growth") for n in range(8, 12))])
    settings = settings_of(tmp_path)
    with plane_of(settings) as plane:
        plane.operations.seal(ANA)
        retain(audit, Retention(models={"growth": Bounds(max_bytes=0)}))  # and the history was not told
    short = AuditSettings(retention={"churn": RetentionSettings(days=0.01)})
    with plane_of(msgspec.structs.replace(settings, audit=short)) as plane:
        plane.operations.seal(ANA)
        plane.operations.seal(ANA)
        events = {event.model: event for event in plane.control.events()}
        assert {"churn", "growth"} == set(events)
        assert [8] == [event.change.records for event in plane.operations.history("churn").events]  # type: ignore[union-attr]
        assert ("older than 0.01 days",) == events["churn"].change.rules  # type: ignore[union-attr]
        assert (4, "penstock") == (events["growth"].change.records, events["growth"].who.name)  # type: ignore[union-attr]
        assert 2 == len(plane.control.events())


def test_segments_that_are_written_end_first(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Under a server that answers, the workers begin new segments and what was asked for goes at once."""
    with governed(tmp_path / "home") as server:
        server.publish(bundles["iris"])
        wait_for(lambda: server.served("iris") == 1, "the champion")
        with httpx.Client(base_url=server.server.url) as client:
            body = {"instances": [IRIS_ROW], "key": "anna"}
            for _ in range(8):
                assert 200 == client.post("/v1/models/iris/predict", json=body).status_code
        answer = server.operations.erase(OF_ANNA, ASKED)
        assert EraseAnswer(records=8) == answer
        assert 0 == server.operations.erase(OF_ANNA, ASKED).records
    proof = prove(tmp_path / "home" / "audit")
    assert (8, []) == (proof.records, proof.problems)
