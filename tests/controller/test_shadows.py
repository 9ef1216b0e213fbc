"""Which versions shadow which, and what operators are told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.audit.position import Position
from penstock.audit.readers import reader_name
from penstock.control.changes import Event, Lineage, Moved, Published, Who
from penstock.control.state import State, folded
from penstock.controller.shadows import answer_of, counted, wanted_shadows
from penstock.jobs.comparison import ComparisonState
from penstock.jobs.shadow_state import Shadowed, ShadowState, make_folder, stem_of, write_state
from penstock.jobs.taken import Tally

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)


def state_of(champion: int, shadow: int | None) -> State:
    """Two versions of `churn`, and what the aliases mean."""
    versions = [
        Published(version=n, digest=f"sha256:{n}", seal=f"{n}", size_bytes=1, flavour="onnx", lineage=Lineage())
        for n in (1, 2)
    ]
    moves = [Moved(alias="champion", after=champion), Moved(alias="shadow", before=None, after=shadow)]
    changes = [*versions, *(move for move in moves if move.after is not None)]
    return folded(
        Event(revision=n, at=FIRST + timedelta(seconds=n), who=Who("ana@quay"), model="churn", change=change)
        for n, change in enumerate(changes, 1)
    )


OF = Shadowed(model="churn", version=2, digest="sha256:2", champion=1, since=FIRST + timedelta(seconds=4))


def kept(home: Path, of: Shadowed = OF) -> None:
    """A state of a shadow after some pairs."""
    comparison = ComparisonState(
        pairs=8, flips={"no": {"no": 5, "yes": 2}, "yes": {"yes": 1}}, tally=Tally(failed=3, refused=1, lacking=4)
    )
    state = ShadowState(
        of=of,
        began_at=FIRST,
        at=FIRST,
        position=Position(),
        written=Position(),
        comparison=comparison,
        crashed=2,
        skipped=7,
        lag_s=1.5,
    )
    make_folder(home)
    write_state(home, state)


def test_the_version_of_the_alias_shadows_the_champion() -> None:
    """From the event that moved the alias on; the champion itself shadows nothing, nor does a model without one."""
    assert {"churn": OF} == wanted_shadows(state_of(1, 2))
    assert {} == wanted_shadows(state_of(2, 2))
    assert {} == wanted_shadows(state_of(1, None))


def test_what_is_told(tmp_path: Path) -> None:
    """The counts as they were kept, and whether it runs; of another champion's nothing is counted."""
    model = state_of(1, 2).model("churn")
    bare = answer_of(tmp_path, model, (None, 0))
    assert bare is not None
    assert ("running", 0, None, None) == (bare.state, bare.pairs, bare.disagreement, bare.at)
    kept(tmp_path)
    told = answer_of(tmp_path, model, ("it was killed by SIGSEGV", 3))
    assert told is not None
    assert ("restarting", "it was killed by SIGSEGV", 3) == (told.state, told.why, told.deaths)
    assert (8, 0.25, 6, 2, 4, 7, 1.5) == (
        told.pairs,
        told.disagreement,
        told.errors,
        told.crashed,
        told.unscorable,
        told.skipped,
        told.lag_s,
    )
    stopped = answer_of(tmp_path, model, None)
    assert stopped is not None
    assert ("stopped", 8) == (stopped.state, stopped.pairs)
    other = answer_of(tmp_path, state_of(2, 1).model("churn"), None)
    assert other is not None
    assert (1, 2, 0) == (other.version, other.champion, other.pairs)
    assert answer_of(tmp_path, state_of(1, None).model("churn"), None) is None


def test_a_file_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    """The reason stands where an operator looks."""
    make_folder(tmp_path)
    stem_of(tmp_path, "churn", 2, ".json").write_text("{}")
    told = answer_of(tmp_path, state_of(1, 2).model("churn"), None)
    assert told is not None
    assert told.why is not None
    assert "remove it to begin anew" in told.why


def test_metrics(tmp_path: Path) -> None:
    """Counts and the lag, by model and version."""
    kept(tmp_path)
    found = {family.name: family.samples for family in counted(tmp_path, [OF])}
    labels = ("churn", "2")
    assert {
        "penstock_shadow_pairs_total": [(labels, [8])],
        "penstock_shadow_errors_total": [(labels, [6])],
        "penstock_shadow_skipped_total": [(labels, [7])],
        "penstock_shadow_lag_seconds": [(labels, [1.5])],
    } == found


def test_a_long_name_is_a_readers_all_the_same() -> None:
    """A reader's name has at most 64 characters, a model's alone may have as many."""
    assert "shadow-churn-2" == reader_name("shadow", "churn-2")
    assert 64 >= len(reader_name("shadow", "m" * 64 + "-12"))
    assert reader_name("shadow", "m" * 64 + "-12") != reader_name("shadow", "m" * 63 + "n-12")
