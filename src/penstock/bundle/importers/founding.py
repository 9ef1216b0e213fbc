"""The founding layout becomes a bundle: its preprocessing as standard steps of scikit-learn, its rules as a schema.

The meaning of such a folder is that of its reference: numbers are coerced (what is no number is 0, ints are cut),
missing text is "unknown", an unseen label is the class "unknown" or an error, an unseen one-hot value is zeros.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.founding_folder import FoundingField, FoundingFolder, read_folder
from penstock.bundle.importers.founding_names import ENCODERS_FILE, MODEL_FILE, SCALER_FILE, SCHEMA_FILE
from penstock.bundle.importers.founding_sample import made_up_rows
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.tables import holdout_of, sample_of
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.provenance import Origin
from penstock.errors import PackRefused
from penstock.schema import Check, Field, Schema

UNKNOWN: Final = "unknown"
"""What missing text becomes, and the class that unseen labels get where the encoder has it."""


class _Parts(msgspec.Struct, frozen=True):
    """The transformers of the pipeline's first step, and the names of the columns that they make, in order."""

    transformers: list[tuple[str, Any, list[str]]]
    columns: list[str]


def import_founding(order: Order, progress: Progress) -> Bundle:
    """The bundle of the folder that the order names. Raises PackRefused naming the file, and the field, to blame."""
    root = Path(order.source)
    progress("reading the folder")
    folder = read_folder(root, order)
    pipeline, schema = assemble(folder)
    if order.sample is None:
        sample, how = made_up_rows(folder, schema)
    else:
        sample, how = checked_rows(sample_of(order), schema), None
    holdout = holdout_of(order)
    return pack(
        pipeline,
        name=order.name,
        sample=sample,
        schema=schema,
        holdout=None if holdout is None else (checked_rows(holdout[0], schema), holdout[1]),
        evaluation=folder.evaluation,
        out=order.out,
        options=PackOptions(
            description=order.description,
            is_archive=order.is_archive,
            progress=progress,
            origin=Origin(
                kind="founding layout",
                location=root.resolve().name,
                files=folder.files,
                facts=folder.config,
                sample=how,
                notes=folder.notes,
            ),
            mlflow_run=order.mlflow_run,
            dvc=order.dvc,
        ),
    )


def assemble(folder: FoundingFolder) -> tuple[Pipeline, Schema]:
    """The fitted pipeline that does what the folder means, and the schema whose rules about dirt are its own."""
    parts = _parts(folder)
    missing = [name for name in folder.schema.final_feature_cols if name not in parts.columns]
    if missing:
        raise PackRefused(
            SCHEMA_FILE,
            f"`final_feature_cols` has {missing[0]!r}, which no field becomes",
            f"The fields become {', '.join(parts.columns[:12])}",
        )
    parts = _Parts(*_without_unused(parts, folder.schema.final_feature_cols))
    read = {name for _, _, names in parts.transformers for name in names}
    fields = tuple(_field(field, folder) for field in folder.schema.fields if field.name in read)
    schema = Schema(fields=fields, on_extra="ignore")
    model = _unnamed(folder.model, len(folder.schema.final_feature_cols))
    return _pipeline(parts, folder.schema.final_feature_cols, schema, model), schema


def checked_rows(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Training rows as the schema's own check leaves them: coerced, with its defaults, in its order."""
    check = Check(schema)
    known = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    columns = check.columns(check.from_objects(known).rows)
    frame = pd.DataFrame(columns)
    return frame.astype({field.name: field.dtype for field in schema.fields if field.dtype is not None})


def _parts(folder: FoundingFolder) -> _Parts:
    fields = folder.schema.fields
    numbers = [field.name for field in fields if field.dtype != "str"]
    scaled = _scaled(folder.scaler, numbers)
    transformers: list[tuple[str, Any, list[str]]] = [("scale", folder.scaler, scaled)] if scaled else []
    plain = [name for name in numbers if name not in scaled]
    transformers += [("numbers", "passthrough", plain)] if plain else []
    columns = [*scaled, *plain]
    labels = [field.name for field in fields if field.encode == "label"]
    if labels:
        known = [_classes(folder, name) for name in labels]
        first = pd.DataFrame({name: [classes[0]] for name, classes in zip(labels, known, strict=True)}, dtype=object)
        codes = OrdinalEncoder(categories=[np.array(classes, dtype=object) for classes in known]).fit(first)
        transformers.append(("labels", codes, labels))
        columns += labels
    for place, field in enumerate(field for field in fields if field.encode == "onehot"):
        encoder = _one_hot(folder, field.name)
        transformers.append((f"onehot{place}", encoder, [field.name]))
        columns += [str(name) for name in encoder.get_feature_names_out([field.name])]
    return _Parts(transformers, columns)


def _without_unused(parts: _Parts, wanted: tuple[str, ...]) -> tuple[list[tuple[str, Any, list[str]]], list[str]]:
    """The parts without one-hot fields and plain numbers of which no column is wanted: callers need not send them."""
    transformers, columns, at = [], [], 0
    for name, transformer, fields in parts.transformers:
        width = len(transformer.get_feature_names_out(fields)) if name.startswith("onehot") else len(fields)
        made = parts.columns[at : at + width]
        at += width
        if name == "numbers":
            fields = made = [column for column in made if column in wanted]
        if any(column in wanted for column in made):
            transformers.append((name, transformer, fields))
            columns += made
    return transformers, columns


def _scaled(scaler: Any, numbers: list[str]) -> list[str]:
    if scaler is None:
        return []
    named = getattr(scaler, "feature_names_in_", None)
    scaled = numbers if named is None else [str(name) for name in named]
    strange = [name for name in scaled if name not in numbers]
    if strange:
        raise PackRefused(
            SCALER_FILE,
            f"it scales {strange[0]!r}, which {SCHEMA_FILE} has not as an int or float field",
            "Give both the same fields",
        )
    if scaler.n_features_in_ != len(scaled):
        raise PackRefused(
            SCALER_FILE,
            f"it was fitted on {scaler.n_features_in_} columns without names, {SCHEMA_FILE} has {len(scaled)} numbers",
            "Fit it on a DataFrame with its columns' names",
        )
    return scaled


def _encoder(folder: FoundingFolder, name: str) -> Any:
    if name not in folder.encoders:
        there = ", ".join(sorted(folder.encoders)) or "no encoder at all"
        raise PackRefused(
            ENCODERS_FILE, f"the field {name!r} is to be encoded, and there is {there}", "Dump its encoder too"
        )
    return folder.encoders[name]


def _classes(folder: FoundingFolder, name: str) -> list[str]:
    encoder = _encoder(folder, name)
    classes = getattr(encoder, "classes_", None)
    texts = [] if classes is None else [str(text) for text in classes if isinstance(text, str)]
    if classes is None or len(texts) != len(classes) or not texts:
        raise PackRefused(
            ENCODERS_FILE,
            f"expected a LabelEncoder fitted on texts for the field {name!r}, got a {type(encoder).__name__}"
            + ("" if classes is None else f" of {list(classes)[:3]}"),
            "Fit it on the texts that callers send",
        )
    return texts


def _one_hot(folder: FoundingFolder, name: str) -> OneHotEncoder:
    encoder = _encoder(folder, name)
    if not isinstance(encoder, OneHotEncoder) or len(getattr(encoder, "categories_", ())) != 1:
        raise PackRefused(
            ENCODERS_FILE,
            f"expected a OneHotEncoder fitted on one column for the field {name!r}, got a {type(encoder).__name__}",
            "Fit one for each field",
        )
    named = getattr(encoder, "feature_names_in_", [name])
    if [str(one) for one in named] != [name]:
        raise PackRefused(
            ENCODERS_FILE, f"the encoder of the field {name!r} was fitted on {named[0]!r}", "Fit it on that field"
        )
    return encoder


def _field(field: FoundingField, folder: FoundingFolder) -> Field:
    """A lenient field: numbers as the layout coerces them, texts with the known values of their encoder."""
    if field.dtype == "int":
        return Field(name=field.name, type="int", coerce="lenient", default=0, dtype="int64")
    if field.dtype == "float":
        return Field(name=field.name, type="float", coerce="lenient", default=0.0, dtype="float64")
    options: dict[str, Any] = {}
    if field.encode == "label":
        allowed = _classes(folder, field.name)
        if UNKNOWN in allowed:
            options = {"on_unknown": "map", "unknown_as": UNKNOWN, "default": UNKNOWN}
    else:
        encoder = _one_hot(folder, field.name)
        allowed = [str(text) for text in encoder.categories_[0] if isinstance(text, str)]
        if encoder.handle_unknown != "error":
            options = {"on_unknown": "accept", "default": UNKNOWN}
        elif UNKNOWN in allowed:
            options = {"default": UNKNOWN}
    return Field(name=field.name, type="category", coerce="lenient", allowed=tuple(allowed), dtype="object", **options)


def _unnamed(model: Any, width: int) -> Any:
    """The model, taking a plain array: its columns have other names inside the pipeline."""
    expected = getattr(model, "n_features_in_", width)
    if expected != width:
        raise PackRefused(
            MODEL_FILE,
            f"it was fitted on {expected} columns, `final_feature_cols` of {SCHEMA_FILE} has {width}",
            "Give the schema with which it was trained",
        )
    model = copy.deepcopy(model)
    vars(model).pop("feature_names_in_", None)
    return model


def _pipeline(parts: _Parts, wanted: tuple[str, ...], schema: Schema, model: Any) -> Pipeline:
    """A pipeline of fitted steps; nothing in it is fitted again."""
    frozen = [
        (name, part if isinstance(part, str) else FrozenEstimator(part), fields)
        for name, part, fields in parts.transformers
    ]
    row = {field.name: [field.allowed[0] if field.allowed else 0.0] for field in schema.fields}
    first = pd.DataFrame(row).astype({field.name: str(field.dtype) for field in schema.fields})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that were fitted without names
        columns = ColumnTransformer(frozen, sparse_threshold=0.0).fit(first)
    columns.transformers = parts.transformers
    columns.transformers_ = [
        (name, part.estimator if isinstance(part, FrozenEstimator) else part, fields)
        for name, part, fields in columns.transformers_
    ]
    steps: list[tuple[str, Any]] = [("columns", columns)]
    places = [parts.columns.index(name) for name in wanted]
    if places != list(range(len(parts.columns))):
        made = np.zeros((1, len(parts.columns)))
        steps.append(("order", ColumnTransformer([("keep", "passthrough", places)]).fit(made)))
    return Pipeline([*steps, ("model", model)])
