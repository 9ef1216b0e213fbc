"""Exact compilation: a fitted pipeline to one ONNX graph, and the proof that it answers as the original does."""

from penstock.bundle.compile.blame import Blame, blame
from penstock.bundle.compile.compare import Difference
from penstock.bundle.compile.compiled import Compiled, compile_graph
from penstock.bundle.compile.proof import Proof, Proven, Thresholds, prove
from penstock.bundle.compile.refusal import NotCompilable

__all__ = [
    "Blame",
    "Compiled",
    "Difference",
    "NotCompilable",
    "Proof",
    "Proven",
    "Thresholds",
    "blame",
    "compile_graph",
    "prove",
]
