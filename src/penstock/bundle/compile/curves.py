"""Power and quantile transformers and splines: curves, one or more per column.

The graph computes them in double; trees behind a rising one compare raw values, moved back through the original's code.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto
from scipy import stats
from scipy.interpolate import PPoly
from scipy.special import boxcox, ndtri

from penstock.bundle.compile.feature import Feature, Features, Mapping
from penstock.bundle.compile.functions import log1p
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.lines import interpolated
from penstock.bundle.compile.numeric import numbers_only, standard_scaler
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.steps import bins_of

_BOUND = 1e-7
_DEGREE = 24


def power_transformer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """Box-Cox or Yeo-Johnson with each column's own exponent, standardised where the transformer does."""
    _doubles_only(features, step)
    exponents = np.asarray(transformer.lambdas_, np.float64)
    raw = graph.matrix(features)
    is_boxcox = transformer.method == "box-cox"
    out = _boxcox(graph, raw, exponents) if is_boxcox else _yeo_johnson(graph, raw, exponents)
    graph.widths[out] = len(features)
    curve = boxcox if is_boxcox else stats.yeojohnson
    made = tuple(
        Feature(
            tensor=out,
            index=index,
            kind="number",
            nulls=feature.nulls,
            lift=feature.lifted().then(partial(_quietly, curve, exponents[index])),
        )
        for index, feature in enumerate(features)
    )
    graph.recipe.append(f"{step}: {transformer.method} in double; trees compare as scipy's own results do")
    return standard_scaler(graph, transformer._scaler, made, step) if transformer.standardize else made


def _doubles_only(features: Features, step: str) -> None:
    numbers_only(features, step)
    if any(feature.single for feature in features):
        raise NotCompilable(step, "a curve of float32 columns")


def _quietly(curve: Any, exponent: float, values: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(curve(values, exponent), dtype=np.float64)


def _boxcox(graph: Graph, raw: str, exponents: np.ndarray) -> str:
    return _powered(graph, graph.add("Log", [raw]), graph.constant(exponents.reshape(1, -1)))


def _yeo_johnson(graph: Graph, raw: str, exponents: np.ndarray) -> str:
    """The same curve on both sides of zero: exponent of 1 + |x|, on the negative side 2 less it."""
    below = graph.add("Less", [raw, graph.constant(np.array(0.0))])
    sides = [graph.constant(of.reshape(1, -1)) for of in (2.0 - exponents, exponents)]
    powered = _powered(graph, log1p(graph, graph.add("Abs", [raw])), graph.add("Where", [below, *sides]))
    return graph.add("Where", [below, graph.add("Neg", [powered]), powered])


def _powered(graph: Graph, logarithm: str, exponent: str) -> str:
    """(exp(exponent * logarithm) - 1) / exponent, or the logarithm itself where the exponent is zero."""
    eps, one = graph.constant(np.array(np.finfo(np.float64).eps)), graph.constant(np.array(1.0))
    flat = graph.add("Less", [graph.add("Abs", [exponent]), eps])
    power = graph.add("Sub", [graph.add("Exp", [graph.add("Mul", [exponent, logarithm])]), one])
    return graph.add("Where", [flat, logarithm, graph.add("Div", [power, graph.add("Where", [flat, one, exponent])])])


def quantile_transformer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """Each value's place among the quantiles of training, as a share or as a normal deviate."""
    _doubles_only(features, step)
    made = []
    for index, feature in enumerate(features):
        quantiles = np.asarray(transformer.quantiles_[:, index], np.float64)
        out = _share(graph, graph.matrix((feature,)), quantiles, np.asarray(transformer.references_, np.float64))
        if transformer.output_distribution == "normal":
            out = _bounded(graph, feature, out, quantiles=quantiles)
        lift = feature.lifted().then(_column_mapping(transformer, index))
        made.append(Feature(tensor=out, index=0, kind="number", nulls=feature.nulls, lift=lift))
    graph.recipe.append(f"{step}: quantiles in double; trees compare as scikit-learn's own results do")
    return tuple(made)


def _column_mapping(transformer: Any, index: int) -> Mapping:
    quantiles = transformer.quantiles_[:, index]

    def mapping(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(transformer._transform_col(values.astype(np.float64), quantiles, False))

    return mapping


def _share(graph: Graph, tensor: str, quantiles: np.ndarray, references: np.ndarray) -> str:
    """The mean of the interpolations from both sides, which differ where quantiles are equal."""
    up = interpolated(graph, tensor, quantiles, references)
    down = interpolated(graph, graph.add("Neg", [tensor], width=1), -quantiles[::-1], -references[::-1])
    both = graph.add("Sub", [up, down], width=1)
    share = graph.add("Mul", [both, graph.constant(np.array(0.5))], width=1)
    ends = [(quantiles[-1], 1.0), (quantiles[0], 0.0)]
    for end, value in ends:
        here = graph.add("Equal", [tensor, graph.constant(np.array(end))])
        share = graph.add("Where", [here, graph.constant(np.array(value)), share], width=1)
    return graph.add("Where", [graph.add("IsNaN", [tensor]), tensor, share], width=1)


def _bounded(graph: Graph, feature: Feature, share: str, *, quantiles: np.ndarray) -> str:
    """The normal deviate of a share, clipped as scikit-learn clips it."""
    tensor = graph.matrix((feature,))
    bound = graph.constant(np.array(_BOUND))
    low = graph.add("Less", [graph.add("Sub", [tensor, bound]), graph.constant(np.array(quantiles[0]))])
    high = graph.add("Greater", [graph.add("Add", [tensor, bound]), graph.constant(np.array(quantiles[-1]))])
    ends = [float(ndtri(_BOUND - np.spacing(1))), float(ndtri(1 - (_BOUND - np.spacing(1))))]
    held = graph.add("Clip", [share, bound, graph.constant(np.array(1 - _BOUND))], width=1)
    out = graph.add("Clip", [_deviate(graph, held), *(graph.constant(np.array(end)) for end in ends)], width=1)
    out = graph.add("Where", [graph.add("LessOrEqual", [share, bound]), graph.constant(np.array(ends[0])), out])
    over = graph.add("GreaterOrEqual", [share, graph.constant(np.array(1 - _BOUND))])
    out = graph.add("Where", [over, graph.constant(np.array(ends[1])), out])
    out = graph.add("Where", [high, graph.constant(np.array(ends[1])), out])
    return graph.add("Where", [low, graph.constant(np.array(ends[0])), out], width=1)


def _deviate(graph: Graph, share: str) -> str:
    """The inverse of the normal distribution function: a polynomial in sqrt(-2 log p) of the smaller side's p, fitted
    here to scipy's `ndtri` (to about 1e-12 between 1e-7 and a half).
    """
    half, one = graph.constant(np.array(0.5)), graph.constant(np.array(1.0))
    below = graph.add("Less", [share, half])
    side = graph.add("Where", [below, share, graph.add("Sub", [one, share])])
    root = graph.add("Sqrt", [graph.add("Mul", [graph.constant(np.array(-2.0)), graph.add("Log", [side])])])
    low, high = np.sqrt(-2 * np.log(0.5)), np.sqrt(-2 * np.log(_BOUND / 2))
    fitted = np.polynomial.Chebyshev.interpolate(
        lambda at: -ndtri(np.exp(-np.square(at) / 2)), _DEGREE, domain=[low, high]
    )
    unit = graph.add(
        "Mul", [graph.add("Sub", [root, graph.constant(np.array(low))]), graph.constant(np.array(2 / (high - low)))]
    )
    at = graph.add("Sub", [unit, one])
    distance = _clenshaw(graph, at, fitted.coef)
    return graph.add("Where", [below, graph.add("Neg", [distance]), distance], width=1)


def _clenshaw(graph: Graph, at: str, coefficients: np.ndarray) -> str:
    """A Chebyshev series (Clenshaw 1955)."""
    twice = graph.add("Mul", [at, graph.constant(np.array(2.0))])
    later, now = graph.constant(np.array(0.0)), graph.constant(np.array(float(coefficients[-1])))
    for coefficient in coefficients[-2:0:-1]:
        product = graph.add("Sub", [graph.add("Mul", [twice, now]), later])
        later, now = now, graph.add("Add", [product, graph.constant(np.array(float(coefficient)))])
    last = graph.add("Sub", [graph.add("Mul", [at, now]), later])
    return graph.add("Add", [last, graph.constant(np.array(float(coefficients[0])))])


def spline_transformer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """B-splines of each column: a polynomial per interval, found by the interval's number."""
    _doubles_only(features, step)
    if transformer.extrapolation not in ("constant", "linear", "continue"):
        raise NotCompilable(step, f"splines with extrapolation={transformer.extrapolation!r}")
    made: list[Feature] = []
    for index, feature in enumerate(features):
        out = _spline(graph, feature, transformer.bsplines_[index], transformer.extrapolation)
        kept = graph.widths[out] - (not transformer.include_bias)
        made += [Feature(tensor=out, index=place, kind="number") for place in range(kept)]
    graph.recipe.append(f"{step}: splines as polynomials in double")
    return tuple(made)


def _spline(graph: Graph, feature: Feature, spline: Any, extrapolation: str) -> str:
    first, last = spline.k, len(spline.t) - spline.k - 1
    pieces = [PPoly.from_spline((spline.t, of, spline.k)) for of in spline.c.T]
    knots, polynomials = spline.t[first : last + 1], np.stack([one.c[:, first:last] for one in pieces], axis=2)
    raw = graph.matrix((feature,))
    ends = [graph.constant(np.array(float(knots[place]))) for place in (0, -1)]
    held = raw if extrapolation == "continue" else graph.add("Clip", [raw, *ends], width=1)
    inner: Features = (Feature(tensor=held, index=0, kind="number"),)
    place = graph.cast(bins_of(graph, inner, [np.nextafter(knots[1:-1], -np.inf)]), TensorProto.INT64)
    row = graph.add("Reshape", [place, graph.constant(np.array([-1], np.int64))])
    start = graph.add("Gather", [graph.constant(knots[:-1].reshape(-1, 1).copy()), row], width=1, axis=0)
    along = graph.add("Sub", [held, start], width=1)
    powers = [graph.add("Gather", [graph.constant(np.ascontiguousarray(of)), row], axis=0) for of in polynomials]
    value, slope = powers[0], None
    for power in powers[1:]:
        grown = value if slope is None else graph.add("Add", [value, graph.add("Mul", [slope, along])])
        slope, value = grown, graph.add("Add", [graph.add("Mul", [value, along]), power])
    if extrapolation == "linear" and slope is not None:
        beyond = graph.add("Sub", [raw, held], width=1)
        value = graph.add("Add", [value, graph.add("Mul", [slope, beyond])])
    graph.widths[value] = polynomials.shape[2]
    return value
