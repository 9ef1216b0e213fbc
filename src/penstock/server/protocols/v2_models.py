"""What the Open Inference Protocol V2 tells of the server and its models; REST and gRPC say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Final

import msgspec

from penstock.errors import NotFound, NotReady
from penstock.runtime import Host, Version
from penstock.server.protocols.v2_outputs import TensorForm, forms

_DATATYPES: Final = {"float": "FP64", "int": "INT64", "bool": "BOOL"}
_EXTENSIONS: Final = ("binary_tensor_data", "model_repository(index)")


class ServerMetadata(msgspec.Struct, frozen=True):
    """What serves."""

    name: str
    version: str
    extensions: tuple[str, ...] = _EXTENSIONS


class ModelMetadata(msgspec.Struct, frozen=True):
    """A version of a model as tensors; a dimension of -1 is the number of rows."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorForm]
    outputs: list[TensorForm]


class Indexed(msgspec.Struct, frozen=True):
    """One version in the repository's index."""

    name: str
    version: str
    state: str = "READY"
    reason: str = ""


class Live(msgspec.Struct, frozen=True):
    """That the server runs."""

    live: bool


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """That the server, or the model of that name, answers."""

    ready: bool
    name: str = ""


class V2Models:
    """Answers what runs no model. `answers` are by the names in the table of routes; they raise NotFound, NotReady."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.answers: dict[str, Callable[[Mapping[str, str]], object]] = {
            "v2_server": lambda names: self.server(),
            "v2_live": lambda names: Live(True),
            "v2_ready": lambda names: self.ready(),
            "v2_model": lambda names: self.model(names["model"], names.get("version", "")),
            "v2_model_ready": lambda names: self.model_ready(names["model"], names.get("version", "")),
            "v2_index": lambda names: self.index(),
        }

    def server(self) -> ServerMetadata:
        """The server's name, version and extensions."""
        return ServerMetadata("penstock", metadata.version("penstock"))

    def ready(self) -> Ready:
        """That all models answer. Raises NotReady while nothing is served."""
        if not self._host.is_ready:
            raise NotReady("nothing is served yet")
        return Ready(True)

    def model_ready(self, name: str, version: str) -> Ready:
        """That a model answers. Raises NotFound naming what there is."""
        return Ready(True, self._chosen(name, version).name)

    def model(self, name: str, version: str) -> ModelMetadata:
        """A model's inputs and outputs; of the champion where no version is named. Raises NotFound."""
        model = self._chosen(name, version)
        inputs = [TensorForm(field.name, _DATATYPES.get(field.type, "BYTES"), [-1]) for field in model.schema.fields]
        versions = [str(number) for number in sorted(self._host.table.models[model.name].versions)]
        platform = f"penstock_{model.bundle.flavour}"
        return ModelMetadata(model.name, versions, platform, inputs, forms(model.bundle.outputs))

    def index(self) -> list[Indexed]:
        """All versions that are served, and those that ought to be and could not be loaded."""
        served = [Indexed(model.name, str(model.version)) for model in self._host.models()]
        known = {f"{one.name}/{one.version}" for one in served}
        failed = [(key.rpartition("/"), why) for key, why in self._host.failures.items() if key not in known]
        return [*served, *(Indexed(name, number, "UNAVAILABLE", why) for (name, _, number), why in failed)]

    def _chosen(self, name: str, version: str) -> Version:
        return self._host.choose(name, version_of(version), None).model


def version_of(text: str) -> int | None:
    """The number of a version; None for an empty text, which names none. Raises NotFound for what is no number."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFound(f"Expected a version number such as 3, got {text[:20]!r}")
    return int(text)
