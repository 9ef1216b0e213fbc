"""Publishing, removing and collecting garbage in any order, on two machines at once: no version ever loses a file."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from penstock.bundle.bundle import Bundle
from penstock.control.leftovers import Leftover
from penstock.control.repository import Repository
from variants import variant

MACHINES = st.integers(0, 1)
VERSIONS = st.integers(0, 1)
LONGEST_PUBLISH_MINUTES = 29


class Machines(RuleBasedStateMachine):
    """`under_way` are stored and have no event yet, with their minutes; `published` are the seals of the versions."""

    sealed: list[Path]

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        store = str(self.root / "store")
        self.machines = [Repository(store, home=self.root / f"home-{number}") for number in (0, 1)]
        self.under_way: dict[str, float] = {}
        self.published: set[str] = set()
        self.found: dict[int, list[Leftover]] = {}

    @rule(machine=MACHINES, version=VERSIONS)
    def store(self, machine: int, version: int) -> None:
        _, published = self.machines[machine].add(self.sealed[version])
        self.under_way[published.seal] = 0

    @rule(machine=MACHINES, version=VERSIONS)
    def store_and_crash(self, machine: int, version: int) -> None:
        self.store(machine, version)
        self.pass_time(61)

    @rule()
    def note_events(self) -> None:
        self.published |= set(self.under_way)
        self.under_way = {}

    @rule(which=VERSIONS)
    def remove(self, which: int) -> None:
        for seal in sorted(self.published)[which : which + 1]:
            self.published.remove(seal)

    @rule(minutes=st.sampled_from([1, 20, 61, 90]))
    def pass_time(self, minutes: int) -> None:
        """A publish that takes too long has crashed; so has a collection that was under way."""
        past_s = 60 * minutes
        for path in (*self.root.glob("store/*/**/*"), *self.root.glob("home-*/bundles/*")):
            stat = path.stat()
            os.utime(path, (stat.st_atime - past_s, stat.st_mtime - past_s))
        aged = {seal: age + minutes for seal, age in self.under_way.items()}
        self.under_way = {seal: age for seal, age in aged.items() if age <= LONGEST_PUBLISH_MINUTES}
        self.found = {}

    @rule(machine=MACHINES)
    def look_for_garbage(self, machine: int) -> None:
        self.found[machine] = self.machines[machine].leftovers(self.published)

    @rule(machine=MACHINES)
    def discard(self, machine: int) -> None:
        self.machines[machine].discard(self.found.pop(machine, []))

    @rule(machine=MACHINES, version=VERSIONS)
    def publish_during_a_collection(self, machine: int, version: int) -> None:
        self.look_for_garbage(1 - machine)
        self.store(machine, version)
        self.discard(1 - machine)
        self.note_events()

    @rule(machine=MACHINES)
    def collect(self, machine: int) -> None:
        self.look_for_garbage(machine)
        self.discard(machine)

    @rule(machine=MACHINES)
    def fetch(self, machine: int) -> None:
        for seal in self.published:
            assert Bundle.open(self.machines[machine].local(seal))

    @invariant()
    def has_what_versions_need(self) -> None:
        if not hasattr(self, "root"):
            return
        store = self.machines[0]._files
        there = {Path(name).name for name in store.sizes("files")}
        for seal in {*self.published, *self.under_way}:
            needed = {entry.sha256.removeprefix("sha256:") for entry in self.machines[0].manifest(seal).files.values()}
            assert needed <= there

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.pass_time(120)
            for machine in (0, 1):
                self.collect(machine)
                self.fetch(machine)
            lists = {path.stem for path in self.root.glob("store/bundles/*.json")}
            assert {seal.removeprefix("sha256:") for seal in self.published} == lists
            shutil.rmtree(self.root)


def test_no_version_ever_loses_a_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Whatever the order: each version's bundle can be fetched, and in the end nothing else is there."""
    Machines.sealed = [variant(bundles["amount"], tmp_path, without) for without in range(2)]
    settings = hypothesis.settings(max_examples=40, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(Machines, settings=settings)  # type: ignore[no-untyped-call]


def test_time_is_what_the_store_says(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The machine's way of passing time is one that the store notices."""
    repository = Repository(None, home=tmp_path)
    repository.add(bundles["amount"])
    [name, *_] = repository._files.sizes("bundles")
    past = time.time() - 5400
    os.utime(tmp_path / "repository" / name, (past, past))
    age_s = repository._files.age_s(name)
    assert age_s is not None and 5300 < age_s < 5600
