"""skops files: read by a list of trusted types, written so that the same estimator gives the same bytes.

skops stores Python's `id()` of every object and zip times; arrays of tree nodes hold bytes that nothing ever set. Here
ids are numbered by first appearance, arrays are named by their content, and what was never set is zero.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np
import skops.io

from penstock.errors import BundleRefused, PackRefused

KNOWN_TYPES: Final = (
    "numpy.dtype",
    "_loss.CyHalfBinomialLoss",
    "_loss.CyHalfMultinomialLoss",
    "_loss.CyHalfSquaredError",
    "_loss.CyAbsoluteError",
    "_loss.CyPinballLoss",
    "_loss.CyHalfGammaLoss",
    "_loss.CyHalfPoissonLoss",
    "_loss.CyExponentialLoss",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.sparse._csr.csr_array",
    "scipy.sparse._csr.csr_matrix",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.ExponentialLoss",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.PinballLoss",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.impute._iterative._ImputerTriplet",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree64",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
"""Parts of scikit-learn's own fitted estimators that skops does not list: plain data, without behaviour on loading."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SCHEMA = "schema.json"


def read_skops(data: bytes, trusted: Collection[str] = ()) -> Any:
    """The object in a skops file. Raises BundleRefused naming a type that is not trusted, or what is not readable."""
    allowed = {*KNOWN_TYPES, *trusted}
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - allowed)
    except Exception as error:  # skops raises many kinds on a file that is not one
        raise BundleRefused(f"model.skops: not a readable skops file ({type(error).__name__})") from error
    if unknown:
        raise BundleRefused(
            f"model.skops: holds the type {unknown[0]}, which this server does not trust: add it to the server's list "
            "of trusted types if you know what it does"
        )
    try:
        return skops.io.loads(data, trusted=sorted(allowed & set(skops.io.get_untrusted_types(data=data))))
    except Exception as error:  # a type of another library version, a missing module: never tried by another format
        raise BundleRefused(f"model.skops: could not be built ({type(error).__name__}: {error})") from error


def dump_skops(estimator: Any, trusted: Collection[str] = ()) -> bytes:
    """The estimator as a skops file: the same bytes whenever and wherever the same estimator is written.

    Raises PackRefused naming the step that holds what a skops file cannot hold safely (a lambda, a class of your own).
    """
    unknown = _untrusted(estimator, trusted)
    if unknown:
        step, kind = next(_guilty(estimator, trusted), (type(estimator).__name__, unknown[0]))
        raise PackRefused(
            step,
            f"{kind} is code of your own, which no file of data can hold",
            "Use a numpy function (log1p, log, exp, sqrt, abs, clip) or a step of scikit-learn instead",
        )
    return canonical_skops(skops.io.dumps(estimator))


def _untrusted(part: Any, trusted: Collection[str]) -> list[str]:
    try:
        found = skops.io.get_untrusted_types(data=skops.io.dumps(part))
    except Exception as error:  # skops raises many kinds for what it cannot write
        return [f"{type(part).__name__} ({type(error).__name__}: {error})"]
    return sorted(set(found) - {*KNOWN_TYPES, *trusted})


def _guilty(part: Any, trusted: Collection[str], path: str = "") -> Iterator[tuple[str, str]]:
    """The innermost steps that hold an untrusted type, with that type."""
    for name, inner in _steps(part):
        if not hasattr(inner, "get_params"):
            continue
        unknown = _untrusted(inner, trusted)
        if unknown:
            here = f"{path} > {name}" if path else name
            yield from _guilty(inner, trusted, here)
            yield here, unknown[0]


def _steps(part: Any) -> list[tuple[str, Any]]:
    for attribute in ("steps", "transformers_", "transformer_list", "transformers"):
        if hasattr(part, attribute):
            return [(entry[0], entry[1]) for entry in getattr(part, attribute)]
    return []


def canonical_skops(data: bytes) -> bytes:
    """A skops file with ids by first appearance, files by content, no times and no unset bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop(_SCHEMA))
    written = {name: _settled(name, content) for name, content in files.items()}
    renamed = {name: f"{hashlib.sha256(of).hexdigest()[:32]}.{name.rpartition('.')[2]}" for name, of in written.items()}
    _Renumber(renamed).visit(schema)
    entries = {renamed[name]: content for name, content in written.items()}
    entries[_SCHEMA] = json.dumps(schema, indent=1, ensure_ascii=False).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, entries[name])
    return out.getvalue()


class _Renumber:
    """Gives ids and file names of one skops schema their canonical form, in place."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files
        self._ids: dict[int, int] = {}
        self._count = 0

    def visit(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self.visit(item)
        if not isinstance(node, dict):
            return
        if node.get("__loader__") == "SetNode" and isinstance(node.get("content"), list):
            node["content"].sort(key=_without_ids)
        if "__id__" in node:
            node["__id__"] = self._id(node)
        if node.get("file") in self._files:
            node["file"] = self._files[node["file"]]
        # Vectorisers keep the address of their stop words, only to notice another list: an address means nothing here.
        if isinstance(node.get("_stop_words_id"), dict):
            node["_stop_words_id"]["content"] = "0"
        for key in node:
            self.visit(node[key])

    def _id(self, node: dict[str, Any]) -> int:
        """Plain values are never shared: whether two equal texts are one object differs between processes."""
        if node.get("__loader__") == "JsonNode":
            self._count += 1
            return self._count
        if node["__id__"] not in self._ids:
            self._count += 1
            self._ids[node["__id__"]] = self._count
        return self._ids[node["__id__"]]


def _without_ids(node: Any) -> str:
    return json.dumps({key: value for key, value in node.items() if key != "__id__"}, sort_keys=True, default=str)


def _settled(name: str, content: bytes) -> bytes:
    """An array of records without its padding bytes, and without the flag that leaves of trees never set."""
    if not name.endswith(".npy"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    if {"left_child", "missing_go_to_left"} <= set(array.dtype.names):
        clean["missing_go_to_left"][array["left_child"] < 0] = 0
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()
