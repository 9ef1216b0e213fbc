"""A bare ONNX model, opened."""

from __future__ import annotations

from typing import Any

from penstock.bundle.nets.bare import BareNet, bare_inputs, ends_of, read_bare
from penstock.bundle.nets.declared import OnnxModel
from penstock.bundle.nets.model import Opened


def opened(model: OnnxModel, sample: Any) -> Opened:
    """The graph as it is; what it becomes in a bundle has other ends only."""
    graph = read_bare(model.model)
    ends = ends_of(graph)
    frame, inputs = bare_inputs(graph, sample)
    made_by = f" by {graph.producer_name} {graph.producer_version}".rstrip() if graph.producer_name else ""
    return Opened(
        what=f"ONNX graph{made_by}",
        frame=frame,
        inputs=inputs,
        net=BareNet(graph, ends),
        export=lambda feeds: (graph, ends),
    )
