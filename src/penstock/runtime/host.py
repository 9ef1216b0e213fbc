"""The models in memory, by name and version, and the table that says which of them answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from penstock.errors import BundleRefused
from penstock.routing import CHAMPION, Routes, RoutingTable
from penstock.runtime.away import InPool
from penstock.runtime.batcher import Batcher
from penstock.runtime.model import Model
from penstock.runtime.remote import RemoteModel
from penstock.runtime.version import Version


class Served:
    """A loaded version, the queue in front of it, and what each protocol needs of it, made at its first call."""

    __slots__ = ("batcher", "model", "spoken")

    def __init__(self, model: Version, batcher: Batcher) -> None:
        self.model = model
        self.batcher = batcher
        self.spoken: dict[str, Any] = {}


class Host:
    """Holds loaded models and finds the one that answers. Used on one event loop; close it when done."""

    def __init__(
        self,
        models: Iterable[Version],
        *,
        default_model: str | None = None,
        on_run: Callable[[Version, int, float], None] = lambda model, rows, run_ms: None,
    ) -> None:
        """The first version of a name becomes its champion. `on_run` hears of each run: its rows and milliseconds.

        Raises BundleRefused for two versions of one number.
        """
        self._on_run = on_run
        self._pools: list[ThreadPoolExecutor] = []
        self._served: dict[tuple[str, int], Served] = {}
        for model in models:
            if (model.name, model.version) in self._served:
                raise BundleRefused(f"version {model.version} of {model.name!r} is there twice")
            self._served[model.name, model.version] = Served(model, self._batcher(model))
        self.table = RoutingTable(_routes(self.models()), default_model)

    def models(self) -> list[Version]:
        """All loaded versions, by name and number."""
        return [self._served[key].model for key in sorted(self._served)]

    def choose(self, model: str | None, version: int | None, alias: str | None) -> Served:
        """The loaded version that answers a call. Raises NotFound naming what there is."""
        return self._served[self.table.choose(model, version, alias)]

    def close(self) -> None:
        """Wait for what runs and free the threads."""
        for pool in self._pools:
            pool.shutdown()

    def _batcher(self, model: Version) -> Batcher:
        on_run = partial(self._on_run, model)
        if isinstance(model, RemoteModel):
            return Batcher(None, away=model.remote, on_run=on_run)
        if not isinstance(model, Model):
            raise TypeError(f"nothing computes {model.name!r}")
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"run-{model.name}-{model.version}")  # starts when first used
        self._pools.append(pool)
        away = InPool(model.score, pool)
        return Batcher(model.score, cost_us=model.cost_us, away=away, on_run=on_run)


def _routes(models: Iterable[Version]) -> dict[str, Routes]:
    versions: dict[str, dict[int, str]] = {}
    for model in models:
        versions.setdefault(model.name, {})[model.version] = model.digest
    return {name: Routes(numbers, {CHAMPION: min(numbers)}) for name, numbers in versions.items()}
