"""States made of plain changes, and a control plane whose repository and gate are of the test's making."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.control.changes import Change, Event, Lineage, Published, Who
from penstock.control.control import By, Control
from penstock.control.state import ModelState, State, folded
from penstock.routing import ModelOptions
from penstock.testing import MemoryStore

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANA = By(who=Who("ana@quay"))


def published(version: int, digest: str | None = None, **facts: object) -> Published:
    """A version whose digest tells its number."""
    digest = f"sha256:{version:064x}" if digest is None else digest
    plain = {"seal": f"seal-{digest}", "size_bytes": 1000, "flavour": "onnx", "lineage": Lineage()}
    return Published(version=version, digest=digest, **(plain | facts))  # type: ignore[arg-type]


def events_of(changes: Iterable[Change], model: str = "churn") -> list[Event]:
    """One event a second, in order."""
    return [
        Event(revision=number, at=FIRST + timedelta(seconds=number), who=ANA.who, model=model, change=change)
        for number, change in enumerate(changes, 1)
    ]


def state_of(*changes: Change) -> State:
    """The state after these changes of the model `churn`."""
    return folded(events_of(changes))


class PlainShelf:
    """A repository that keeps nothing: the bundle `churn/abc` is of the model `churn`, with the content `abc`."""

    def add(self, bundle: Path) -> tuple[str, Published]:
        """What is to be published of that path."""
        return bundle.parent.name, published(0, f"sha256:{bundle.name}")


class PlainGate:
    """Says of every move what it was told to say."""

    def __init__(self, final: Iterable[str] = (), soft: Iterable[str] = ()) -> None:
        self.final, self.soft = list(final), list(soft)
        self.unfit: set[int] = set()
        self.asked: list[tuple[str, str, int]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        """What speaks against it."""
        self.asked.append((name, alias, number))
        self.meanwhile()
        return list(self.final), list(self.soft)

    def misfits(self, model: ModelState, options: ModelOptions, numbers: Iterable[int]) -> list[str]:
        """What it was told to say of these versions."""
        return [f"{number} does not fit" for number in numbers if number in self.unfit]


class Clock:
    """Tells the time that it was set to."""

    def __init__(self, at: datetime = FIRST) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """Now."""
        return self.at

    def pass_s(self, seconds: float) -> None:
        """Let time pass, or with a negative number set the clock back."""
        self.at += timedelta(seconds=seconds)


def control_of(store: MemoryStore, gate: PlainGate | None = None, clock: Clock | None = None) -> Control:
    """The commands on `store`."""
    return Control(store, PlainShelf(), gate or PlainGate(), clock=clock or Clock())
