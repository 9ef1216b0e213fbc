"""`FunctionTransformer` of numpy's elementwise functions, and what functions and scalers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.feature import Feature, Features, Lift, Mapping, rounded, single_if_all, unchanged
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.refusal import NotCompilable


class Elementwise(msgspec.Struct, frozen=True):
    """A function of one number: as the graph writes it, and as numpy computes it.

    `domain`: below it the function is NaN. `rising`: it never decreases, so that a lift may go through it.
    """

    write: Callable[[Graph, str], str]
    mapping: Mapping
    domain: float | None = None
    rising: bool = True


def function_features(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """The features of a FunctionTransformer. Raises NotCompilable for a function that is not numpy's and known here."""
    if transformer.func is None:
        return features
    element = _element(transformer, step)
    if any(feature.kind != "number" for feature in features):
        raise NotCompilable(step, f"numpy.{transformer.func.__name__} of a text column")
    graph.recipe.append(f"{step}: numpy.{transformer.func.__name__}; trees compare as numpy's own results do")
    return applied(graph, features, element, single=[feature.single for feature in features])


def applied(graph: Graph, features: Features, element: Elementwise, *, single: list[bool] | bool) -> Features:
    """The features after an elementwise function; `single` says which results the original holds as float32."""
    if not features:
        return ()
    singles = [single] * len(features) if isinstance(single, bool) else single
    raw = graph.matrix(features)
    width = len(features)
    out = element.write(graph, raw)
    graph.widths[out] = width
    narrow = graph.rounded(out) if any(singles) else out
    sources = [feature.lifted() for feature in features] if element.domain is None else _masked(graph, raw, element)
    lifts = [_lift(source, element, narrow=tight) for source, tight in zip(sources, singles, strict=True)]
    nulls = (np.nan,) if element.domain is not None else ()
    return tuple(
        Feature(
            tensor=narrow if tight else out,
            index=index,
            kind="number",
            single=tight,
            nulls=feature.nulls or nulls,
            lift=lift,
        )
        for index, (feature, tight, lift) in enumerate(zip(features, singles, lifts, strict=True))
    )


def _lift(source: Lift, element: Elementwise, *, narrow: bool) -> Lift | None:
    if not element.rising:
        return None
    return source.then(_in_single(element.mapping) if narrow else element.mapping)


def _in_single(mapping: Mapping) -> Mapping:
    """The mapping as numpy computes it on float32, which is not the rounded result of the one on float64."""

    def single(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return rounded(mapping(values.astype(np.float32)))

    return single


def _masked(graph: Graph, raw: str, element: Elementwise) -> list[Lift]:
    """The columns with NaN below the function's domain: there the original goes the way of missing values."""
    outside = graph.add("Less", [raw, graph.constant(np.array(element.domain))])
    masked = graph.add("Where", [outside, graph.constant(np.array(np.nan)), raw], width=graph.widths[raw])
    return [Lift(masked, index, unchanged) for index in range(graph.widths[raw])]


def _quiet(function: Callable[..., Any]) -> Mapping:
    def mapping(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(function(values), dtype=np.float64)

    return mapping


def _log_of(base: float) -> Callable[[Graph, str], str]:
    def write(graph: Graph, tensor: str) -> str:
        return graph.add("Div", [graph.add("Log", [tensor]), graph.constant(np.array(np.log(base)))])

    return write


def log1p(graph: Graph, tensor: str) -> str:
    """log(1 + x), with the error of 1 + x taken out (Goldberg 1991, theorem 4): exact to a few ulps near 0 as well."""
    one = graph.constant(np.array(1.0))
    above = graph.add("Add", [tensor, one])
    lost = graph.add("Sub", [graph.add("Sub", [above, one]), tensor])
    return graph.add("Sub", [graph.add("Log", [above]), graph.add("Div", [lost, above])])


def _named(op: str) -> Callable[[Graph, str], str]:
    return lambda graph, tensor: graph.add(op, [tensor])


_FUNCTIONS: tuple[tuple[Any, Elementwise], ...] = (
    (np.log1p, Elementwise(log1p, _quiet(np.log1p), -1.0)),
    (np.log, Elementwise(_named("Log"), _quiet(np.log), 0.0)),
    (np.log2, Elementwise(_log_of(2.0), _quiet(np.log2), 0.0)),
    (np.log10, Elementwise(_log_of(10.0), _quiet(np.log10), 0.0)),
    (np.exp, Elementwise(_named("Exp"), _quiet(np.exp))),
    (np.sqrt, Elementwise(_named("Sqrt"), _quiet(np.sqrt), 0.0)),
    (np.abs, Elementwise(_named("Abs"), _quiet(np.abs), rising=False)),
)


def _element(transformer: Any, step: str) -> Elementwise:
    func, kw_args = transformer.func, dict(transformer.kw_args or {})
    if func is np.clip:
        return clip(*_bounds(kw_args, step))
    found = next((element for known, element in _FUNCTIONS if known is func), None)
    if found is None or kw_args:
        name = getattr(func, "__qualname__", repr(func))
        names = ", ".join(known.__name__ for known, _ in _FUNCTIONS)
        more = f" with {sorted(kw_args)}" if kw_args else ""
        raise NotCompilable(step, f"the function {name}{more} is not one that can be written exactly ({names}, clip)")
    return found


def _bounds(kw_args: dict[str, Any], step: str) -> tuple[float | None, float | None]:
    low = kw_args.pop("a_min", kw_args.pop("min", None))
    high = kw_args.pop("a_max", kw_args.pop("max", None))
    ends = [end for end in (low, high) if end is not None]
    if kw_args or not all(isinstance(end, int | float | np.integer | np.floating) for end in ends):
        raise NotCompilable(step, "numpy.clip is written exactly with plain numbers as a_min and a_max only")
    return (None if low is None else float(low)), (None if high is None else float(high))


def clip(low: float | None, high: float | None) -> Elementwise:
    """numpy's clip: the larger of x and `low`, then the smaller of that and `high`; NaN stays."""
    ends = (-np.inf if low is None else low), (np.inf if high is None else high)

    def write(graph: Graph, tensor: str) -> str:
        return graph.add("Clip", [tensor, *(graph.constant(np.array(end)) for end in ends)])

    return Elementwise(write, _quiet(lambda values: np.clip(values, *ends)))


def affine(graph: Graph, features: Features, op: str, vector: np.ndarray) -> Features:
    """`features op vector`, column by column, for the op Add, Sub, Mul or Div; rounded as the original's array is."""
    numpy_op = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op]
    numbers = np.asarray(vector, dtype=np.float64)

    def write(into: Graph, tensor: str) -> str:
        return into.add(op, [tensor, into.constant(numbers.reshape(1, -1))])

    rising = op in ("Add", "Sub")
    single = single_if_all(features)
    moved = applied(graph, features, Elementwise(write, _quiet(np.asarray), rising=False), single=single)
    out = []
    for before, after, number in zip(features, moved, numbers, strict=True):
        lift = None
        if rising or number > 0:
            step = _quiet(lambda values, number=number: numpy_op(values, number))
            lift = before.lifted().then(step)
            lift = lift.then(rounded) if single else lift
        out.append(msgspec.structs.replace(after, lift=lift))
    return tuple(out)
