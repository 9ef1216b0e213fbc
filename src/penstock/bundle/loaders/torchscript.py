"""The native flavour of PyTorch: a TorchScript file, read only when its code does nothing but compute.

TorchScript is a program. `torch.jit.load` compiles it and may run parts of it, and its operators can read and write
files (`torch.from_file`, `torch.save`). So its source is read first, as a syntax tree, and every operator must stand in
a list of those that compute; the pickles beside it are TorchScript's own subset, read by its C++ reader alone, which
builds no Python object. What is left is the risk of an error in that reader: serve only files that you trust.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from penstock.bundle.loaders.net import NetPredictor, NetSpec
from penstock.bundle.loaders.script_scan import refuse_effects
from penstock.bundle.loaders.torch import TorchNet
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.parts import read_parts, written_parts
from penstock.errors import BundleRefused, MissingExtra
from penstock.schema import Schema

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "torch", "A TorchScript model") from error

_SPEC, _CODE = "net.json", "module/"


def load_torchscript(
    data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()
) -> NetPredictor:  # fmt: skip
    """The predictor of a model file of `script_parts`.

    Operators beyond the list must be in `trusted` (the server's), as `torch.<name>`. Raises BundleRefused naming the
    one that is not; there is no fallback. Thread-safe.
    """
    parts = read_parts(data, "model.torchscript")
    try:
        spec = msgspec.json.decode(parts.pop(_SPEC), type=NetSpec)
    except (KeyError, msgspec.DecodeError) as error:
        raise BundleRefused(f"model.torchscript: {_SPEC}: {error}") from error
    return NetPredictor(TorchNet(read_script(written_parts(parts), trusted)), spec, outputs)


def script_parts(script: bytes, spec: NetSpec) -> bytes:
    """The model file of a TorchScript file and what goes into it: no traces of the machine, the same bytes always."""
    return written_parts({_SPEC: msgspec.json.encode(spec), **dict(_files(script))})


def read_script(script: bytes, trusted: Collection[str] = ()) -> Any:
    """The module of a TorchScript file, after its code was read. Raises BundleRefused."""
    files = dict(_files(script))
    refuse_effects(files, trusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(io.BytesIO(written_parts(files)), map_location="cpu")
    except Exception as error:  # the reader's errors share no class
        said = str(error).strip().partition("\n")[0][:300]
        raise BundleRefused(f"model.torchscript: torch does not load it: {said}") from error
    return module.eval()


def _files(script: bytes) -> Iterator[tuple[str, bytes]]:
    """The files inside, in a folder of one name, without those that only say where the code came from."""
    try:
        with zipfile.ZipFile(io.BytesIO(script)) as archive:
            for info in archive.infolist():
                if info.is_dir() or info.filename.endswith(".debug_pkl"):
                    continue
                name = info.filename.partition("/")[2]
                if not name or info.file_size > 4 << 30:
                    raise BundleRefused(f"model.torchscript: {info.filename!r} has no place in it")
                if name != ".data/serialization_id":
                    yield _CODE + name, archive.read(info)
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise BundleRefused(f"model.torchscript: not a TorchScript file: {error}") from error
