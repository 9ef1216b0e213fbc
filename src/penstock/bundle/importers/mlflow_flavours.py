"""The flavours of MLflow: from a flavour's own file to the fitted model, by the library that wrote it.

Files of data are read here; pickles, and whatever else may run code, only through `unpickle.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from penstock.bundle.importers.onnx_file import bare_model
from penstock.bundle.importers.order import Order
from penstock.bundle.importers.unpickle import unpickle, unpickle_exported, unpickle_skops, unpickle_torch
from penstock.bundle.loaders.skops_file import read_skops
from penstock.bundle.nets.declared import TorchModel
from penstock.bundle.outputs import ClassLabel
from penstock.errors import BundleRefused, MissingExtra, PackRefused


class Source(msgspec.Struct, frozen=True):
    """The folder, and what MLmodel says of the flavour."""

    root: Path
    options: dict[str, Any]


Opened: TypeAlias = tuple[Any, Path]
"""The model as `pack` takes it, and the file that it was in."""


def opened(flavour: str, source: Source, order: Order) -> Opened:
    """The model of one of `FLAVOURS`. Raises PackRefused naming the file, MissingExtra."""
    return FLAVOURS[flavour](source, order)


def _sklearn(source: Source, order: Order) -> Opened:
    path = _file(source, "pickled_model", "model.pkl")
    return _estimator(path, order), path


def _estimator(path: Path, order: Order) -> Any:
    if path.suffix != ".skops":
        return unpickle(path, order).content
    try:
        return read_skops(path.read_bytes())
    except BundleRefused as error:
        if order.may_unpickle:
            return unpickle_skops(path, order)
        raise PackRefused(path.name, str(error), "Say --allow-unsafe for a file that you made yourself") from error


def _xgboost(source: Source, order: Order) -> Opened:
    path = _file(source, "data", "model.ubj")
    try:
        import xgboost
    except ImportError:
        raise MissingExtra("xgboost", "xgboost", f"reading {path.name}") from None
    kinds = ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "Booster")
    model = getattr(xgboost, _kind(source, kinds, "model_class"))()
    return _loaded(model, path), path


def _lightgbm(source: Source, order: Order) -> Opened:
    path = _file(source, "data", "model.lgb")
    if path.suffix in (".pkl", ".skops"):
        return _estimator(path, order), path
    try:
        import lightgbm
    except ImportError:
        raise MissingExtra("lightgbm", "lightgbm", f"reading {path.name}") from None
    return _tried(lambda: lightgbm.Booster(model_file=str(path)), path), path


def _catboost(source: Source, order: Order) -> Opened:
    path = _file(source, "data", "model.cb")
    try:
        import catboost
    except ImportError:
        raise MissingExtra("catboost", "catboost", f"reading {path.name}") from None
    model = getattr(catboost, _kind(source, ("CatBoostClassifier", "CatBoostRegressor", "CatBoost"), "model_type"))()
    return _loaded(model, path), path


def _onnx(source: Source, order: Order) -> Opened:
    path = _file(source, "data", "model.onnx")
    return bare_model(path, order), path


def _pytorch(source: Source, order: Order) -> Opened:
    folder = source.root / str(source.options.get("model_data", "data"))
    for name, read in (("model.pth", unpickle_torch), ("model.pt2", unpickle_exported)):
        path = folder / name
        if path.is_file():
            classes: tuple[ClassLabel, ...] = order.classes
            kind: Any = "classification" if classes else "regression"
            return TorchModel(module=read(path, order), kind=kind, classes=classes, activation=order.activation), path
    there = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    raise PackRefused(str(folder.name), f"expected model.pth or model.pt2, found {there[:5]}", "Log the model again")


FLAVOURS: Final[dict[str, Callable[[Source, Order], Opened]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "pytorch": _pytorch,
}
"""In the order of preference, should a model have several."""


def _file(source: Source, option: str, usual: str) -> Path:
    """The file that the flavour names; one inside the folder."""
    path = source.root / str(source.options.get(option) or usual)
    if path.is_dir():
        path = path / usual
    if not path.resolve().is_relative_to(source.root.resolve()):
        raise PackRefused("MLmodel", f"`{option}` leads out of the folder", "Log the model again")
    if not path.is_file():
        raise PackRefused(path.name, "there is no such file in the folder, and MLmodel names it", "Log the model again")
    return path


def _kind(source: Source, known: tuple[str, ...], option: str) -> str:
    """A class's name, among those that are known; never an import path."""
    named = str(source.options.get(option) or known[-1]).rpartition(".")[2]
    if named not in known:
        raise PackRefused("MLmodel", f"the {option} is {named!r}, none of {', '.join(known)}", "Log one of these")
    return named


def _loaded(model: Any, path: Path) -> Any:
    _tried(lambda: model.load_model(str(path)), path)
    return model


def _tried(load: Callable[[], Any], path: Path) -> Any:
    try:
        return load()
    except Exception as error:  # each library raises its own on a file that is none of its own
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        raise PackRefused(path.name, f"it could not be read ({said})", "Log the model again") from error
