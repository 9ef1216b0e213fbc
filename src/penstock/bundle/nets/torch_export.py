"""PyTorch modules to other forms: an ONNX graph by `torch.onnx`, and TorchScript for what has no graph.

The home of torch and onnxscript at packing.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from penstock.bundle.compile.refusal import NotCompilable
from penstock.errors import MissingExtra, PackRefused

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "torch", "Packing a PyTorch module") from error

_OPSET = 20
_CHATTY = ("torch", "torch.onnx", "torch.fx", "torch.export", "torch.fx.experimental.symbolic_shapes")
SCORES = "scores"


def settled_module(module: Any) -> Any:
    """A copy in evaluation mode on the CPU. Raises PackRefused for what is no module."""
    if not isinstance(module, torch.nn.Module):
        raise PackRefused("module", f"{type(module).__name__} is no torch.nn.Module", "Give the fitted module itself")
    return copy.deepcopy(module).eval().cpu()


def doubled(module: Any) -> Any:
    """A copy that computes in double, with the very same weights."""
    return copy.deepcopy(module).double()


def exported(module: Any, feeds: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The module's graph, for any number of rows; inputs named and ordered as `feeds`, one output `scores`.

    Raises NotCompilable with the exporter's own words for what it cannot write.
    """
    given = tuple(torch.from_numpy(array) for array in feeds.values())
    rows = torch.export.Dim("rows", min=1)
    try:
        with _quietly():
            program = torch.onnx.export(
                copy.deepcopy(module),
                given,
                dynamo=True,
                input_names=list(feeds),
                output_names=[SCORES],
                dynamic_shapes=tuple({0: rows} for _ in given),
                opset_version=_OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MissingExtra("onnxscript", "torch", "Packing a PyTorch module") from error
    except Exception as error:  # the exporter raises everything there is
        raise NotCompilable("torch.onnx", f"the exporter refuses it: {_cause(error)}") from error
    if program is None:
        raise NotCompilable("torch.onnx", "the exporter gave nothing")
    model: onnx.ModelProto = program.model_proto
    if len(model.graph.output) != 1:
        raise NotCompilable("torch.onnx", f"it has {len(model.graph.output)} outputs; expected one tensor of scores")
    return model


def scripted(module: Any, feeds: Mapping[str, np.ndarray]) -> bytes:
    """The module as a TorchScript file: scripted, or traced on these rows where its code cannot be scripted.

    Whether the trace answers as the module does, the proof says. Raises PackRefused when neither can be made.
    """
    given = tuple(torch.from_numpy(array) for array in feeds.values())
    with _quietly():
        try:
            made = torch.jit.script(module)
        except Exception:  # whatever scripting cannot read, tracing may
            made = _traced(module, given)
        written = io.BytesIO()
        torch.jit.save(torch.jit.freeze(made), written)
    return written.getvalue()


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first; the exporter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error).strip().partition("\n")[0][:200]
    return f"{type(error).__name__}: {said}"


def _traced(module: Any, given: tuple[Any, ...]) -> Any:
    try:
        return torch.jit.trace(module, given, check_trace=False)
    except Exception as error:  # the tracer raises everything there is
        said = str(error).strip().partition("\n")[0][:200]
        raise PackRefused(
            "torch.jit", f"it can be neither exported, scripted nor traced: {said}", "Write forward with plain tensors"
        ) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter prints, logs and warns of: its own insides, and libraries that it would like."""
    logs = [logging.getLogger(name) for name in _CHATTY]
    before = [log.level for log in logs]
    unread = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for log, level in zip(logs, before, strict=True):
                log.setLevel(level)
