"""Penstock: trained tabular models, served with the numbers of training and a record of every answer.

The names below are imported when first used, so that `import penstock` costs nothing that is not needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.bundle.bundle import Bundle
    from penstock.bundle.nets.declared import OnnxModel, SavedModel, ScriptModel, TorchModel
    from penstock.bundle.pack import PackOptions, pack
    from penstock.client import AsyncClient, Client
    from penstock.errors import PenstockError
    from penstock.runtime.model import Model
    from penstock.runtime.model import open_model as open
    from penstock.schema import Field, Schema
    from penstock.schema.prediction import Prediction

__all__ = [
    "AsyncClient",
    "Bundle",
    "Client",
    "Field",
    "Model",
    "OnnxModel",
    "PackOptions",
    "PenstockError",
    "Prediction",
    "SavedModel",
    "Schema",
    "ScriptModel",
    "TorchModel",
    "open",
    "pack",
]

_HOMES = {
    "AsyncClient": "penstock.client:AsyncClient",
    "Bundle": "penstock.bundle.bundle:Bundle",
    "Client": "penstock.client:Client",
    "Field": "penstock.schema:Field",
    "Model": "penstock.runtime.model:Model",
    "OnnxModel": "penstock.bundle.nets.declared:OnnxModel",
    "PackOptions": "penstock.bundle.pack:PackOptions",
    "PenstockError": "penstock.errors:PenstockError",
    "Prediction": "penstock.schema.prediction:Prediction",
    "SavedModel": "penstock.bundle.nets.declared:SavedModel",
    "Schema": "penstock.schema:Schema",
    "ScriptModel": "penstock.bundle.nets.declared:ScriptModel",
    "TorchModel": "penstock.bundle.nets.declared:TorchModel",
    "open": "penstock.runtime.model:open_model",
    "pack": "penstock.bundle.pack:pack",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
