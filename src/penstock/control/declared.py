"""A declared state (`deployments.yaml`), and what it changes: read, compared, and turned into commands. Pure.

What a model's entry does not name stays as it is; an alias that is to go is given as `null`. A model that is not in the
file is left alone. The form is shown in docs/control.md.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, inspect

from penstock.control.aliases import alias_of, version_of
from penstock.control.answers import Difference
from penstock.control.changes import ModelConfig, Rules
from penstock.control.state import ModelState, State
from penstock.errors import SchemaError, SettingsError, Unknown
from penstock.routing import Decision, FallbackOptions, ModelLimits, ModelOptions, listed
from penstock.schema.yaml_form import mapping_from_yaml

T = TypeVar("T")
VersionName: TypeAlias = Annotated[int, Meta(ge=1)] | str | None
"""A number, a content digest or its beginning, `latest`; None for no version."""


class DeclaredModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file says of a model; UNSET is not said."""

    aliases: dict[str, VersionName] = {}
    lazy: bool | msgspec.UnsetType = msgspec.UNSET
    decision: Decision | msgspec.UnsetType | None = msgspec.UNSET
    fallback: FallbackOptions | msgspec.UnsetType | None = msgspec.UNSET
    limits: ModelLimits | msgspec.UnsetType | None = msgspec.UNSET
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    rules: dict[str, Rules] | msgspec.UnsetType = msgspec.UNSET


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared state."""

    models: dict[str, DeclaredModel]


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
    """The declared state in a YAML text (1.2). Raises SettingsError naming what is wrong and where."""
    try:
        plain = mapping_from_yaml(text, "the declared state", "models")
    except SchemaError as error:
        raise SettingsError(str(error)) from error
    _require_known(plain, inspect.type_info(Declared), "")
    models = plain.get("models")
    if not isinstance(models, dict):
        raise SettingsError("the declared state: expected `models`, a mapping of names; docs/control.md shows the form")
    return Declared(models={str(name): _model(str(name), entry) for name, entry in models.items()})


def _model(name: str, entry: object) -> DeclaredModel:
    try:
        found = msgspec.convert({} if entry is None else entry, DeclaredModel)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"the declared state, models.{name}: {error}; docs/control.md shows the form (texts that look like "
            "numbers or truth values go in quotes)"
        ) from error
    _by_alias(name, found.aliases)
    _by_alias(name, {} if found.rules is msgspec.UNSET else found.rules)
    return found


def _require_known(plain: object, kind: inspect.Type, path: str) -> None:
    """Raise SettingsError for a key that there is not, naming the nearest one, and for numbers without a value."""
    if isinstance(plain, float) and not math.isfinite(plain):
        raise SettingsError(f"the declared state, {path}: expected a finite number, got {plain}")
    if isinstance(plain, list):
        for value in plain:
            _require_known(value, inspect.AnyType(), path)
    if not isinstance(plain, dict):
        return
    kind = _mapping_type(kind)
    known = {field.encode_name: field.type for field in kind.fields} if isinstance(kind, inspect.StructType) else {}
    for key, value in plain.items():
        if known and key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"there is {listed(known)}"
            raise SettingsError(f"the declared state{', ' * bool(path)}{path}: unknown key `{key}`: {mend}")
        inner = kind.value_type if isinstance(kind, inspect.DictType) else known.get(key, inspect.AnyType())
        _require_known(value, inner, f"{path}.{key}".removeprefix("."))


def _mapping_type(kind: inspect.Type) -> inspect.Type:
    """The type of a mapping in `kind`, which may be annotated or one of several."""
    if isinstance(kind, inspect.Metadata):
        return _mapping_type(kind.type)
    if isinstance(kind, inspect.UnionType):
        found = map(_mapping_type, kind.types)
        return next((one for one in found if isinstance(one, inspect.StructType | inspect.DictType)), kind)
    return kind


def steps_to(declared: Declared, state: State) -> list[Configure | Move]:
    """What makes `state` what is declared: configurations first, so that moves keep to the new rules. Empty if it is.

    Raises Unknown for models, versions and digests that there are not.
    """
    found: list[Configure | Move] = []
    for name, wanted in declared.models.items():
        model = state.model(name)
        config = _config(model, wanted)
        if config != model.config:
            found.append(Configure(name, model.config, config))
    for name, wanted in declared.models.items():
        found += _moves(state.model(name), wanted)
    return found


def differences(steps: list[Configure | Move]) -> list[Difference]:
    """The steps in words."""
    return [one for step in steps for one in _told(step)]


def _config(model: ModelState, wanted: DeclaredModel) -> ModelConfig:
    given = {
        "is_lazy": wanted.lazy,
        "decision": wanted.decision,
        "fallback": wanted.fallback,
        "limits": wanted.limits,
        "key": wanted.key,
    }
    said = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    rules = model.config.rules if wanted.rules is msgspec.UNSET else _by_alias(model.name, wanted.rules)
    return ModelConfig(options=msgspec.structs.replace(model.config.options, **said), rules=rules)


def _moves(model: ModelState, wanted: DeclaredModel) -> Iterator[Move]:
    for alias, version in _by_alias(model.name, wanted.aliases).items():
        before, after = model.aliases.get(alias), None if version is None else _number_of(model, version)
        if before != after:
            yield Move(model.name, alias, before, after)


def _by_alias(model: str, spelled: Mapping[str, T]) -> dict[str, T]:
    """Values by alias, whose spelling may be a stage's. Raises SettingsError for an alias that is there twice."""
    found: dict[str, T] = {}
    for spelling, value in spelled.items():
        try:
            alias = alias_of(spelling)
        except Unknown as error:
            raise SettingsError(f"the declared state, models.{model}: {error}") from error
        if alias is None:
            raise SettingsError(
                f"the declared state, models.{model}: {spelling!r} is the absence of an alias: name the alias that is "
                "to go, and give it null"
            )
        if alias in found:
            raise SettingsError(f"the declared state, models.{model}: {alias!r} is there twice, once as {spelling!r}")
        found[alias] = value
    return found


def _number_of(model: ModelState, version: int | str) -> int:
    """The number of the version of `model` that is meant. Raises Unknown naming those that there are."""
    if isinstance(version, int):
        return model.version(version).number
    digests = {number: model.versions[number].published.digest for number in model.present}
    return version_of(model.name, digests, version)


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
