"""The A/A self-test: what it reads, how seldom it finds anything, and that it would."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from desk import Desk
from penstock.audit import Record
from penstock.audit.follow import Follower
from penstock.bundle.manifest import manifest_of
from penstock.jobs import aa
from records import AT, answered, write

SINCE = AT - timedelta(days=1)
DIGEST = "sha256:cafe"


def served(count: int, *, start: datetime = AT, errors: float = 0.02, digest: str = DIGEST) -> Iterator[Record]:
    """Calls by 500 callers, some of which fail."""
    chance = random.Random(7)
    for number in range(count):
        yes = chance.random()
        outputs = [{"label": "yes", "probabilities": {"no": 1 - yes, "yes": yes}}]
        at, key = (
            start + timedelta(milliseconds=20 * number),
            f"hmac:{hashlib.sha256(b'%d' % chance.randrange(500)).hexdigest()[:32]}",
        )
        call = answered(
            number,
            at=at,
            version=1,
            digest=digest,
            key=key,
            run_ms=0.5 + chance.random(),
            outputs=outputs,
            model="iris",
        )
        failed = chance.random() < errors
        yield msgspec.structs.replace(call, kind="failure", code="model_failed", outputs=None) if failed else call


def calls_of(tmp_path: Path, records: Iterator[Record], most: int = aa.MOST_CALLS) -> list[aa.AaCall]:
    write(tmp_path, records)
    return aa.read_calls(Follower(tmp_path), "iris", DIGEST, since=SINCE, most=most)[0]


def test_what_is_read(tmp_path: Path) -> None:
    """Calls of this content that the hash could have placed, failed ones too; no more than asked for."""
    odd = [
        answered(9001),
        answered(9002, model="iris", digest="sha256:other"),
        answered(9003, model="iris", placed_by="version"),
        answered(9004, model="iris", kind="refusal", code="schema_violation", outputs=None),
        answered(9005, model="iris", kind="feedback", input=[{"index": 0, "actual": "yes"}]),
        answered(9006, model="iris", at=SINCE - timedelta(days=1)),
    ]
    write(tmp_path, [*odd, *served(300)])
    calls, moments = aa.read_calls(Follower(tmp_path), "iris", DIGEST, since=SINCE)
    assert 300 == len(calls)
    assert [AT, AT + timedelta(milliseconds=20 * 299)] == moments
    assert 0 < sum(call.canary.is_error for call in calls)
    assert 50 == len(aa.read_calls(Follower(tmp_path), "iris", DIGEST, since=SINCE, most=50)[0])


def test_arms_that_are_the_same_are_left_alone(tmp_path: Path) -> None:
    """Split again and again, no more alarms than alpha allows; and the same when repeated."""
    calls = calls_of(tmp_path, served(2_000))
    report = aa.report_of(calls, [AT, AT], model="iris", digest=DIGEST, weight=10.0, runs=3)
    assert (2_000, 3, 20) == (report.calls, report.runs, report.look_calls)
    assert (0, 0) == (report.aborts.times, report.holds.times)
    assert report.aborts.lower <= report.aborts.allowed < report.aborts.upper
    again = aa.report_of(calls, [AT, AT], model="iris", digest=DIGEST, weight=10.0, runs=3)
    assert report == again


def test_it_would_find_what_is_worse(tmp_path: Path) -> None:
    """A canary that errs alarms in every run, by its guardrail: it is no test that cannot fail."""
    calls = [
        msgspec.structs.replace(call, canary=msgspec.structs.replace(call.canary, is_error=place % 3 == 0))
        for place, call in enumerate(calls_of(tmp_path, served(2_000)))
    ]
    report = aa.report_of(calls, [AT, AT], model="iris", digest=DIGEST, weight=20.0, runs=2)
    assert (2, {"error": 2}) == (report.aborts.times, report.aborts.by)
    assert report.aborts.lower > report.aborts.allowed


@pytest.fixture
def desk(bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A home where version 1 of iris is champion, and nothing was asked yet."""
    monkeypatch.setenv("TERM", "dumb")
    made = Desk(tmp_path / "home")
    made.ok("publish", str(bundles["iris"]))
    (made.home / "audit").mkdir(exist_ok=True)
    return made


def test_the_command(desk: Desk, bundles: dict[str, Path]) -> None:
    """Too little traffic is said, and is no pass; with enough, rates stand beside what is allowed."""
    digest = manifest_of(bundles["iris"]).content_digest
    recently = datetime.now(UTC) - timedelta(hours=1)
    write(desk.home / "audit", served(600, start=recently, digest=digest))
    said = desk("rollout", "aa", "iris", "--runs", "2")
    assert (1, True) == (said.code, "too little traffic: version 1 of iris has 600 recorded calls" in said.err)
    said = desk.ok("rollout", "aa", "iris", "--runs", "2", "--weight", "30")
    assert "0 of 2" in said.out
    told = desk.ok("rollout", "aa", "iris", "--runs", "2", "--weight", "30", "--json").json
    assert (600, 0, 0.04) == (told["calls"], told["aborts"]["times"], told["aborts"]["allowed"])
