"""What speaks against moving an alias to a version: it does not load here, breaks callers, or breaks a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

from penstock.bundle.bundle import Bundle
from penstock.bundle.outputs import OutputSpec
from penstock.control.changes import Rules, Tried, Who
from penstock.control.compatibility import output_changes, schema_changes
from penstock.control.rules import broken_rules
from penstock.control.state import ModelState, State
from penstock.errors import BundleError, PenstockError, RepositoryUnavailable
from penstock.routing import CHAMPION, ModelOptions, listed

Misfit: TypeAlias = Callable[[str, ModelOptions, OutputSpec], str | None]
"""Of a model's name, its options and the outputs of a version: why they do not go together; None if they do."""


def _keyless(options: ModelOptions, bundle: Bundle) -> str | None:
    names = [field.name for field in bundle.schema.fields]
    if options.key is None or options.key in names:
        return None
    return f"`key` names the field {options.key!r}, which its rows do not have; there is {listed(names)}"


def _fits(name: str, options: ModelOptions, outputs: OutputSpec) -> str | None:
    return None


class Bundles(Protocol):
    """Bundles of the repository, on this machine."""

    def local(self, seal: str) -> Path:
        """Where the bundle of that seal lies, fetched and verified. Raises BundleRefused and ControlError."""
        ...


class LoadGate:
    """Tries a version in a process of its own, compares its schema, and asks the rules. Thread-safe."""

    def __init__(
        self, bundles: Bundles, attempt: Callable[[Path], str | None], *, node: str, misfit: Misfit = _fits
    ) -> None:
        """`attempt` loads a bundle apart, runs its golden rows, and says why that failed; None if it did not. `misfit`
        says why a model's options do not fit outputs.
        """
        self._bundles = bundles
        self._attempt = attempt
        self._misfit = misfit
        self._node = node
        self.note: Callable[[str, Tried, Who], object] = lambda name, tried, who: None
        """Hears how each attempt ended."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        """Why `alias` should not move to version `number`: what stands in any case, and what `--force` overrules.

        Raises RepositoryUnavailable.
        """
        model = state.model(name)
        why = self.tried(model, number)
        if why is not None:
            return [why], []
        misfits = self.misfits(model, model.config.options, [number])
        if misfits:
            return misfits, []
        champion = model.aliases.get(CHAMPION)
        candidate = model.version(number).published
        beside = None if champion is None else model.version(champion).published
        broken = broken_rules(model.config.rules.get(alias, Rules()), candidate, beside)
        if champion is not None and champion != number:
            broken += self._breaking(model, champion, number)
        return [], broken

    def misfits(self, model: ModelState, options: ModelOptions, numbers: Iterable[int]) -> list[str]:
        """Why `options` do not fit versions of `model`; of a version that cannot be read nothing can be said."""
        found = []
        for number in numbers:
            try:
                bundle = self._peek(model, number)
                misfit = self._misfit(model.name, options, bundle.outputs) or _keyless(options, bundle)
            except PenstockError:
                continue
            if misfit is not None:
                found.append(f"what is declared does not fit version {number}: {misfit}")
        return found

    def tried(self, model: ModelState, number: int) -> str | None:
        """Why the version cannot be loaded on this machine; None if it can, which is tried once.

        Raises RepositoryUnavailable, which says nothing about the version.
        """
        version = model.version(number)
        if self._node in version.tried:
            return None
        try:
            why = self._attempt(self._bundles.local(version.published.seal))
        except RepositoryUnavailable:
            raise
        except PenstockError as error:
            why = str(error)
        self.note(model.name, Tried(version=number, node=self._node, why=why), Who("penstock", is_verified=True))
        return None if why is None else f"version {number} cannot be served here: {why}"

    def _breaking(self, model: ModelState, champion: int, number: int) -> list[str]:
        after = self._peek(model, number)
        try:
            before = self._peek(model, champion)
        except BundleError as error:  # the way out of a champion that was damaged is another one
            return [f"the schema cannot be compared with that of version {champion}, the champion: {error}"]
        found = schema_changes(before.schema, after.schema) + output_changes(before.outputs, after.outputs)
        return [f"callers of version {champion} break: {change.what}" for change in found if change.is_breaking]

    def _peek(self, model: ModelState, number: int) -> Bundle:
        return Bundle.peek(self._bundles.local(model.version(number).published.seal))
