"""The native flavour of TensorFlow: a SavedModel, read only when its functions do nothing but compute.

A SavedModel is a program whose operators can read and write files. So its bytes are read first (`graph_scan.py`) and
every operator must stand in a list. What is left is the risk of an error in TensorFlow's own reader: serve only files
that you trust.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.loaders.graph_scan import refuse_effects, refuse_files
from penstock.bundle.loaders.net import NetPredictor, NetSpec
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.parts import read_parts, written_parts
from penstock.errors import BundleRefused, MissingExtra, ModelFailed
from penstock.schema import Schema

try:
    import tensorflow
except ModuleNotFoundError as error:
    raise MissingExtra("tensorflow-cpu", "tensorflow", "A SavedModel") from error

_SPEC, _MODEL = "net.json", "model/"


class SavedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes into a SavedModel, and the signature that is served."""

    spec: NetSpec
    signature: str


class SavedNet:
    """One signature of a loaded SavedModel. Thread-safe: TensorFlow's functions are."""

    def __init__(self, loaded: Any, signature: str) -> None:
        self._loaded = loaded  # its variables live as long as it does
        self.function = loaded.signatures[signature]

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The signature's only output as `scores`. Raises ModelFailed when TensorFlow raises."""
        try:
            answers = self.function(**{name: tensorflow.constant(array) for name, array in feeds.items()})
        except Exception as error:  # TensorFlow's errors share no class
            raise ModelFailed.raised("The model refused the rows:", error) from error
        if len(answers) != 1:
            raise ModelFailed(f"The signature answers {sorted(answers)}; expected one tensor of scores")
        return {"scores": next(iter(answers.values())).numpy()}


def load_savedmodel(data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()) -> NetPredictor:
    """The predictor of a model file of `saved_parts`.

    Operators beyond the list must be in `trusted` (the server's), as `tf.<name>`. Raises BundleRefused naming the one
    that is not; there is no fallback. Thread-safe.
    """
    parts = read_parts(data, "model.savedmodel")
    try:
        head = msgspec.json.decode(parts.pop(_SPEC), type=SavedHead)
    except (KeyError, msgspec.DecodeError) as error:
        raise BundleRefused(f"model.savedmodel: {_SPEC}: {error}") from error
    files = {name.removeprefix(_MODEL): content for name, content in parts.items()}
    return NetPredictor(read_saved(files, head.signature, trusted), head.spec, outputs)


def saved_parts(files: Mapping[str, bytes], head: SavedHead) -> bytes:
    """The model file of a SavedModel's files and what goes into it."""
    return written_parts({_SPEC: msgspec.json.encode(head), **{_MODEL + name: data for name, data in files.items()}})


def read_saved(files: Mapping[str, bytes], signature: str, trusted: Collection[str] = ()) -> SavedNet:
    """The signature of a SavedModel, after its bytes were read. Raises BundleRefused."""
    refuse_files(files)
    refuse_effects(files.get("saved_model.pb", b""), trusted)
    with tempfile.TemporaryDirectory(prefix="penstock-") as scratch:
        for name, data in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        try:
            return SavedNet(tensorflow.saved_model.load(scratch), signature)
        except KeyError as error:
            raise BundleRefused(f"model.savedmodel: it has no signature {signature!r}") from error
        except Exception as error:  # TensorFlow's errors share no class
            said = str(error).strip().partition("\n")[0][:300]
            raise BundleRefused(f"model.savedmodel: TensorFlow does not load it: {said}") from error
