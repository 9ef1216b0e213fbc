"""`NetModel`: a declared net, opened: asked through one Protocol, and what can be written of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import onnx
import pandas as pd

from penstock.bundle.loaders.net import Net, NetInput, NetSpec
from penstock.bundle.native_file import NativeFile
from penstock.bundle.nets.bare import Ends
from penstock.bundle.nets.declared import Declared

Feeds: TypeAlias = Mapping[str, np.ndarray]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A net and its sample, before anything is known of its outputs.

    - `export`: its graph and the names of that graph's outputs; the rows show shapes. Raises NotCompilable.
    - `native`: its own form, where one is safe to load. Raises PackRefused.
    - `doubled`: the same net in double, where it computes in single precision.
    - `narrowed`: the net without a share of its hidden units, refitted on rows, and what was done in words.
    """

    what: str
    frame: pd.DataFrame
    inputs: tuple[NetInput, ...]
    net: Net
    export: Callable[[Feeds], tuple[onnx.ModelProto, Ends]] | None = None
    native: Callable[[Feeds, NetSpec], NativeFile] | None = None
    doubled: Callable[[], Opened] | None = None
    narrowed: Callable[[Feeds, float], tuple[Opened, str]] | None = None


class NetModel(msgspec.Struct, frozen=True, kw_only=True):
    """What packing knows of a net: `width` is how many scores it answers a row."""

    opened: Opened
    spec: NetSpec
    width: int

    @property
    def model_class(self) -> str:
        """What it is, for the provenance."""
        return self.opened.what


_OPENERS: Final = {
    "TorchModel": "penstock.bundle.nets.torch_model:opened",
    "OnnxModel": "penstock.bundle.nets.onnx_model:opened",
    "ScriptModel": "penstock.bundle.nets.script_model:opened",
    "SavedModel": "penstock.bundle.nets.saved_model:opened",
}


def opened(model: Declared, sample: Any) -> Opened:
    """The net behind a declaration. Raises PackRefused for what cannot be read, MissingExtra without its library."""
    module, attribute = _OPENERS[type(model).__name__].split(":")
    made: Opened = getattr(importlib.import_module(module), attribute)(model, sample)
    return made
