"""The far side of a model in another process: a run as it came over the wire, computed. Pure but for the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from penstock.bundle.outputs import Outputs
from penstock.errors import DeadlineExceeded, ModelFailed, OutputRefused
from penstock.runtime.model import Model
from penstock.runtime.version import require_sound
from penstock.runtime.wire import Failed, Ran, Run, packed_outputs
from penstock.schema import Columns

OVERDUE = "the deadline passed before the model was free; nothing was computed"


def computed(model: Model, run: Run, columns: Columns, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> Ran:
    """The answer to `run`, whose rows are `columns`: all callers' rows at once, and where that fails, each's alone.

    Callers whose deadline has passed get none, and their rows are not computed. Never raises.
    """
    began_ns = clock_ns()
    spans = _spans(run.counts)
    overdue = [place for place, deadline_ns in enumerate(run.deadlines_ns) if 0 < deadline_ns <= began_ns]
    failed = [Failed(place, DeadlineExceeded.code, OVERDUE) for place in overdue]
    wanted = [place for place in range(len(spans)) if place not in set(overdue)]
    parts: list[Outputs] = []
    if wanted:
        try:
            rows = columns if not overdue else _joined([_part(columns, spans[place]) for place in wanted])
            parts = [_sound(model, rows, sum(run.counts[place] for place in wanted))]
        except Exception:  # the edge to a model's own code: each caller's rows get a run of their own
            for place in wanted:
                answer = _alone(model, _part(columns, spans[place]), run.counts[place])
                if isinstance(answer, ModelFailed):
                    failed.append(Failed(place, answer.code, str(answer), answer.said))
                else:
                    parts.append(answer)
    outputs = packed_outputs(parts, model.bundle.outputs)
    return Ran(run.id, (clock_ns() - began_ns) / 1e6, outputs, failed)


def refused(run: Run, why: ModelFailed | DeadlineExceeded) -> Ran:
    """The answer to a run of which nothing was computed."""
    return Ran(run.id, 0.0, [], [Failed(place, why.code, str(why)) for place in range(len(run.counts))])


def _sound(model: Model, columns: Columns, rows: int) -> Outputs:
    outputs = model.run(columns)
    require_sound(outputs, model.bundle.outputs, rows)
    if "label" in outputs and (outputs["label"] < 0).any():
        raise OutputRefused("the model answered a label that is none of its classes")
    return outputs


def _alone(model: Model, columns: Columns, rows: int) -> Outputs | ModelFailed:
    try:
        return _sound(model, columns, rows)
    except ModelFailed as failure:
        return failure
    except Exception as bug:  # the edge to a model's own code: a caller must never be left without an answer
        return ModelFailed.raised("the model raised", bug)


def _spans(counts: list[int]) -> list[slice]:
    ends = np.cumsum(counts).tolist()
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _part(columns: Columns, span: slice) -> Columns:
    return {name: column[span] for name, column in columns.items()}


def _joined(parts: list[Columns]) -> Columns:
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return joined
