"""A declared state (`deployments.yaml`), and what it changes: read, compared, and turned into commands. Pure.

    models:
      churn:
        aliases: {champion: 3, candidate: "sha256:9f2c…"}     # numbers, content digests, or `latest`
        lazy: false
        decision: {label: "yes", otherwise: "no", threshold: 0.4}
        fallback: {kind: abstain}
        limits: {queue_rows: 5000}
        rules: {champion: {floors: {roc_auc: 0.85}, max_loss: {roc_auc: 0.01}}}

What a model's entry does not name stays as it is; `aliases` that are to go are given as `null`. A model that is not in
the file is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from penstock.control.aliases import alias_of
from penstock.control.answers import Difference
from penstock.control.changes import ModelConfig, Rules
from penstock.control.state import ModelState, State
from penstock.errors import SettingsError, Unknown
from penstock.routing import Decision, FallbackOptions, ModelLimits, ModelOptions, listed

_Version = Annotated[int, Meta(ge=1)] | str | None


class DeclaredModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says of a model; UNSET is not said."""

    aliases: dict[str, _Version] = {}
    lazy: bool | msgspec.UnsetType = msgspec.UNSET
    decision: Decision | None | msgspec.UnsetType = msgspec.UNSET
    fallback: FallbackOptions | None | msgspec.UnsetType = msgspec.UNSET
    limits: ModelLimits | None | msgspec.UnsetType = msgspec.UNSET
    rules: dict[str, Rules] | msgspec.UnsetType = msgspec.UNSET


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared state."""

    models: dict[str, DeclaredModel] = {}


class Move(msgspec.Struct, frozen=True):
    """An alias that a declared state gives to another version, or takes away."""

    model: str
    alias: str
    before: int | None
    after: int | None


class Configure(msgspec.Struct, frozen=True):
    """A model's configuration that a declared state replaces."""

    model: str
    before: ModelConfig
    after: ModelConfig


def read_declared(text: str) -> Declared:
    """The declared state in a YAML text. Raises SettingsError naming what is wrong and where."""
    try:
        raw = yaml.safe_load(text)
        return msgspec.convert({} if raw is None else raw, Declared)
    except yaml.YAMLError as error:
        raise SettingsError(f"the declared state is no YAML: {' '.join(str(error).split())}") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"the declared state: {error}; docs/control.md shows the form") from error


def steps_to(declared: Declared, state: State) -> list[Configure | Move]:
    """What makes `state` what is declared: configurations first, so that moves keep to the new rules. Empty if it is.

    Raises Unknown for models, versions and digests that there are not.
    """
    found: list[Configure | Move] = []
    for name, wanted in declared.models.items():
        model = state.model(name)
        config = _config(model.config, wanted)
        if config != model.config:
            found.append(Configure(name, model.config, config))
    for name, wanted in declared.models.items():
        found += _moves(state.model(name), wanted)
    return found


def differences(steps: list[Configure | Move]) -> list[Difference]:
    """The steps in words."""
    return [one for step in steps for one in _told(step)]


def _config(config: ModelConfig, wanted: DeclaredModel) -> ModelConfig:
    options = config.options
    given = {
        "is_lazy": wanted.lazy,
        "decision": wanted.decision,
        "fallback": wanted.fallback,
        "limits": wanted.limits,
    }
    said = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    rules = config.rules if wanted.rules is msgspec.UNSET else {_alias(name): rule for name, rule in wanted.rules.items()}
    return ModelConfig(options=msgspec.structs.replace(options, **said), rules=rules)


def _moves(model: ModelState, wanted: DeclaredModel) -> Iterator[Move]:
    for spelling, version in wanted.aliases.items():
        alias = _alias(spelling)
        before, after = model.aliases.get(alias), _number(model, version)
        if before != after:
            yield Move(model.name, alias, before, after)


def _alias(spelling: str) -> str:
    alias = alias_of(spelling)
    if alias is None:
        raise SettingsError(f"{spelling!r} is no alias but the absence of one: name the alias and give it null")
    return alias


def _number(model: ModelState, version: _Version) -> int | None:
    if version is None or isinstance(version, int):
        return None if version is None else model.version(version).number
    if version == "latest":
        return max(model.present)
    found = model.with_digest(version)
    if found is None:
        raise Unknown(f"no version of {model.name!r} has the content digest {version!r}; there is {listed(model.present)}")
    return found.number


def _told(step: Configure | Move) -> Iterator[Difference]:
    if isinstance(step, Move):
        was, will = _named(step.before), _named(step.after)
        yield _difference(step.model, f"alias {step.alias}: {was} → {will}", step.before, step.after)
        return
    for field in ModelOptions.__struct_fields__:
        before, after = getattr(step.before.options, field), getattr(step.after.options, field)
        if before != after:
            yield _difference(step.model, field.removeprefix("is_"), before, after)
    if step.before.rules != step.after.rules:
        yield _difference(step.model, "rules", step.before.rules, step.after.rules)


def _named(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def _difference(model: str, what: str, before: object, after: object) -> Difference:
    encoded = [msgspec.Raw(msgspec.json.encode(value)) for value in (before, after)]
    return Difference(model=model, what=what, before=encoded[0], after=encoded[1])
