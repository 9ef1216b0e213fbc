"""The order of compression: prune, prove, quantise, prove again, measure, and refuse what loses too much."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from penstock.bundle.compile.proof import prove, sampled
from penstock.bundle.compile.rows import count_of, joined, taken
from penstock.bundle.compression.measure import MANY_ROWS, distance_of, loss_of, median_us, metric_of
from penstock.bundle.compression.prune import pruned
from penstock.bundle.compression.quantize import quantised
from penstock.bundle.compression.record import Compression, Plan, Quantize, Side
from penstock.bundle.evaluation import evaluate, truth_of
from penstock.bundle.flavour import Built
from penstock.bundle.loaders.onnx import OnnxPredictor, load_onnx
from penstock.bundle.outputs import Outputs
from penstock.bundle.predictor import Predictor
from penstock.bundle.subject import Subject
from penstock.bundle.verdict import Verdict
from penstock.errors import PackRefused
from penstock.schema import Columns

_CALIBRATION_ROWS = 2_048


class Judged(msgspec.Struct, frozen=True):
    """Rows of the holdout and what they should answer."""

    columns: Columns
    target: np.ndarray

    def part(self, rows: np.ndarray) -> Judged:
        """Some of them, by number."""
        return Judged(taken(self.columns, rows), self.target[rows])


class Compressed(msgspec.Struct, frozen=True):
    """What is packed in place of the model, the rows that may still judge it, and the record of what was done."""

    subject: Subject
    built: Built
    judged: Judged
    record: Compression


class AlonePredictor:
    """A predictor asked for one row at a time: what a row's answer is when nothing runs beside it."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`. Raises ModelFailed as the predictor does."""
        rows = count_of(columns)
        if rows < 2:
            return self._predictor.run(columns)
        return joined([self._predictor.run(taken(columns, np.array([row]))) for row in range(rows)])


def compressed(
    subject: Subject, built: Built, holdout: Judged | None, *, plan: Plan, rebuild: Callable[[Subject], Built]
) -> Compressed:
    """Carry out `plan`. `rebuild` compiles and proves a pruned subject against itself.

    Where something is chosen or refitted on the holdout, every second row of it serves for that, and only the others
    judge. Raises PackRefused without a holdout, for a model that cannot be compressed that way, and when more of the
    metric is lost than the plan allows.
    """
    if holdout is None:
        raise PackRefused("holdout", "compression is judged on rows that the model never saw", "Give a holdout")
    steps: list[str] = []
    made, smaller = subject, built
    if plan.prune is not None:
        rows = np.arange(len(holdout.target))
        chosen, holdout = holdout.part(rows[::2]), holdout.part(rows[1::2])
        made, said = pruned(subject, plan.prune, chosen.columns, truth_of(chosen.target, subject.outputs))
        smaller = rebuild(made)
        made = msgspec.structs.replace(made, original=smaller.original or made.original)
        steps.append(said)
    if plan.quantize is not None:
        smaller = _in_eight_bits(made, smaller, plan.quantize)
        made = msgspec.structs.replace(made, original=AlonePredictor(smaller.predictor))
        steps.append(smaller.verdict.recipe[-1])
    sides = [_side(each, subject, holdout) for each in (built, smaller)]
    metric = metric_of(plan, subject.outputs, sides[0].metrics)
    record = Compression(
        steps=tuple(steps),
        before=sides[0],
        after=sides[1],
        metric=metric,
        loss=loss_of(metric, sides[0].metrics, sides[1].metrics),
        max_loss=plan.max_loss,
        judged_rows=len(holdout.target),
        distance=distance_of(subject.original, smaller.predictor, sampled(subject.columns)),
        many_rows=MANY_ROWS,
    )
    _refuse_loss(record)
    return Compressed(made, smaller, holdout, record)


def _refuse_loss(record: Compression) -> None:
    if not record.loss <= record.max_loss:
        before, after = record.before.metrics[record.metric], record.after.metrics[record.metric]
        raise PackRefused(
            "max_loss",
            f"{record.metric} goes from {before:.5f} to {after:.5f} on {record.judged_rows:,} rows: {record.loss:.5f} "
            f"is lost, at most {record.max_loss:g} may be",
            "Compress less, or allow more with max_loss",
        )


def _side(built: Built, subject: Subject, judged: Judged) -> Side:
    return Side(
        flavour=built.verdict.flavour,
        size_bytes=len(built.data),
        one_row_us=median_us(built.predictor, subject.columns, 1),
        many_rows_us=median_us(built.predictor, subject.columns, MANY_ROWS),
        metrics=evaluate(built.predictor.run(judged.columns), judged.target, subject.outputs),
    )


def _in_eight_bits(subject: Subject, built: Built, how: Quantize) -> Built:
    """The graph in eight bits, proven to answer each row as it answers that row alone."""
    if not isinstance(built.predictor, OnnxPredictor):
        raise PackRefused("quantize", "the model stays native: there is no graph to quantise", "Pack it as it is")
    rows = count_of(subject.columns)
    some = np.unique(np.linspace(0, rows - 1, min(rows, _CALIBRATION_ROWS)).round().astype(np.int64))
    data = quantised(built.data, how, built.predictor.feeds(taken(subject.columns, some)))
    candidate = load_onnx(data, subject.schema, subject.outputs)
    proven = prove(
        AlonePredictor(candidate),
        candidate,
        estimator=None,
        schema=subject.schema,
        outputs=subject.outputs,
        columns=subject.columns,
    )
    if not proven.proof.is_exact:
        worst = proven.proof.largest_difference
        raise PackRefused(
            "quantize", f"a row's answer depends on the rows beside it, by up to {worst:.2g}", "Use quantize='int8'"
        )
    ranges = f"ranges set on {len(some):,} rows of the sample" if how == "int8" else "ranges anew for each row"
    before = built.verdict.proof
    exact = "" if before is None else f"; before it within {before.largest_difference:.2g} of its original"
    said = f"dense layers in int8, {ranges}{exact}"
    return Built(
        verdict=Verdict(flavour="onnx", recipe=(*built.verdict.recipe, said), proof=proven.proof),
        loader="onnx",
        model_file="model.onnx",
        data=data,
        predictor=candidate,
        adversarial=proven.adversarial,
    )
