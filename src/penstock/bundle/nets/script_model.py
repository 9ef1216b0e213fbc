"""A declared TorchScript file, opened: it stays native."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from penstock.bundle.loaders.net import NetDtype
from penstock.bundle.loaders.torch import TorchNet, float_dtype
from penstock.bundle.loaders.torchscript import read_script, script_parts
from penstock.bundle.native_file import NativeFile
from penstock.bundle.nets.declared import ScriptModel
from penstock.bundle.nets.model import Opened
from penstock.bundle.nets.sample import frame_and_inputs
from penstock.errors import BundleRefused, PackRefused


def opened(model: ScriptModel, sample: Any) -> Opened:
    """The module of the file, read as a bundle's is. Raises PackRefused naming what it must not call."""
    try:
        script = Path(model.path).read_bytes()
        module = read_script(script)
    except (OSError, BundleRefused) as error:
        raise PackRefused(
            "TorchScript", str(error), "Give the module itself as a TorchModel, where you have it"
        ) from error
    frame, inputs = frame_and_inputs(sample, cast("NetDtype", float_dtype(module)))
    return Opened(
        what="TorchScript",
        frame=frame,
        inputs=inputs,
        net=TorchNet(module),
        native=lambda feeds, spec: NativeFile("torchscript", "model.torchscript", script_parts(script, spec)),
    )
