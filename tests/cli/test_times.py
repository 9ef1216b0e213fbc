"""Moments as they are typed, and as they are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from penstock.cli.times import moment, shown, since

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


@pytest.fixture
def athens(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is that of Athens, two hours ahead."""
    monkeypatch.setenv("TZ", "Europe/Athens")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T17:30:00Z", NOW - timedelta(minutes=30)),
        ("2026-11-20T19:30:00.5+02:00", NOW - timedelta(minutes=29, seconds=59.5)),
        ("2026-11-20 19:30", NOW - timedelta(minutes=30)),
        ("2026-11-20", NOW - timedelta(hours=20)),
        (" 2h ago ", NOW - timedelta(hours=2)),
        ("-90min", NOW - timedelta(minutes=90)),
        ("3 d ago", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(days=7)),
        ("45s", NOW - timedelta(seconds=45)),
        ("now", NOW),
    ],
)
@pytest.mark.usefixtures("athens")
def test_a_moment_is_read(text: str, expected: datetime) -> None:
    """RFC 3339, dates and times of here, and how long ago it was."""
    assert expected == moment(text, NOW)


@pytest.mark.parametrize("text", ["", "yesterday", "2h from now", "2026-13-01", "18:00", "999999999w", "1y"])
def test_what_is_no_moment(text: str) -> None:
    """Anything else is answered with what is expected."""
    with pytest.raises(ValueError, match="expected a time as in 2026-11-20T18:00:00Z"):
        moment(text, NOW)


@pytest.mark.usefixtures("athens")
def test_a_moment_is_shown() -> None:
    """In local time with its offset; beside it how long ago it was, in the unit that fits."""
    assert "2026-11-20 20:00:00+02:00" == shown(NOW)
    told = [since(NOW, NOW + timedelta(seconds=s)).partition(" (")[2] for s in (-1, 90, 7200, 172_800)]
    assert ["0 s ago)", "90 s ago)", "2 h ago)", "2 d ago)"] == told
