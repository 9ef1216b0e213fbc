"""What TensorFlow Serving's REST API tells of models: the state of a version, and its signature.

Source: tensorflow/serving, `apis/get_model_status.proto` and `apis/get_model_metadata.proto`, as `api_rest.md` shows
them in JSON, where 64-bit numbers are texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from penstock.bundle.outputs import OutputSpec
from penstock.errors import NotFound
from penstock.runtime import Host, Version
from penstock.schema import Field
from penstock.server.protocols.tfserving import SIGNATURE

_DTYPES: Final = {"float": "DT_DOUBLE", "int": "DT_INT64", "bool": "DT_BOOL"}
_ANY_ROWS: Final = -1
_MAX_DIGITS: Final = 18


class TfModels:
    """Answers what runs no model. `answers` are by the names in the table of routes; they raise NotFound."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.answers: dict[str, Callable[[Mapping[str, str]], object]] = {
            "tf_status": lambda names: {"model_version_status": [version_status(self._chosen(names).version)]},
            "tf_metadata": lambda names: metadata_of(self._chosen(names)),
        }

    def _chosen(self, names: Mapping[str, str]) -> Version:
        version = names.get("version")
        if version is not None and not (version.isascii() and version.isdigit() and len(version) <= _MAX_DIGITS):
            raise NotFound(f"Expected a version number such as 3, got {version[:20]!r}")
        return self._host.choose(names["model"], None if version is None else int(version), names.get("alias")).model


def version_status(number: int) -> dict[str, Any]:
    """The state of a version that is served, or is loaded at its first call: whoever asks gets an answer."""
    return {"version": str(number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def failed_status(number: str, why: str) -> dict[str, Any]:
    """The state of a version that ought to be served, and could not be loaded."""
    return {"version": number, "state": "END", "status": {"error_code": "FAILED_PRECONDITION", "error_message": why}}


def metadata_of(model: Version) -> dict[str, Any]:
    """A version's only signature: an input per field, and one output."""
    inputs = {field.name: _tensor(field.name, _dtype(field), [_ANY_ROWS]) for field in model.schema.fields}
    outputs = _outputs(model.bundle.outputs)
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signature_def": {SIGNATURE: signature},
            }
        },
    }


def _dtype(field: Field) -> str:
    return _DTYPES.get(field.type, "DT_STRING")


def _outputs(spec: OutputSpec) -> dict[str, Any]:
    if spec.has_probabilities:
        return {"probabilities": _tensor("probabilities", "DT_DOUBLE", [_ANY_ROWS, len(spec.classes)])}
    if spec.targets:
        return {"values": _tensor("values", "DT_DOUBLE", [_ANY_ROWS, len(spec.targets)])}
    if spec.kind != "classification":
        return {"value": _tensor("value", "DT_DOUBLE", [_ANY_ROWS])}
    kind = {bool: "DT_BOOL", int: "DT_INT64"}.get(type(spec.classes[0]) if spec.classes else str, "DT_STRING")
    return {"label": _tensor("label", kind, [_ANY_ROWS])}


def _tensor(name: str, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}
