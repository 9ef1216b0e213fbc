"""Erasing from what is sealed: the payload is in no file any more, the log proves itself, a crash is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crashes import Crash, crash_at, steps_of
from penstock.audit import Pseudonyms, Wanted, open_pseudonyms
from penstock.audit.columns import records_of
from penstock.audit.conditions import Conditions
from penstock.audit.erase_sealed import erase_sealed
from penstock.audit.proof import prove
from penstock.audit.query import Records
from penstock.audit.seal import Sealer
from penstock.audit.sealed import read_index, write_entry
from records import answered, write


def canaries(home: Path) -> tuple[Path, Pseudonyms]:
    """A sealed log of two owners, each record with a text of its own."""
    audit, secret = home / "audit", open_pseudonyms(home)
    write(
        audit,
        (
            answered(
                number,
                key=secret.of_key(f"owner-{number % 2}") if number < 10 else f"owner-{number % 2}",
                client_id=None,
                input=[{"text": f"canary-{number:02d}"}],
            )
            for number in range(20)
        ),
    )
    Sealer(audit).seal()
    return audit, secret


def texts(audit: Path) -> list[str | None]:
    """What is left of the canaries, by the number of their record."""
    records = records_of(Records(audit).page(Conditions(), 99).table)
    return [record.input[0]["text"] if record.input else None for record in sorted(records, key=lambda each: each.seq)]


def test_an_erased_payload_is_in_no_file(tmp_path: Path) -> None:
    """Of an owner, and of one request, nothing is left in any file; the rest stays, and the log proves itself."""
    audit, secret = canaries(tmp_path)
    assert 10 == erase_sealed(audit, Wanted(keys=frozenset({"owner-1"})), secret)
    assert 1 == erase_sealed(audit, Wanted(frozenset({"0190-00000004"})), secret)
    wanted = [None if number % 2 or number == 4 else f"canary-{number:02d}" for number in range(20)]
    assert wanted == texts(audit)
    typed = Records(audit).sql("SELECT feature_text[1] AS text FROM records ORDER BY seq").table["text"].to_pylist()
    assert wanted == typed
    assert [] == prove(audit).problems
    assert 0 == erase_sealed(audit, Wanted(keys=frozenset({"owner-1"})), secret)
    assert 20 == len(Records(audit).page(Conditions(), 99).table)
    assert 1 == len(list(audit.rglob("*.parquet")))


def test_a_crash_of_erasing_at_any_step(tmp_path: Path) -> None:
    """Wherever erasing is cut short every record counts once; done again, nothing is left in any file."""
    wanted = Wanted(keys=frozenset({"owner-1"}))

    def work(home: Path) -> Callable[[Path, Callable[[str], None]], object]:
        return lambda audit, step: erase_sealed(audit, wanted, open_pseudonyms(home), step=step)

    audit, _ = canaries(tmp_path / "count")
    count = steps_of(audit, work(tmp_path / "count"))
    assert 4 == count
    for step in range(count):
        home = tmp_path / str(step)
        audit, secret = canaries(home)
        with pytest.raises(Crash):
            work(home)(audit, crash_at(step))
        assert 20 == len(texts(audit))
        assert [] == prove(audit).problems
        erase_sealed(audit, wanted, secret)
        Sealer(audit).seal()
        assert (20, 10) == (len(texts(audit)), texts(audit).count(None))
        assert [] == prove(audit).problems
        assert 1 == len(list(audit.rglob("*.parquet"))), step
        left = b"".join(path.read_bytes() for path in audit.rglob("*") if path.is_file())
        assert b"canary-01" not in left


def test_a_payload_that_is_gone_without_a_word(tmp_path: Path) -> None:
    """Whoever takes a payload out by himself, with all checksums mended, is found: no signed erasure speaks of it."""
    audit, secret = canaries(tmp_path)
    erase_sealed(audit, Wanted(keys=frozenset({"owner-1"})), secret)
    (audit / "erasures.jsonl").unlink()
    assert 1 == len(prove(audit).problems)
    write_entry(audit, read_index(audit)[0])
    assert "10 payloads are gone" in prove(audit).problems[0]
