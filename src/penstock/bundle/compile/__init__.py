"""Exact compilation: a fitted pipeline to one ONNX graph, and the proof that it answers as the original does."""

from penstock.bundle.compile.blame import blame, last_step
from penstock.bundle.compile.compiled import Compiled, compile_graph
from penstock.bundle.compile.proof import Proven, prove
from penstock.bundle.compile.refusal import NotCompilable

__all__ = ["Compiled", "NotCompilable", "Proven", "blame", "compile_graph", "last_step", "prove"]
