"""Records of shadows beside those of workers: sealed, verified, searched and erased like them, and taken for none."""

from __future__ import annotations

from pathlib import Path

import pytest
from shadowing import Champion, caught_up, shadow_of

from penstock.audit import Wanted, erase, open_pseudonyms, verify
from penstock.audit.conditions import Conditions
from penstock.audit.feedback import Labels
from penstock.audit.follow import Follower
from penstock.audit.position import Position
from penstock.audit.query import Records
from penstock.audit.seal import Sealer
from penstock.audit.sealed_lines import sealed_lines
from penstock.jobs.shadow_log import Written
from penstock.runtime.model import open_model
from rows import IRIS_ROW

CALLS = 5


@pytest.fixture
def audit(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """The log of a champion and its shadow, of five calls; the shadow's segment is closed."""
    model = open_model(bundles["iris"])
    champion = Champion(tmp_path, model)
    shadow_of(tmp_path, model).close()
    champion.answer(*[[dict(IRIS_ROW)]] * CALLS, key="customer-17")
    caught_up(shadow_of(tmp_path, model)).close()
    return tmp_path / "audit"


def test_sealed_they_are_found_again(audit: Path) -> None:
    """They are sealed as the workers' are, and a shadow that comes late reads them there."""
    before = Written(audit).after(Position(), "iris", 2)
    assert CALLS == len(before[0])
    assert CALLS <= Sealer(audit, is_passed=lambda segment: True).seal(quiet_s=0.0).records
    assert [] == [path for path in audit.glob("worker-1000/*.jsonl") if verify(path).records]
    assert before == Written(audit, sealed_lines).after(Position(), "iris", 2)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_no_search_takes_them_for_predictions(audit: Path, is_sealed: bool) -> None:
    """They are found by kind and by request id; nothing else gives them, and rows of calls are the champion's."""
    if is_sealed:
        Sealer(audit, is_passed=lambda segment: True).seal(quiet_s=0.0)
    records = Records(audit)

    def kinds(**conditions: str) -> list[str]:
        return records.page(Conditions(**conditions), 100).table.column("kind").to_pylist()  # type: ignore[arg-type]

    assert ["prediction"] * CALLS == kinds(model="iris")
    assert ["shadow"] * CALLS == kinds(outcome="shadow")
    [one, *_] = records.page(Conditions(), 1).table.column("request_id").to_pylist()
    assert ["prediction", "shadow"] == sorted(kinds(request_id=one))
    counts = records.sql("SELECT count(*) AS n FROM predictions").table.column("n").to_pylist()
    assert [CALLS] == counts


def test_feedback_is_joined_with_the_champions(audit: Path) -> None:
    """A label belongs to the row that was answered."""
    reader = Follower(audit).reader()
    found = [record for batch in iter(reader.read, None) for record in batch.records]
    assert 2 * CALLS == len(found)
    assert [] == list(Labels(found).join(found))


def test_erasing_a_key_reaches_them(audit: Path) -> None:
    """What would have been said to somebody goes with what was said."""
    done = erase(audit, Wanted(keys=frozenset({"customer-17"})), open_pseudonyms(audit.parent))
    assert CALLS == done.records  # the champion's segment is still being written, and named
    [path] = [path for path in audit.glob("worker-1000/*.jsonl") if verify(path).records]
    assert CALLS == verify(path).erased
