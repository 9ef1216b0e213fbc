"""The models in memory, by name and version, and the table that says which of them answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from penstock.assignment import Split, split_of
from penstock.errors import BundleRefused, CallFailure, PenstockError
from penstock.routing import CHAMPION, ModelOptions, Routes, RoutingTable
from penstock.runtime.away import Away, InPool, Results, Ticket, Timing
from penstock.runtime.batcher import Batcher, Land
from penstock.runtime.breaker import Breaker
from penstock.runtime.budget import UNUSED_S, Resident, let_go
from penstock.runtime.decision import Decide, decide_by
from penstock.runtime.dormant import Dormant, Load, Waking
from penstock.runtime.fallback import Fallback
from penstock.runtime.model import Model
from penstock.runtime.remote import RemoteModel
from penstock.runtime.served import Served
from penstock.runtime.terms import Limits, Terms, terms_of
from penstock.runtime.version import Version
from penstock.telemetry import Reading, Registry

_LOG = logging.getLogger("penstock")
_Key = tuple[str, int]
_BY_VERSION = ("model", "version")


class Host:
    """Holds loaded models and finds the one that answers. Used on one event loop; close it when done."""

    def __init__(
        self,
        models: Iterable[Version],
        table: RoutingTable | None = None,
        *,
        on_run: Callable[[Version, int, float], None] = lambda model, rows, run_ms: None,
        on_swap: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
        fallbacks: Mapping[str, Fallback] | None = None,
        registry: Registry | None = None,
        load: Load | None = None,
    ) -> None:
        """Without a table the first version of a name is its champion. `fallbacks` are by the model's name.

        `on_run` hears of each run: its rows and milliseconds; `on_swap` of each change of what is served. `load` loads
        dormant versions; without it there are none, and nothing is let go. Raises as `swap` does.
        """
        registry = registry if registry is not None else Registry()
        self._active = registry.gauge("model_active_requests", "Calls that have yet to get their reply.", ("model",))
        self._broken = registry.gauge(
            "penstock_breaker_open", "Workers whose circuit breaker of the version is open.", _BY_VERSION
        )
        self._loaded = registry.gauge("model_loaded", "Workers that serve the version from memory.", _BY_VERSION)
        self._failed = registry.gauge(
            "penstock_version_failed", "Workers that want the version and could not load it.", _BY_VERSION
        )
        self.land: Land = _lost
        """Gets what all versions have computed; set by whoever submits."""
        self._on_run = on_run
        self._on_swap = on_swap
        self._limits = limits or Limits()
        self._fallbacks = fallbacks or {}
        self._load = load
        self._served: dict[_Key, Served] = {}
        self._chosen: dict[tuple[str | None, int | None, str | None], Served] = {}  # what was asked for and is there
        self._leaving: set[Served] = set()
        self._loading: dict[_Key, asyncio.Task[Version]] = {}
        self._later: asyncio.TimerHandle | None = None
        self._failures: dict[str, str] = {}
        self.table = RoutingTable({})
        self.is_stopping = False
        """Set when the server is about to stop: it answers, but is not ready any more."""
        self.swap(models, table)

    @property
    def is_ready(self) -> bool:
        """Whether something is served, and will be."""
        return bool(self._served) and not self.is_stopping

    @property
    def failures(self) -> Mapping[str, str]:
        """By `name/version` why what is wanted could not be loaded, the last time."""
        return self._failures

    def tell_failures(self, failures: Mapping[str, str]) -> None:
        """What could not be loaded, by `name/version`, in place of what was told before."""
        self._failed.remove()
        self._failures = dict(failures)
        for key in failures:
            name, _, number = key.rpartition("/")
            self._failed.at((name, number)).set(1)

    def models(self) -> list[Version]:
        """All versions, by name and number; those that are not loaded are `Dormant`."""
        return [self._served[key].model for key in sorted(self._served)]

    def choose(self, model: str | None, version: int | None, alias: str | None) -> Served:
        """The version that answers a call. Raises NotFound naming what there is."""
        asked = (model, version, alias)
        served = self._chosen.get(asked)
        if served is None:
            served = self._chosen[asked] = self._served[self.table.choose(model, version, alias)]
        return served

    def arm(self, name: str, version: int) -> Served:
        """The version that an experiment has chosen."""
        return self._served[name, version]

    def missing(self, table: RoutingTable) -> list[tuple[str, int]]:
        """What has to be made before `apply` can be called with `table`: the versions that are not here, and
        dormant ones that ought to be loaded (one that was let go, and is named by an alias again).
        """
        found = []
        for name, routes in table.models.items():
            for number, digest in sorted(routes.versions.items()):
                served = self._served.get((name, number))
                is_eager = number in routes.named and not routes.options.is_lazy
                if served is None or served.model.digest != digest or (is_eager and isinstance(served.model, Dormant)):
                    found.append((name, number))
        return found

    def apply(self, table: RoutingTable, made: Iterable[Version]) -> None:
        """Serve `table` from now on, by the versions `made` for it and those that are here. Raises as `swap`."""
        fresh = _by_key(made)
        wanted = {(name, number) for name, routes in table.models.items() for number in routes.versions}
        stay = [served.model for key, served in self._served.items() if key in wanted and key not in fresh]
        self.swap([*fresh.values(), *stay], table)

    def swap(self, models: Iterable[Version], table: RoutingTable | None = None) -> None:
        """Serve `models` by `table` from now on, all at once; without a table, as at the start.

        A version that is served already (the same object) keeps its queue and its breaker; only where its model's
        decision changes it gets another queue, and what waits is decided as before. One that is served no more answers
        the calls that hold it and is then freed. Raises BundleRefused for two versions of one number, SettingsError for
        a fallback or a decision that does not fit and ValueError for a table that names what is not in `models`:
        nothing has changed then.
        """
        wanted = _by_key(models)
        table = table or RoutingTable(_routes(wanted.values()), self.table.default_model)
        _require_loaded(table, wanted)
        terms = {key: self._terms(model, table) for key, model in wanted.items()}
        old = self._served
        splits = {name: _split(routes) for name, routes in table.models.items()}
        self._served = {key: self._turned(old.get(key), model, terms[key]) for key, model in wanted.items()}
        for (name, _), served in self._served.items():
            served.divide(splits.get(name))
        self.table = table
        self._chosen = {}
        self._on_swap()
        for key, served in old.items():
            if self._served.get(key) is not served:
                self._leave(served)
        self._let_go()

    def close(self) -> None:
        """Wait for what runs and free the threads."""
        if self._later is not None:
            self._later.cancel()
        for served in (*self._served.values(), *self._leaving):
            if served.pool is not None:
                served.pool.shutdown()

    def _terms(self, model: Version, table: RoutingTable) -> Terms:
        routes = table.models.get(model.name)
        return terms_of(
            model,
            ModelOptions() if routes is None else routes.options,
            limits=self._limits,
            fallback=self._fallbacks.get(model.name),
            is_named=routes is None or model.version in routes.named,
        )

    def _turned(self, before: Served | None, model: Version, terms: Terms) -> Served:
        """What serves `model` by `terms`: the same as before where that can be."""
        if before is None or before.model is not model:
            return self._serve(model, terms)
        if before.decision != terms.decision:
            return self._serve(model, terms, before.breaker)
        before.take(terms)
        return before

    def _serve(self, model: Version, terms: Terms, breaker: Breaker | None = None) -> Served:
        if breaker is None:
            broken = self._broken.at(model.labels)
            broken.set(0)
            breaker = Breaker(on_change=broken.set)
        pool: ThreadPoolExecutor | None = None
        score = None
        away: Away
        if isinstance(model, RemoteModel):
            away = model.runs()
        elif isinstance(model, Dormant):
            away = Waking(model, partial(self._wake, model), breaker)
        elif isinstance(model, Model):
            pool = ThreadPoolExecutor(1, thread_name_prefix=f"run-{model.name}-{model.version}")  # starts when used
            score, away = model.score, InPool(model.score, pool)
        else:
            raise TypeError(f"nothing computes {model.name!r}")
        decision = terms.decision
        land = self._landed if decision is None else self._deciding(decide_by(decision, model.bundle.outputs))
        batcher = Batcher(score, land, cost_us=model.cost_us, away=away, on_run=partial(self._on_run, model))
        self._loaded.at(model.labels).set(0 if isinstance(model, Dormant) else 1)
        self._active.adopt(Reading(partial(self._holds, model.name)), model=model.name)
        return Served(model, batcher, breaker=breaker, terms=terms, free=self._free, pool=pool)

    def _landed(self, tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
        self.land(tickets, results, timing)

    def _deciding(self, decide: Decide) -> Land:
        """As `_landed`, of a version whose labels are decided."""

        def landed(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
            decided = [result if isinstance(result, CallFailure) else decide(result) for result in results]
            self.land(tickets, decided, timing)

        return landed

    async def _wake(self, version: Dormant) -> Version:
        """The version, loaded: once, whoever else asks meanwhile. It is served from then on."""
        key = (version.name, version.version)
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.get_running_loop().create_task(self._awake(version, key))
            loading.add_done_callback(lambda _: self._loading.pop(key))
        return await asyncio.shield(loading)

    async def _awake(self, version: Dormant, key: _Key) -> Version:
        told = f"{key[0]}/{key[1]}"
        try:
            if self._load is None:
                raise PenstockError("nothing here loads versions at their first call")
            model = await self._load(*key)
            if model.digest != version.digest:
                raise BundleRefused(f"it was {version.digest} and is {model.digest}: a published bundle is not changed")
        except Exception as error:  # the edge to what loads: whatever it is, it is told, and others are served
            why = str(error) if isinstance(error, PenstockError) else f"{type(error).__name__} while it was loaded"
            _LOG.error("version %d of %s could not be loaded at its call: %s", key[1], key[0], why)
            self.tell_failures({**self._failures, told: why})
            raise
        if told in self._failures:
            self.tell_failures({known: why for known, why in self._failures.items() if known != told})
        served = self._served.get(key)
        if served is not None and served.model is version:
            self._put(key, model)
            self._let_go()
        return model

    def _put(self, key: _Key, model: Version) -> None:
        """Serve the same version by another object: loaded, or let go."""
        old = self._served[key]
        served = self._served[key] = self._serve(model, self._terms(model, self.table))
        served.divide(old.split)
        self._chosen = {}
        self._leave(old)

    def _let_go(self) -> None:
        """Let go of versions until the rest takes no more memory than it may; again later, where all are in use."""
        most_bytes = self._limits.memory_bytes
        if most_bytes is None or self._load is None:
            return
        residents = [self._resident(key, served) for key, served in self._served.items() if served.pool is not None]
        for key in let_go(residents, most_bytes, time.monotonic()):
            _LOG.info("%s version %d is let go: models.memory_bytes is %d", *key, most_bytes)
            self._put(key, Dormant.of(self._served[key].model))
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if any(resident.is_lazy for resident in residents) and self._loop_runs():
            self._later = asyncio.get_running_loop().call_later(UNUSED_S, self._let_go)

    def _resident(self, key: _Key, served: Served) -> Resident:
        routes = self.table.models.get(key[0])
        fallback = self._fallbacks.get(key[0])
        is_named = routes is None or key[1] in routes.named or (fallback is not None and fallback.version == key[1])
        is_lazy = routes is not None and routes.options.is_lazy
        return Resident(key, served.model.cost.memory_bytes, served.batcher.ran_ns / 1e9, is_named, is_lazy)

    @staticmethod
    def _loop_runs() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the first table is served before the loop begins
            return False
        return True

    def _holds(self, name: str) -> int:
        return sum(served.holds for served in (*self._served.values(), *self._leaving) if served.model.name == name)

    def _leave(self, served: Served) -> None:
        self._leaving.add(served)
        served.leave()

    def _free(self, served: Served) -> None:
        self._leaving.discard(served)
        if served.pool is not None:
            served.pool.shutdown(wait=False)  # nothing runs: nobody holds it
        others = (*self._served.values(), *self._leaving)
        if isinstance(served.model, RemoteModel) and all(other.model is not served.model for other in others):
            served.model.remote.close()
        name, number = served.model.name, served.model.version
        if (name, number) not in self._served:
            for gauge in (self._broken, self._loaded):
                gauge.remove(model=name, version=str(number))


def _lost(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
    raise RuntimeError(f"{len(tickets)} results have nowhere to land")


def _split(routes: Routes) -> Split | None:
    """The experiment of a model, as far as its arms' versions are here."""
    if routes.experiment is None or CHAMPION not in routes.aliases:
        return None
    return split_of(routes.experiment, routes.versions, routes.aliases, routes.options.key)


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
