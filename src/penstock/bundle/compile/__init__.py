"""Exact compilation: a fitted pipeline to one ONNX graph, and the proof that it answers as the original does."""
