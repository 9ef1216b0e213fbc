"""A declared PyTorch module, opened."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from penstock.bundle.loaders.net import NetDtype, NetSpec
from penstock.bundle.loaders.torch import TorchNet, float_dtype
from penstock.bundle.loaders.torchscript import script_parts
from penstock.bundle.native_file import NativeFile
from penstock.bundle.nets.bare import Ends
from penstock.bundle.nets.declared import TorchModel
from penstock.bundle.nets.model import Feeds, Opened
from penstock.bundle.nets.sample import frame_and_inputs
from penstock.bundle.nets.torch_export import SCORES, doubled, exported, scripted, settled_module
from penstock.bundle.nets.torch_prune import narrowed


def opened(model: TorchModel, sample: Any) -> Opened:
    """The module, copied and in evaluation mode; its numbers in the precision of its parameters."""
    return _opened(settled_module(model.module), sample)


def _opened(module: Any, sample: Any) -> Opened:
    dtype = cast("NetDtype", float_dtype(module))
    frame, inputs = frame_and_inputs(sample, dtype)
    kind = type(module)
    whole = Opened(
        what=f"{kind.__module__}.{kind.__qualname__}",
        frame=frame,
        inputs=inputs,
        net=TorchNet(module),
        export=lambda feeds: (exported(module, feeds), Ends(SCORES, None)),
        native=lambda feeds, spec: _native(module, feeds, spec),
        narrowed=lambda feeds, share: _narrowed(module, sample, feeds, share),
    )
    if dtype == "float64":
        return whole
    return msgspec.structs.replace(whole, doubled=lambda: _opened(doubled(module), sample))


def _narrowed(module: Any, sample: Any, feeds: Feeds, share: float) -> tuple[Opened, str]:
    smaller, said = narrowed(module, next(iter(feeds.values())), share)
    return _opened(smaller, sample), said


def _native(module: Any, feeds: Feeds, spec: NetSpec) -> NativeFile:
    return NativeFile("torchscript", "model.torchscript", script_parts(scripted(module, feeds), spec))
