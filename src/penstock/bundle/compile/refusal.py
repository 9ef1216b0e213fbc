"""Why a pipeline has no exact graph: the one exception of `compile/`, which names the step."""

from __future__ import annotations

from penstock.errors import BundleError


class NotCompilable(BundleError):
    """A step that cannot be written as a graph; `step` is its path in the pipeline, `reason` says why.

    The caller keeps the model native, and tells this reason.
    """

    code = "not_compilable"

    def __init__(self, step: str, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(f"{step}: {reason}")


def within(step: str, name: str) -> str:
    """The path of the step `name` inside `step`."""
    return f"{step} > {name}" if step else name
