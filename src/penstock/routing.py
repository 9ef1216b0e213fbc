"""Which version answers a call: an immutable table and a pure choice over it.

The table is what ought to be served; `runtime/host.py` holds the models that serve it. Today a version is named by
number, by alias, or is the champion; weights and experiments join here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.errors import NotFound

CHAMPION = "champion"


class Routes(msgspec.Struct, frozen=True):
    """One model's versions (number to content digest) and aliases (name to number)."""

    versions: dict[int, str]
    aliases: dict[str, int]


class RoutingTable(msgspec.Struct, frozen=True):
    """Everything that is served; `default_model` answers the calls that name no model."""

    models: dict[str, Routes]
    default_model: str | None = None

    def choose(self, model: str | None, version: int | None = None, alias: str | None = None) -> tuple[str, int]:
        """The model's name and the number of the version that answers. Raises NotFound naming what there is."""
        name = model or self.default_model or self._only()
        routes = self.models.get(name)
        if routes is None:
            raise NotFound(f"no model {name!r}; there is {listed(self.models)}")
        if version is not None:
            if version not in routes.versions:
                raise NotFound(f"no version {version} of {name!r}; there is {listed(routes.versions)}")
            return name, version
        wanted = routes.aliases.get(alias or CHAMPION)
        if wanted is None:
            raise NotFound(f"no alias {alias or CHAMPION!r} of {name!r}; there is {listed(routes.aliases)}")
        return name, wanted

    def _only(self) -> str:
        if len(self.models) == 1:
            return next(iter(self.models))
        raise NotFound(f"the call names no model, and server.default_model is not set; there is {listed(self.models)}")


def listed(names: Iterable[object]) -> str:
    """Names for an error message: sorted, the first 20, or "nothing"."""
    shown = sorted(str(name) for name in names)
    if not shown:
        return "nothing"
    return ", ".join(shown[:20]) + (f", … ({len(shown)} in all)" if len(shown) > 20 else "")
