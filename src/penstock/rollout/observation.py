"""What the evidence is made of: one request as it was answered, and what came true of it.

Made from audit records by an adapter outside of this package, which knows neither the log nor the control plane.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

ArmName: TypeAlias = Literal["canary", "champion"]


class Placed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a request went, and by which chance.

    - `weight`, `champion_weight`: shares of all traffic, 0 to 1, of the canary and of the champion, in force when the
      request was placed.
    - `key_hash`: 63 bits of a keyed hash of the caller's key, *independent of the hash that chose the bucket*; None
      for a request without a key.
    - `placed_by`: "hash", or what else chose the arm ("rule", "header", "version", "alias"): such a request takes no
      part in any evidence.
    """

    arm: ArmName
    weight: float
    champion_weight: float
    key_hash: int | None = None
    placed_by: str = "hash"


class Observation(Placed, frozen=True, kw_only=True, gc=False):
    """One request as it was answered.

    - `at`: when the answer left, in seconds since 1970; within a worker it never falls by much.
    - `worker`: which process ran it, such as `"quay/0"`.
    - `is_error`: answered by a failure of ours; `is_refused_output`: the model's answer broke the schema of outputs.
    - `batch_rows`, `run_ms`: of the run that the request was a part of; 0 where there was none (an error, a cached
      answer), which then says nothing of `slow`.
    - `score`: the request's one number (the first row's probability or value); None without one.
    - `values`: metrics of the operator's own, by name.
    """

    at: float
    worker: str = ""
    is_error: bool = False
    is_refused_output: bool = False
    missed_deadline: bool = False
    batch_rows: int = 0
    run_ms: float = 0.0
    score: float | None = None
    out_of_range: bool = False
    fallback: bool = False
    values: dict[str, float] = {}


class Outcome(Placed, frozen=True, kw_only=True, gc=False):
    """What came true of one request, looked at when it was mature; made for *every* request, labelled or not.

    - `served_at`, `labelled_at`: seconds since 1970; `labelled_at` is None as long as there is no label.
    - `loss`: how wrong the answer was (0 or 1, Brier, absolute error); None without a label.
    - `values`: metrics that come with labels, such as `conversion` or `revenue`.
    """

    served_at: float
    labelled_at: float | None = None
    loss: float | None = None
    values: dict[str, float] = {}
