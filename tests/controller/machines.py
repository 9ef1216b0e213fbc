"""A machine without processes: real state on disk, bundles that are empty folders, workers played by the test."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence, Set
from datetime import UTC, datetime
from pathlib import Path

from penstock.control.changes import Event, Published, Who
from penstock.control.control import By, Control
from penstock.control.gate import LoadGate
from penstock.control.sql_store import SqlStore
from penstock.control.state import ModelState, State
from penstock.controller.convergence import Convergence, Node
from penstock.controller.shelf import Shelf
from penstock.errors import RepositoryUnavailable, StateUnavailable
from penstock.routing import Wanted, read_wanted

BY = By(who=Who("ada@mill"))


class Store(SqlStore):
    """A state whose database may be away."""

    is_away = False

    def since(self, revision: int) -> list[Event]:
        self._require()
        return super().since(revision)

    def append(self, events: Sequence[Event]) -> None:
        self._require()
        super().append(events)

    def _require(self) -> None:
        if self.is_away:
            raise StateUnavailable("the state is away")


class Bundles:
    """A repository that may be away, and whose bundles load or fail as `failing` says, by seal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.is_away = False
        self.failing: dict[str, str] = {}
        self.slow: dict[str, threading.Event] = {}
        self.trials: Counter[str] = Counter()

    def add(self, bundle: Path) -> tuple[str, Published]:
        """`churn-3` is some content of `churn`."""
        name, _, _ = bundle.name.rpartition("-")
        return name, Published(
            version=0, digest=f"digest of {bundle.name}", seal=bundle.name, size_bytes=1, flavour="onnx"
        )

    def local(self, seal: str) -> Path:
        if self.is_away:
            raise RepositoryUnavailable("the repository is away")
        path = self.home / "bundles" / seal
        path.mkdir(parents=True, exist_ok=True)
        return path

    def attempt(self, path: Path) -> str | None:
        self.trials[path.name] += 1
        if path.name in self.slow:
            self.slow[path.name].wait(30)
        return self.failing.get(path.name)


class Gate(LoadGate):
    """Tries a version, and compares nothing."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        why = self.tried(state.model(name), number)
        return ([] if why is None else [why]), []


class Machine:
    """A controller's parts on a home, its thread running; `loads` says what its two workers cannot load."""

    def __init__(
        self,
        home: Path,
        *,
        node: str = "mill",
        state: Path | None = None,
        serves_since: datetime | None = None,
        bundles: Bundles | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.node = node
        self.store = Store(None, home=state or home)
        self.bundles = bundles or Bundles(home)
        self.gate = Gate(self.bundles, self.bundles.attempt, node=node)
        self.control = Control(self.store, self.bundles, self.gate)
        self.gate.note = self.control.note
        self.shelf = Shelf(self.bundles, self.gate)
        about = Node(name=node, home=home, serves_since=serves_since)
        self.convergence = Convergence(self.control, self.shelf, about, tell=self._tell)
        self.shelf.on_change = self.convergence.wake
        self.told: list[int] = []
        self.failing: dict[str, str] = {}
        """By `name/version`, what the workers cannot load."""
        self._loaded: Set[tuple[tuple[str, int], str]] = self.wanted.table.digests().items()
        self._revision = self.wanted.revision
        self.is_deaf = False
        """Whether the workers do not apply what they are told."""
        self._thread = threading.Thread(target=self.convergence.run, daemon=True)

    def __enter__(self) -> Machine:
        self.apply()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.store.close()

    def kill(self) -> None:
        """End without a word, as a killed process does."""
        self.convergence.end()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _tell(self, revision: int) -> bool:
        self.told.append(revision)
        if not self.is_deaf:
            self.apply()
        return True

    def apply(self) -> None:
        """The workers serve what `routing.json` says now. As the supervisor has it, one of them goes first where there
        is something to load, and the other follows if that could be loaded.
        """
        wanted = self.wanted
        digests = wanted.table.digests()
        failures = {f"{name}/{number}" for name, number in digests} & self.failing.keys()
        fresh = {f"{name}/{number}" for (name, number), _ in digests.items() - self._loaded}
        told = {key: self.failing[key] for key in failures if key in fresh}
        if not fresh & told.keys():
            self._loaded, self._revision = digests.items(), wanted.revision
        self.convergence.stands({0: wanted.revision, 1: self._revision}, told, wanted.revision)

    @property
    def wanted(self) -> Wanted:
        return read_wanted(self.home)

    @property
    def champions(self) -> dict[str, int]:
        """What `routing.json` makes of the champions."""
        return {name: routes.aliases["champion"] for name, routes in self.wanted.table.models.items()}

    def publish(self, *bundles: str) -> None:
        for bundle in bundles:
            self.control.publish(Path(bundle), BY)

    def deploy(self, name: str, number: int, within_s: float = 30.0) -> list[str]:
        """As `LocalOperations.move`: what it waits for in the end."""
        return self.wait(name, self.control.deploy(name, number, BY), within_s)

    def wait(self, name: str, events: list[Event], within_s: float = 30.0) -> list[str]:
        revision = events[-1].revision if events else self.model(name).revision
        return self.convergence.wait(revision, within_s, {name})

    def model(self, name: str) -> ModelState:
        return self.control.state().model(name)

    def serving(self, name: str) -> dict[str, int]:
        """What the history says to be served here."""
        return self.model(name).serving.get(self.node, {})

    def kinds(self, name: str) -> list[str]:
        return [event.kind for event in self.control.events() if event.model == name]


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)
