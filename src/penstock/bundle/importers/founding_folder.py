"""The founding layout on disk: model.pkl, encoders.pkl, scaler.pkl, feature_schema.yaml, and what it says of itself.

Read and judged here, file by file; `founding.py` makes a pipeline of it. Runs in the child process (pickles).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import yaml

from penstock.bundle.importers.founding_names import ENCODERS_FILE, MODEL_FILE, SCALER_FILE, SCHEMA_FILE
from penstock.bundle.importers.order import Order
from penstock.bundle.importers.unpickle import unpickle
from penstock.bundle.provenance import digest_of
from penstock.errors import PackRefused

T = TypeVar("T")

_CONFIG_FILE: Final = "config.yaml"
_EVALUATION_FILE: Final = "evaluation.json"


class FoundingField(msgspec.Struct, frozen=True):
    """One field of feature_schema.yaml; other keys are left aside."""

    name: str
    dtype: Literal["int", "float", "str"] = "str"
    encode: Literal["label", "onehot"] | None = None


class FoundingSchema(msgspec.Struct, frozen=True):
    """feature_schema.yaml: the fields as callers send them, and the model's columns in its order."""

    fields: tuple[FoundingField, ...]
    final_feature_cols: tuple[str, ...]


class FoundingFolder(msgspec.Struct, frozen=True, kw_only=True):
    """All files of the folder, read. `scaler` is None where there is none; `files` are digests."""

    schema: FoundingSchema
    model: Any
    encoders: Mapping[str, Any]
    scaler: Any
    config: dict[str, str]
    evaluation: dict[str, float]
    files: dict[str, str]
    notes: tuple[str, ...]


def read_folder(root: Path, order: Order) -> FoundingFolder:
    """The folder at `root`. Raises PackRefused naming the file that is missing or is not what it should be."""
    schema = _schema(root / SCHEMA_FILE)
    model = unpickle(root / MODEL_FILE, order)
    encoders = _optional(root / ENCODERS_FILE, order)
    scaler = _optional(root / SCALER_FILE, order)
    _require_fitted(model.content, scaler[0], encoders[0])
    config = _plain(root / _CONFIG_FILE, dict[str, Any])
    evaluation = _plain(root / _EVALUATION_FILE, dict[str, Any])
    names = (SCHEMA_FILE, MODEL_FILE, ENCODERS_FILE, SCALER_FILE, _CONFIG_FILE, _EVALUATION_FILE)
    return FoundingFolder(
        schema=schema,
        model=model.content,
        encoders={str(name): encoder for name, encoder in (encoders[0] or {}).items()},
        scaler=scaler[0],
        config={str(key): str(value)[:200] for key, value in config.items()},
        evaluation={name: float(value) for name, value in evaluation.items() if _is_number(value)},
        files={name: digest_of(root / name) for name in names if (root / name).exists()},
        notes=tuple(dict.fromkeys((*model.notes, *encoders[1], *scaler[1]))),
    )


def _schema(path: Path) -> FoundingSchema:
    plain = _plain(path, dict[str, Any], required=True)
    try:
        schema = msgspec.convert(plain, FoundingSchema)
    except msgspec.ValidationError as error:
        raise PackRefused(
            path.name,
            str(error),
            "Write `fields:`, each with `name`, `dtype` (int, float, str) and `encode` (label, onehot), and "
            "`final_feature_cols:`",
        ) from error
    for what, names in (("fields", [f.name for f in schema.fields]), ("final_feature_cols", schema.final_feature_cols)):
        if not names:
            raise PackRefused(path.name, f"`{what}` is empty", "Name what the model takes")
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise PackRefused(path.name, f"{twice[0]!r} stands twice in `{what}`", "Drop one of them")
    coded = [field.name for field in schema.fields if field.encode is not None and field.dtype != "str"]
    if coded:
        raise PackRefused(path.name, f"{coded[0]!r} has both a number's dtype and `encode`", "Drop one of them")
    return schema


def _plain(path: Path, kind: type[T], *, required: bool = False) -> T:
    """A YAML or JSON file of plain values."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        if not required:
            return msgspec.convert({}, kind)
        raise PackRefused(path.name, "there is no such file in the folder", "It says which fields there are") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        said = str(error).replace("\n", " ")[:300]
        raise PackRefused(path.name, f"it cannot be read: {said}", "Mend or remove the file") from error
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise PackRefused(path.name, f"expected a mapping: {error}", "Mend or remove the file") from error


def _optional(path: Path, order: Order) -> tuple[Any, tuple[str, ...]]:
    if not path.exists():
        return None, ()
    read = unpickle(path, order)
    if read.content is None:
        raise PackRefused(path.name, "it holds None", "Remove the file if there is no such step, or dump the step")
    return read.content, read.notes


def _require_fitted(model: Any, scaler: Any, encoders: Any) -> None:
    if not hasattr(model, "predict") or isinstance(model, type):
        raise PackRefused(MODEL_FILE, f"expected a fitted model, got {_kind(model)}", "Dump the fitted estimator")
    if scaler is not None and (not hasattr(scaler, "transform") or not hasattr(scaler, "n_features_in_")):
        raise PackRefused(SCALER_FILE, f"expected a fitted scaler, got {_kind(scaler)}", "Dump the fitted scaler")
    if encoders is not None and not isinstance(encoders, Mapping):
        raise PackRefused(
            ENCODERS_FILE, f"expected a dict from field to encoder, got {_kind(encoders)}", "Dump such a dict"
        )


def _kind(value: Any) -> str:
    return f"{'the class ' + value.__name__ if isinstance(value, type) else 'a ' + type(value).__name__}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
