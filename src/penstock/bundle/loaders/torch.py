"""PyTorch modules as they are: the original in the proof of a packed module. The home of torch at run time.

Nothing is loaded from a file here: a module's own file is a pickle. What a bundle holds of a module is a graph, or a
TorchScript file (`torchscript.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.errors import MissingExtra, ModelFailed

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "torch", "A PyTorch model") from error


class TorchNet:
    """A module in evaluation mode on the CPU; its inputs are given by position, in the order of the feeds.

    Thread-safe as long as the module's `forward` is. Its sums may differ in the last bits with the number of threads.
    """

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The module's only output as `scores`. Raises ModelFailed when it raises, or answers no single tensor."""
        try:
            with torch.inference_mode():
                scores = self.module(*(torch.from_numpy(array) for array in feeds.values()))
        except Exception as error:  # whatever a module raises on a row is that module's failure
            raise ModelFailed.raised("The module refused the rows:", error) from error
        if not isinstance(scores, torch.Tensor):
            raise ModelFailed(f"The module answers a {type(scores).__name__}; expected one tensor of scores")
        return {"scores": scores.detach().numpy()}


def float_dtype(module: Any) -> str:
    """`float64` for a module whose parameters are doubles, else `float32`."""
    floats = [each.dtype for each in [*module.parameters(), *module.buffers()] if each.is_floating_point()]
    return "float64" if floats and all(dtype == torch.float64 for dtype in floats) else "float32"
