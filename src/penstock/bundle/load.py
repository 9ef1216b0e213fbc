"""From a verified bundle to its predictor: the manifest names a loader by key, never by an import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Final

from penstock.bundle.bundle import Bundle
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.errors import BundleRefused
from penstock.schema import Schema

LOADERS: Final = {
    "onnx": "penstock.bundle.loaders.onnx:load_onnx",
    "sklearn": "penstock.bundle.loaders.sklearn:load_sklearn",
    "xgboost": "penstock.bundle.loaders.xgboost:load_xgboost",
    "lightgbm": "penstock.bundle.loaders.lightgbm:load_lightgbm",
    "catboost": "penstock.bundle.loaders.catboost:load_catboost",
    "boosted_pipeline": "penstock.bundle.loaders.boosted_pipeline:load_boosted_pipeline",
    "torchscript": "penstock.bundle.loaders.torchscript:load_torchscript",
    "savedmodel": "penstock.bundle.loaders.savedmodel:load_savedmodel",
}


def load_predictor(bundle: Bundle, *, trusted: Sequence[str] = (), threads: int = 1) -> Predictor:
    """The predictor of `bundle`. `trusted` are the types that a native bundle may hold beyond the built-in list; a
    compiled one uses `threads` threads a run.

    Raises BundleRefused for an unknown loader or a model file that is not safe to load, and MissingExtra when the
    flavour needs a library that is not installed. There is never a fallback to another loader.
    """
    key, data = bundle.manifest.loader, bundle.model_bytes
    # The libraries of native models have their threads set from outside (OMP_NUM_THREADS).
    options = {"threads": threads} if key == "onnx" else {}
    return loaded(key, data, bundle.schema, bundle.outputs, trusted=trusted, **options)


def loaded(
    key: str, data: bytes, schema: Schema, outputs: OutputSpec, *, trusted: Sequence[str] = (), **options: int
) -> Predictor:
    """The predictor of a model file's verified bytes by the loader of that key. Raises as `load_predictor`."""
    return import_loader(key)(data, schema, outputs, trusted=trusted, **options)


def import_loader(key: str) -> Callable[..., Predictor]:
    """The loader of that key, with whatever library it needs. Raises BundleRefused for a key that there is not."""
    if key not in LOADERS:
        raise BundleRefused(f"manifest.json: no loader {key!r}; this Penstock has {', '.join(sorted(LOADERS))}")
    module, attribute = LOADERS[key].split(":")
    loader: Callable[..., Predictor] = getattr(importlib.import_module(module), attribute)
    return loader
