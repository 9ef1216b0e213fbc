"""Puts the control plane together from the settings: store, repository, gate, commands, convergence."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from penstock.control.control import Control
from penstock.control.garbage import KeepRule
from penstock.control.gate import LoadGate
from penstock.control.repository import Repository
from penstock.control.sql_store import SqlStore
from penstock.controller.convergence import Convergence
from penstock.controller.local import LocalOperations
from penstock.controller.upkeep import Upkeep
from penstock.settings import Settings
from penstock.trial import failure_of


class Plane(msgspec.Struct, frozen=True):
    """The control plane of a machine, ready to use."""

    control: Control
    convergence: Convergence
    operations: LocalOperations
    store: SqlStore
    repository: Repository


@contextlib.contextmanager
def control_plane(settings: Settings, *, tell: Callable[[int], None] | None = None) -> Iterator[Plane]:
    """Everything, closed at the end. `tell` hears of each `routing.json` written; None where no server runs.

    Connects to nothing before the first command. Raises SettingsError and MissingExtra.
    """
    home = Path(settings.home)
    node = settings.control.node or socket.gethostname()
    store = SqlStore(settings.state.url, home=home)
    with contextlib.closing(store):
        repository = Repository(settings.repository.url, home=home)
        gate = LoadGate(repository, lambda path: failure_of(path, settings), node=node)
        control = Control(store, repository, gate)
        gate.note = control.note
        convergence = Convergence(
            control,
            repository,
            gate,
            home=home,
            node=node,
            default_model=settings.server.default_model,
            kept=settings.models.kept,
            tell=tell,
        )
        models = settings.models
        rule = KeepRule(last=models.keep_last, days=models.keep_days, loaded=models.kept)
        upkeep = Upkeep(control, store, repository, home=home, rule=rule)
        operations = LocalOperations(control, convergence, upkeep, apply_s=settings.control.apply_s, node=node)
        yield Plane(control, convergence, operations, store, repository)
