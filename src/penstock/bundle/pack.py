"""Packing: a trained pipeline and its training rows become a sealed bundle, with the proof that it answers the same.

The one path: sample → schema and columns → compile and prove, else native → golden rows → profile and evaluation →
files, manifest, seal. This is the home of the order; each step has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.bundle import Bundle
from penstock.bundle.compression.compress import Judged, compressed
from penstock.bundle.compression.record import COMPRESSION_FILE, MAX_LOSS, Plan, Quantize
from penstock.bundle.digest import canonical_json, sha256
from penstock.bundle.dvc import DvcReference, read_dvc
from penstock.bundle.evaluation import Evaluation, evaluate, evaluation_set_digest, stated, truth_of
from penstock.bundle.flavour import Built, build
from penstock.bundle.frame import columns_of, frame_of
from penstock.bundle.golden import Golden, check_golden, golden_of, rows_of
from penstock.bundle.manifest import GOLDEN_FILE, OUTPUTS_FILE, PROOF_FILE, SCHEMA_FILE, require_name
from penstock.bundle.nets.build import build_net
from penstock.bundle.nets.declared import declared
from penstock.bundle.nets.model import NetModel
from penstock.bundle.nets.sample import joined_frame
from penstock.bundle.nets.subject import net_subject
from penstock.bundle.personal import remarks_on_personal, with_stand_ins
from penstock.bundle.profile import Profile, profile_features, profile_holdout
from penstock.bundle.provenance import Origin, Provenance, environment, git_commit, params_of, user_at_host
from penstock.bundle.subject import Subject, as_frame, subject_of
from penstock.bundle.write import Identity, sealed, write_bundle
from penstock.errors import ModelFailed
from penstock.schema import Check, Columns, Schema
from penstock.schema.yaml_form import schema_to_yaml


class PackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What packing does beyond its defaults.

    - `threshold_budget`: how many split thresholds the proof straddles.
    - `golden_rows`: how many rows are sealed with the original's answers.
    - `is_archive`: write one `.penstock` file instead of a directory.
    - `trusted`: types that a native bundle may hold beyond the built-in list (the server has a list of its own).
    - `description`: for people; shown by `inspect`.
    - `progress`: called with a line of text at each step.
    - `prune`, `quantize`, `metric`, `max_loss`: compression, and how much of which metric it may lose; see
      `compression.record.Plan`. It needs a holdout.
    - `origin`: where an imported model came from. If its sample was made up, no reference of features is kept.
    - `mlflow_run`: the id of the run that trained the model. `dvc`: the `.dvc` file of its data, of which MD5 and path
      are kept. Both describe; the content digest knows nothing of them.
    """

    threshold_budget: int = 2000
    golden_rows: int = 96
    is_archive: bool = False
    trusted: tuple[str, ...] = ()
    description: str | None = None
    progress: Callable[[str], None] = lambda step: None
    prune: float | None = None
    quantize: Quantize | None = None
    metric: str | None = None
    max_loss: float = MAX_LOSS
    origin: Origin | None = None
    mlflow_run: str | None = None
    dvc: str | Path | None = None


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the packer says beside the model: its name, rows that it never saw, metrics, where its data are."""

    name: str
    holdout: tuple[Any, Any] | None = None
    evaluation: Mapping[str, float] | None = None
    out: str | Path = "bundles"
    dvc: DvcReference | None = None


def pack(
    model: Any,
    *,
    name: str,
    sample: Any,
    holdout: tuple[Any, Any] | None = None,
    evaluation: Mapping[str, float] | None = None,
    schema: Schema | None = None,
    out: str | Path = "bundles",
    options: PackOptions | None = None,
) -> Bundle:
    """Seal a fitted scikit-learn `model`, or a declared net, with its schema, golden rows, profile and proof.

    - `model`: an estimator or booster; a `TorchModel`, `OnnxModel`, `ScriptModel` or `SavedModel`; a bare graph, as a
      path that ends in .onnx or a ModelProto.
    - `sample`: the training rows `[n, fields]` as the model was fitted on them: a DataFrame, or an array whose columns
      become x0, x1, …; of a net also a dict of its inputs. The schema is inferred from them unless `schema` is given.
    - `holdout`: `(rows, target)` that the model never saw: scores, calibration, importance and metrics come from it.
    - `evaluation`: metrics of your own, kept beside the measured ones.
    - `out`: the directory in which `<name>-<n>` is made.

    The model is copied, never changed. Raises PackRefused when it can be neither compiled nor kept native, naming the
    step; SchemaError when the sample contradicts the schema; SchemaViolation when a training row breaks it.
    """
    require_name(name)
    options = options or PackOptions()
    dvc = None if options.dvc is None else read_dvc(Path(options.dvc))
    options.progress("reading the sample")
    net = declared(model)
    subject = subject_of(model, sample, schema) if net is None else net_subject(net, sample, schema)
    subject, built = _built(subject, options)
    seen = None if holdout is None else (joined_frame(holdout[0]), holdout[1])
    claims = Claims(name=name, holdout=seen, evaluation=evaluation, out=out, dvc=dvc)
    if options.prune is not None or options.quantize is not None:
        options.progress("compressing")
        subject, built, claims = _compressed(subject, built, claims, options)
    return seal(subject, built, claims, options)


def seal(subject: Subject, built: Built, claims: Claims, options: PackOptions) -> Bundle:
    """Golden rows, profile, evaluation, provenance and seal of a model that is built: the last half of packing."""
    options.progress("golden rows, profile and evaluation")
    golden = golden_rows(subject, built.adversarial, options.golden_rows)
    check_golden(golden, built.predictor, check=Check(subject.schema, max_text=1 << 20), outputs=subject.outputs)
    notes = remarks_on_personal(subject.schema, subject.columns, built.data, is_proven=bool(golden.rows))
    subject = msgspec.structs.replace(subject, notes=(*subject.notes, *notes))
    files = {
        built.model_file: built.data,
        SCHEMA_FILE: schema_to_yaml(subject.schema).encode(),
        OUTPUTS_FILE: _pretty(subject.outputs),
        GOLDEN_FILE: msgspec.json.encode(golden),
        PROOF_FILE: _pretty(built.verdict),
        **({} if built.compression is None else {COMPRESSION_FILE: _pretty(built.compression)}),
        "environment.json": _pretty(environment()),
        "provenance.json": _pretty(_provenance(subject, claims, options)),
        **_described(subject, built, claims, options),
    }
    options.progress("sealing")
    identity = Identity(claims.name, built.verdict.flavour, built.loader, built.model_file)
    out = Path(claims.out)
    return Bundle.open(write_bundle(sealed(identity, files), out, claims.name, is_archive=options.is_archive))


def _built(subject: Subject, options: PackOptions) -> tuple[Subject, Built]:
    """The model file, and the subject with the original that it was proven against."""
    if isinstance(subject.estimator, NetModel):
        built = build_net(subject, trusted=options.trusted, progress=options.progress)
    else:
        built = build(subject, budget=options.threshold_budget, trusted=options.trusted, progress=options.progress)
    return msgspec.structs.replace(subject, original=built.original or subject.original), built


def _compressed(
    subject: Subject, built: Built, claims: Claims, options: PackOptions
) -> tuple[Subject, Built, Claims]:  # fmt: skip
    """What is packed in place of the model, and the holdout without the rows that pruning looked at."""
    plan = Plan(prune=options.prune, quantize=options.quantize, metric=options.metric, max_loss=options.max_loss)
    holdout = claims.holdout
    judged = None
    if holdout is not None:
        judged = Judged(columns_of(as_frame(holdout[0]), subject.schema), np.asarray(holdout[1]))
    done = compressed(subject, built, judged, plan=plan, rebuild=lambda smaller: _built(smaller, options)[1])
    rows = frame_of(done.judged.columns, subject.schema)
    claims = msgspec.structs.replace(claims, holdout=(rows, done.judged.target))
    return done.subject, msgspec.structs.replace(done.built, compression=done.record), claims


def golden_rows(subject: Subject, adversarial: Columns, wanted: int) -> Golden:
    """Rows of the sample and of the proof, spread evenly, with the original's answers.

    Fields with a `pii` class get stand-ins first, so that nothing of a person is in them. Rows that the original itself
    refuses are left out.
    """
    some = _spread(subject.columns, wanted // 2)
    hard = _spread(adversarial, wanted - wanted // 2)
    columns = {name: np.concatenate([some[name], hard[name]]) for name in subject.schema.names}
    columns = with_stand_ins(columns, subject.schema, subject.columns)
    if not _is_answered(subject, columns):
        kept = [row for row in range(_rows(columns)) if _is_answered(subject, _row(columns, row))]
        if not kept:
            return Golden([], {})
        columns = {name: column[kept] for name, column in columns.items()}
    return golden_of(columns, subject.original.run(columns), subject.schema)


def _is_answered(subject: Subject, rows: Columns) -> bool:
    try:
        answers = subject.original.run(rows)
    except ModelFailed:
        return False
    return all(np.isfinite(array).all() for array in answers.values())


def _described(subject: Subject, built: Built, claims: Claims, options: PackOptions) -> dict[str, bytes]:
    """The files that describe: the reference profile and the evaluation."""
    is_made_up = options.origin is not None and options.origin.sample is not None
    # Drift against rows that were made up would mean nothing.
    profile = Profile(0, {}) if is_made_up else Profile(subject.rows, profile_features(subject.columns, subject.schema))
    own, holdout = stated(claims.evaluation), claims.holdout
    evaluation = Evaluation(metrics={}, stated=own)
    if holdout is not None:
        columns, target = columns_of(as_frame(holdout[0]), subject.schema), np.asarray(holdout[1])
        seen = profile_holdout(
            built.predictor,
            columns,
            truth_of(target, subject.outputs),
            outputs=subject.outputs,
            names=subject.schema.names,
        )
        profile = msgspec.structs.replace(profile, holdout=seen)
        evaluation = Evaluation(
            metrics=evaluate(built.predictor.run(columns), target, subject.outputs),
            stated=own,
            rows=len(target),
            evaluation_set=evaluation_set_digest(columns, target, subject.schema),
        )
    return {"reference.json": _pretty(profile), "evaluation.json": _pretty(evaluation)}


def _provenance(subject: Subject, claims: Claims, options: PackOptions) -> Provenance:
    kind = type(subject.estimator)
    return Provenance(
        packed_by=user_at_host(),
        model_class=getattr(subject.estimator, "model_class", f"{kind.__module__}.{kind.__qualname__}"),
        sample_rows=subject.rows,
        sample_digest=sha256(canonical_json(rows_of(subject.columns, subject.schema))),
        git_commit=git_commit(),
        description=options.description,
        notes=(*subject.notes, *(options.origin.notes if options.origin is not None else ())),
        params=params_of(subject.estimator),
        origin=options.origin,
        mlflow_run=options.mlflow_run,
        dvc=claims.dvc,
    )


def _spread(columns: Columns, wanted: int) -> Columns:
    rows = _rows(columns)
    picked = np.unique(np.linspace(0, max(rows - 1, 0), min(rows, wanted)).round().astype(np.int64))
    return {name: column[picked] for name, column in columns.items()}


def _row(columns: Columns, row: int) -> Columns:
    return {name: column[row : row + 1] for name, column in columns.items()}


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
