"""What every `EventStore` keeps to: checks that each take what opens another store on the same, empty state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from penstock.assignment import Arm, Experiment, settled
from penstock.control.changes import (
    Change,
    Configured,
    Erased,
    Event,
    Exported,
    Lineage,
    ModelConfig,
    Moved,
    Published,
    Removed,
    Retained,
    Rules,
    Serving,
    Tried,
    Weighed,
    Who,
)
from penstock.control.sql_store import SqlStore
from penstock.control.store import EventStore, RevisionTaken
from penstock.errors import ControlError, StateUnavailable
from penstock.routing import Decision, FallbackOptions, ModelLimits, ModelOptions

Opens = Callable[[], EventStore]
OpensStore = Callable[[], SqlStore]

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANA = Who("ana@quay")
OPTIONS = ModelOptions(
    is_lazy=True,
    fallback=FallbackOptions(kind="version", version=1),
    decision=Decision(label="yes", otherwise="no", threshold=0.4, abstain=(0.3, 0.5)),
    limits=ModelLimits(queue_rows=7),
)
PUBLISHED = Published(
    version=1,
    digest="sha256:ab",
    seal="sha256:cd",
    size_bytes=1 << 33,
    flavour="onnx",
    metrics={"roc_auc": 0.1 + 0.2},
    evaluation_set="sha256:ef",
    lineage=Lineage(packed_by="ana", git_commit="c0ffee", dvc_path="Größe/数据.csv"),
)
CHANGES: tuple[Change, ...] = (
    PUBLISHED,
    Moved(alias="champion", after=1, overruled=("worse", "much worse")),
    Configured(before=ModelConfig(), after=ModelConfig(options=OPTIONS, rules={"champion": Rules(floors={"f1": 0.5})})),
    Weighed(after=settled(Experiment(id="fees", arms=(Arm(name="blue", version=1, weight=500),), holdout=100))),
    Tried(version=1, node="quay", why="no room\nat all"),
    Serving(node="quay", after={"champion": 1}),
    Moved(alias="champion", before=1, is_rollback=True),
    Removed(version=1, digest="sha256:ab"),
    Exported(node="quay", path="/tmp/Größe.csv", lines=7, sha256="ab", conditions="model churn", since=FIRST),
    Erased(node="quay", records=3, models=("churn",), exports=("/tmp/a.csv",), by_hand=("/tmp/b.csv on mill",)),
    Retained(
        node="quay",
        files=2,
        records=1 << 40,
        size_bytes=1 << 50,
        first_day="2026-01-01",
        last_day="2026-01-02",
        rules=("older than 30 days",),
        upto=FIRST,
    ),
)


def event(revision: int, change: Change = PUBLISHED, reason: str | None = None, who: Who = ANA) -> Event:
    """An event at the time that is its revision's."""
    at = FIRST + timedelta(microseconds=revision)
    return Event(revision=revision, at=at, who=who, model="churn", change=change, reason=reason)


def check_events_come_back(opens: Opens) -> None:
    """Each kind of event comes back from another store as it was, in order."""
    store = opens()
    assert [] == store.since(0)
    events = [
        event(number, change, "why; \N{EURO SIGN}\U0001f600'\"\n%s :a") for number, change in enumerate(CHANGES, 1)
    ]
    store.append(events[:3])
    store.append([])
    store.append(events[3:])
    assert events == store.since(0) == opens().since(0)
    assert events[4:] == store.since(4)
    assert [] == store.since(len(events)) == store.since(len(events) + 1)


def check_a_taken_revision(opens: Opens) -> None:
    """Whoever comes second gets RevisionTaken, and nothing of what it wanted to add is there."""
    one, other = opens(), opens()
    one.append([event(1)])
    for late in ([event(1)], [event(1, reason="another"), event(2)]):
        with pytest.raises(RevisionTaken):
            other.append(late)
    assert [event(1)] == one.since(0) == other.since(0)


def check_no_gap(opens: Opens) -> None:
    """Events that do not follow the last one, in revision or in time, are refused whole."""
    store = opens()
    store.append([event(1)])
    with pytest.raises(StateUnavailable, match="does not follow"):
        store.append([event(3)])
    with pytest.raises(StateUnavailable, match="does not follow"):
        store.append([event(2), event(4)])
    early = Event(revision=2, at=event(1).at, who=ANA, model="churn", change=PUBLISHED)
    with pytest.raises(StateUnavailable, match="does not follow"):
        store.append([early])
    assert [event(1)] == store.since(0)


def check_only_what_reads_back(opens: Opens) -> None:
    """What could not be read back as it is, is refused before it is written."""
    store = opens()
    nan = Published(version=1, digest="a", seal="b", size_bytes=1, flavour="onnx", metrics={"roc_auc": float("nan")})
    for bad in (
        event(1, nan),
        event(1, reason="a\0b"),
        event(1, who=Who("\udcff")),
        event(1, Tried(version=1, node="\udc80")),
    ):
        with pytest.raises(ControlError, match="kept|read back"):
            store.append([bad])
    assert [] == store.since(0)


def check_writers_at_once(opens: Opens) -> None:
    """Of writers in several threads and stores none loses an event and none leaves a gap."""
    shared = opens()
    threads = [
        threading.Thread(target=write, args=(store, Who(str(number)), 12))
        for number, store in enumerate((shared, shared, opens()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = shared.since(0)
    assert list(range(1, 37)) == [one.revision for one in found]
    assert {"0": 12, "1": 12, "2": 12} == {name: [one.who.name for one in found].count(name) for name in "012"}


def write(store: EventStore, who: Who, events: int) -> None:
    """Add so many events, deciding anew whenever another writer was faster."""
    last = 0
    while events:
        last += len(store.since(last))
        try:
            store.append([event(last + 1, who=who)])
        except RevisionTaken:
            continue
        events -= 1


CHECKS: tuple[Callable[[Opens], None], ...] = (
    check_events_come_back,
    check_a_taken_revision,
    check_no_gap,
    check_only_what_reads_back,
    check_writers_at_once,
)
