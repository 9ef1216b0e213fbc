"""Puts the control plane together from the settings: store, repository, gate, commands, convergence."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from penstock.audit.readers import Readers
from penstock.bundle.outputs import OutputSpec
from penstock.control.control import Control
from penstock.control.garbage import KeepRule
from penstock.control.gate import LoadGate
from penstock.control.repository import Repository
from penstock.control.sql_store import SqlStore
from penstock.controller.convergence import Convergence, Node
from penstock.controller.erasing import Erasing
from penstock.controller.experiments import Experiments
from penstock.controller.local import LocalOperations
from penstock.controller.retained import tell_retained
from penstock.controller.rollouts import Rollouts
from penstock.controller.sealing import Sealing
from penstock.controller.shadows import Shadows
from penstock.controller.shelf import Shelf
from penstock.controller.stages import StagesHere
from penstock.controller.upkeep import Upkeep
from penstock.errors import SettingsError
from penstock.routing import ModelOptions
from penstock.runtime.decision import require_decides
from penstock.runtime.fallback import Fallback, require_fits
from penstock.settings import Settings
from penstock.trial import failure_of


class Plane(msgspec.Struct, frozen=True):
    """The control plane of a machine, ready to use."""

    control: Control
    convergence: Convergence
    operations: LocalOperations
    store: SqlStore
    repository: Repository
    sealing: Sealing
    rollouts: Rollouts
    experiments: Experiments
    shadows: Shadows


@contextlib.contextmanager
def control_plane(
    settings: Settings,
    *,
    tell: Callable[[int], bool] | None = None,
    turn: Callable[[], bool] = lambda: False,
    serves_since: datetime | None = None,
) -> Iterator[Plane]:
    """Everything, closed at the end. `tell` passes the revision of each `routing.json` that is written to the server,
    which runs since `serves_since`; None where none runs. `turn` has its workers begin new segments of the log.

    Connects to nothing before the first command. Raises SettingsError and MissingExtra.
    """
    home = Path(settings.home)
    node = Node(
        name=node_of(settings),
        home=home,
        serves_since=serves_since,
        default_model=settings.server.default_model,
        kept=settings.models.kept,
    )
    with contextlib.closing(SqlStore(settings.state.url, home=home)) as store:
        repository = Repository(settings.repository.url, home=home)
        gate = LoadGate(repository, lambda path: failure_of(path, settings), node=node.name, misfit=misfit_of)
        control = Control(store, repository, gate)
        gate.note = control.note
        shelf = Shelf(repository, gate)
        convergence = Convergence(control, shelf, node, tell=tell)
        if tell is not None:
            shelf.on_change = convergence.wake
        models = settings.models
        rule = KeepRule(last=models.keep_last, days=models.keep_days, loaded=models.kept)
        on_gone = partial(tell_retained, control, node.name)
        sealing = Sealing(home, settings.audit, Readers(home / "audit").has_passed, on_gone)
        erasing = Erasing(home, control, sealing, node=node.name, turn=turn)
        upkeep = Upkeep(control, store, repository, home=home, rule=rule, sealing=sealing, erasing=erasing)
        rollouts = Rollouts(control, convergence, StagesHere(home, repository, settings), home=home, node=node.name)
        experiments = Experiments(control, convergence, home=home, node=node.name)
        shadows = Shadows(settings, control.state, shelf.where)
        operations = LocalOperations(
            control,
            convergence,
            upkeep,
            apply_s=settings.control.apply_s,
            node=node.name,
            known=rollouts.known,
            shadow=shadows.answer,
            experiment=experiments.answer,
        )
        yield Plane(control, convergence, operations, store, repository, sealing, rollouts, experiments, shadows)


def node_of(settings: Settings) -> str:
    """What this machine is called in the history."""
    return settings.control.node or socket.gethostname()


def misfit_of(name: str, options: ModelOptions, outputs: OutputSpec) -> str | None:
    """Why the options of a model do not fit a version that answers `outputs`; None if they do."""
    try:
        if options.fallback is not None:
            require_fits(Fallback.of(options.fallback), name, outputs)
        if options.decision is not None:
            require_decides(options.decision, name, outputs)
    except SettingsError as error:
        return str(error)
    return None
