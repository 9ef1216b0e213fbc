"""Which version answers a call: an immutable table and a pure choice over it; and the file that carries it.

The table is what ought to be served; `runtime/host.py` holds the models that serve it. A version is named by number,
by alias, or is the champion; of an experiment's arms `assignment.py` says whose is which. The controller writes it,
with where each bundle lies, as `routing.json`, from which workers start and which they read again when they are told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from penstock.assignment import CHAMPION_ARM, Experiment
from penstock.durable import write_whole
from penstock.errors import NotFound, SettingsError

CHAMPION: Final = CHAMPION_ARM
SHADOW: Final = "shadow"
"""The alias of the version that scores what the champion has answered, beside the calls; it answers none."""
ROUTING_FILE: Final = "routing.json"


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A prediction, as replies have it."""

    label: bool | int | str | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None
    values: dict[str, float] | None = None


class FallbackOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What answers in place of one model: see `docs/http.md`."""

    kind: Literal["constant", "version", "abstain"]
    prediction: Constant | None = None
    version: int | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How `label` is decided from one probability: `label` from `threshold` on, else `otherwise`; no label at all
    within `abstain` (from, to), where a person is to look.

    `label` and `otherwise` are keys of `probabilities`.
    """

    label: str
    otherwise: str
    threshold: Annotated[float, Meta(ge=0, le=1)]
    abstain: tuple[float, float] | None = None


class ModelLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of one model, in place of the settings' `limits`."""

    queue_rows: Annotated[int, Meta(ge=1)] | None = None
    breaker_failures: Annotated[int, Meta(ge=0)] | None = None
    breaker_open_s: Annotated[float, Meta(ge=0.01)] | None = None


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a model is served, whichever version answers. `is_lazy`: loaded at its first call. `key`: the field of a row
    that is the caller's key where a call names none; experiments keep a caller on an arm by it.
    """

    is_lazy: bool = msgspec.field(default=False, name="lazy")
    fallback: FallbackOptions | None = None
    decision: Decision | None = None
    limits: ModelLimits | None = None
    key: str | None = None


class Routes(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's versions (number to content digest), aliases (name to number), options and experiment.

    A version that no alias names is kept loaded so that a rollback is a change of the table alone.
    """

    versions: dict[int, str]
    aliases: dict[str, int]
    options: ModelOptions = ModelOptions()
    experiment: Experiment | None = None

    @property
    def named(self) -> set[int]:
        """The versions that an alias or an arm names, or that answer in place of others."""
        fallback = self.options.fallback
        instead = set() if fallback is None or fallback.version is None else {fallback.version}
        arms = set() if self.experiment is None else self.experiment.versions & self.versions.keys()
        return {*self.aliases.values(), *instead, *arms}


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
        if wanted is None and alias == SHADOW:
            raise NotFound(
                f"{SHADOW!r} of {name!r} is a shadow: it scores what the champion answered, and answers no call"
            )
        if wanted is None:
            raise NotFound(f"no alias {alias or CHAMPION!r} of {name!r}; there is {listed(routes.aliases)}")
        return name, wanted

    def digests(self) -> dict[tuple[str, int], str]:
        """The content digest of each version, by model and number."""
        return {
            (name, number): digest for name, routes in self.models.items() for number, digest in routes.versions.items()
        }

    def _only(self) -> str:
        if len(self.models) == 1:
            return next(iter(self.models))
        raise NotFound(f"the call names no model, and server.default_model is not set; there is {listed(self.models)}")


class Wanted(msgspec.Struct, frozen=True):
    """What a machine ought to serve: the table at a revision of the state, and where the bundle of each version lies.

    `paths` are by model and number. `failures` say, by `name/version`, why a wanted version is not in the table.
    """

    revision: int
    table: RoutingTable
    paths: dict[str, dict[int, str]]
    failures: dict[str, str] = {}

    def path(self, model: str, version: int) -> Path:
        """Where the bundle of a version of the table lies on this machine."""
        return Path(self.paths[model][version])


NOTHING: Final = Wanted(0, RoutingTable({}), {})
"""Before anything was published."""


def read_wanted(home: Path) -> Wanted:
    """What `routing.json` in `home` says; `NOTHING` where there is none. Raises SettingsError if it is not ours."""
    path = home / ROUTING_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return NOTHING
    try:
        return msgspec.json.decode(data, type=Wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: {error}. It is written by the controller only: remove it, and it is written anew"
        ) from error


def write_wanted(home: Path, wanted: Wanted) -> None:
    """Replace `routing.json` in `home` at once and durably: whoever reads finds the old one or the new one, whole."""
    plain = msgspec.to_builtins(wanted, str_keys=True)
    data = msgspec.json.format(msgspec.json.encode(plain, order="sorted")) + b"\n"
    write_whole(home / ROUTING_FILE, data, draft=home / f"{ROUTING_FILE}.{os.getpid()}")


def listed(names: Iterable[object]) -> str:
    """Names for an error message: sorted, the first 20, or "nothing"."""
    shown = sorted(str(name) for name in names)
    if not shown:
        return "nothing"
    return ", ".join(shown[:20]) + (f", … ({len(shown)} in all)" if len(shown) > 20 else "")
