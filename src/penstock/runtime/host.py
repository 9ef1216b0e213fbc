"""The models in memory, by name and version, and the table that says which of them answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from penstock.errors import BundleRefused
from penstock.routing import CHAMPION, Routes, RoutingTable
from penstock.runtime.away import InPool, Results, Ticket, Timing
from penstock.runtime.batcher import Batcher, Land
from penstock.runtime.breaker import Breaker
from penstock.runtime.fallback import Fallback, require_fits
from penstock.runtime.model import Model
from penstock.runtime.remote import RemoteModel
from penstock.runtime.served import Served
from penstock.runtime.version import Version
from penstock.telemetry import Reading, Registry

_Key = tuple[str, int]


class Limits(msgspec.Struct, frozen=True):
    """What each version takes on: rows that wait or are computed, failures in a row, seconds of rest after them."""

    queue_rows: int = 10_000
    breaker_failures: int = 10
    breaker_open_s: float = 5.0


class Host:
    """Holds loaded models and finds the one that answers. Used on one event loop; close it when done."""

    def __init__(
        self,
        models: Iterable[Version],
        *,
        default_model: str | None = None,
        on_run: Callable[[Version, int, float], None] = lambda model, rows, run_ms: None,
        on_swap: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
        fallbacks: Mapping[str, Fallback] | None = None,
        registry: Registry | None = None,
    ) -> None:
        """The first version of a name becomes its champion. `fallbacks` are by the model's name.

        `on_run` hears of each run: its rows and milliseconds; `on_swap` of each change of what is served. Raises as
        `swap` does.
        """
        registry = registry if registry is not None else Registry()
        self._active = registry.gauge("model_active_requests", "Calls that have yet to get their reply.", ("model",))
        self._broken = registry.gauge(
            "penstock_breaker_open", "Workers whose circuit breaker of the version is open.", ("model", "version")
        )
        self.land: Land = _lost
        """Gets what all versions have computed; set by whoever submits."""
        self._default_model = default_model
        self._on_run = on_run
        self._on_swap = on_swap
        self._limits = limits or Limits()
        self._fallbacks = fallbacks or {}
        self._served: dict[_Key, Served] = {}
        self._chosen: dict[tuple[str | None, int | None, str | None], Served] = {}  # what was asked for and is there
        self._leaving: set[Served] = set()
        self.table = RoutingTable({}, default_model)
        self.is_stopping = False
        """Set when the server is about to stop: it answers, but is not ready any more."""
        self.swap(models)

    @property
    def is_ready(self) -> bool:
        """Whether something is served, and will be."""
        return bool(self._served) and not self.is_stopping

    def models(self) -> list[Version]:
        """All loaded versions, by name and number."""
        return [self._served[key].model for key in sorted(self._served)]

    def choose(self, model: str | None, version: int | None, alias: str | None) -> Served:
        """The loaded version that answers a call. Raises NotFound naming what there is."""
        asked = (model, version, alias)
        served = self._chosen.get(asked)
        if served is None:
            served = self._chosen[asked] = self._served[self.table.choose(model, version, alias)]
        return served

    def swap(self, models: Iterable[Version], table: RoutingTable | None = None) -> None:
        """Serve `models` by `table` from now on, all at once; without a table, as at the start.

        A version that is served already (the same object) keeps its queue and its breaker. One that is served no more
        answers the calls that hold it and is then freed. Raises BundleRefused for two versions of one number,
        SettingsError for a fallback that does not fit and ValueError for a table that names what is not in `models`;
        nothing has changed then.
        """
        wanted = _by_key(models)
        table = table or RoutingTable(_routes(wanted.values()), self._default_model)
        _require_loaded(table, wanted)
        for model in wanted.values():
            if model.name in self._fallbacks:
                require_fits(self._fallbacks[model.name], model.name, model.bundle.outputs)
        old = self._served
        self._served = {
            key: old[key] if key in old and old[key].model is model else self._serve(model)
            for key, model in wanted.items()
        }
        self.table = table
        self._chosen = {}
        self._on_swap()
        for key, served in old.items():
            if self._served.get(key) is not served:
                self._leaving.add(served)
                served.leave()

    def close(self) -> None:
        """Wait for what runs and free the threads."""
        for served in (*self._served.values(), *self._leaving):
            if served.pool is not None:
                served.pool.shutdown()

    def _landed(self, tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
        self.land(tickets, results, timing)

    def _serve(self, model: Version) -> Served:
        limits = self._limits
        on_run = partial(self._on_run, model)
        pool: ThreadPoolExecutor | None = None
        if isinstance(model, RemoteModel):
            batcher = Batcher(None, self._landed, away=model.remote, on_run=on_run, most_rows=limits.queue_rows)
        elif isinstance(model, Model):
            pool = ThreadPoolExecutor(1, thread_name_prefix=f"run-{model.name}-{model.version}")  # starts when used
            away = InPool(model.score, pool)
            batcher = Batcher(
                model.score, self._landed, cost_us=model.cost_us, away=away, on_run=on_run, most_rows=limits.queue_rows
            )
        else:
            raise TypeError(f"nothing computes {model.name!r}")
        broken = self._broken.at(model.labels)
        broken.set(0)
        breaker = Breaker(limits.breaker_failures, limits.breaker_open_s, on_change=broken.set)
        fallback = self._fallbacks.get(model.name)
        if fallback is not None and fallback.version == model.version:
            fallback = None  # it cannot stand in for itself
        self._active.adopt(Reading(partial(self._holds, model.name)), model=model.name)
        return Served(model, batcher, breaker=breaker, free=self._free, pool=pool, fallback=fallback)

    def _holds(self, name: str) -> int:
        return sum(served.holds for served in (*self._served.values(), *self._leaving) if served.model.name == name)

    def _free(self, served: Served) -> None:
        self._leaving.discard(served)
        if served.pool is not None:
            served.pool.shutdown(wait=False)  # nothing runs: nobody holds it
        if isinstance(served.model, RemoteModel):
            served.model.remote.close()
        key = (served.model.name, served.model.version)
        if key not in self._served:
            self._broken.remove(model=key[0], version=str(key[1]))


def _lost(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
    raise RuntimeError(f"{len(tickets)} results have nowhere to land")


def _by_key(models: Iterable[Version]) -> dict[_Key, Version]:
    found: dict[_Key, Version] = {}
    for model in models:
        key = (model.name, model.version)
        if key in found:
            raise BundleRefused(f"version {model.version} of {model.name!r} is there twice")
        found[key] = model
    return found


def _require_loaded(table: RoutingTable, loaded: Mapping[_Key, Version]) -> None:
    for name, routes in table.models.items():
        for number in (*routes.versions, *routes.aliases.values()):
            if (name, number) not in loaded:
                raise ValueError(f"Expected version {number} of {name!r} among the loaded models: load it first")


def _routes(models: Iterable[Version]) -> dict[str, Routes]:
    versions: dict[str, dict[int, str]] = {}
    for model in models:
        versions.setdefault(model.name, {})[model.version] = model.digest
    return {name: Routes(numbers, {CHAMPION: min(numbers)}) for name, numbers in versions.items()}
