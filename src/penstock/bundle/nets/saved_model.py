"""A declared SavedModel, opened: it stays native."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from penstock.bundle.loaders.net import NetDtype, NetInput
from penstock.bundle.loaders.savedmodel import SavedHead, SavedNet, read_saved, saved_parts
from penstock.bundle.native_file import NativeFile
from penstock.bundle.nets.declared import SavedModel
from penstock.bundle.nets.model import Opened
from penstock.bundle.nets.sample import frame_and_inputs
from penstock.errors import BundleRefused, PackRefused


def opened(model: SavedModel, sample: Any) -> Opened:
    """The signature of the directory, read as a bundle's is. Raises PackRefused naming what it must not run."""
    root = Path(model.path)
    try:
        files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        files = {name: data for name, data in files.items() if name not in ("keras_metadata.pb",)}
        net = read_saved(files, model.signature)
    except (OSError, BundleRefused) as error:
        raise PackRefused("SavedModel", str(error), "Save it with tf.saved_model.save or model.export") from error
    frame, made = frame_and_inputs(sample, "float64")
    return Opened(
        what="TensorFlow SavedModel",
        frame=frame,
        inputs=_inputs(net, made, is_named=isinstance(sample, Mapping)),
        net=net,
        native=lambda feeds, spec: NativeFile(
            "savedmodel", "model.savedmodel", saved_parts(files, SavedHead(spec, model.signature))
        ),
    )


def _inputs(net: SavedNet, made: tuple[NetInput, ...], *, is_named: bool) -> tuple[NetInput, ...]:
    wanted = dict(sorted(net.function.structured_input_signature[1].items()))
    given = {each.name: each.fields for each in made} if is_named or len(wanted) > 1 else {}
    if not is_named and len(wanted) == 1:
        given = {next(iter(wanted)): made[0].fields}
    missing = [name for name in wanted if name not in given]
    if missing:
        raise PackRefused("sample", f"the signature reads {missing}", "Give a dict of named inputs")
    found = []
    for name, spec in wanted.items():
        dtype, rank = spec.dtype.name, spec.shape.rank
        if dtype not in get_args(NetDtype) or rank not in (1, 2):
            raise PackRefused("SavedModel", f"the input {name!r} is {dtype} of {rank} dimensions", "Export flat rows")
        found.append(NetInput(name, given[name], cast("NetDtype", dtype), is_flat=rank == 1))
    return tuple(found)
