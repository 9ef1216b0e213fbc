"""A/A on real processes: an identical version, callers that fill the ticks, and nothing ever speaks against it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from governed import ADA, Governed, governed
from loads import IRIS, wait_for
from penstock.control.answers import RolloutAnswer
from penstock.control.changes import Rolled
from penstock.rollout.declared import Plan
from rows import IRIS_ROW
from variants import variant

RUNS = int(os.environ.get("PENSTOCK_TEST_AA", "0"))
CALLERS = 32
ROWS = 500
PLAN = Plan(steps=(1.0, 5.0, 20.0, 50.0), step_s=5.0, replay=None, shadow=None)
RUN_S = 300.0


@pytest.fixture(scope="module")
def serving(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Two workers that serve `iris`, and a second version of the same model, asked without a pause."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("needs wrk")
    out = tmp_path_factory.mktemp("versions")
    with governed(tmp_path_factory.mktemp("serving") / "home") as made:
        for without in range(2):
            made.publish(variant(bundles["iris"], out, without))
        wait_for(lambda: 1 == made.served("iris"), "the champion")
        # It gives way: callers of a real server are elsewhere, and what they ask is to be served and read.
        line = [
            "nice",
            "-n",
            "10",
            wrk,
            "-t1",
            f"-c{CALLERS}",
            "-d2h",
            "-s",
            str(script(out / "ask.lua")),
            made.server.url + IRIS,
        ]
        with subprocess.Popen(line, stdout=subprocess.DEVNULL) as asking:
            yield made
            asking.terminate()


def script(path: Path) -> Path:
    """What wrk asks: rows that differ, one after the other."""
    rows = [{name: round(value + number % 97 / 20, 3) for name, value in IRIS_ROW.items()} for number in range(ROWS)]
    bodies = "\n".join(f"bodies[#bodies + 1] = {json.dumps(json.dumps({'instances': [row]}))}" for row in rows)
    path.write_text(f"""
local bodies, at = {{}}, 0
{bodies}
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function() at = at % #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
""")
    return path


class Highest:
    """The highest E of each guardrail as a share of its limit, at any look."""

    def __init__(self) -> None:
        self.shares: defaultdict[str, float] = defaultdict(float)

    def see(self, answer: RolloutAnswer) -> None:
        """One look."""
        for one in () if answer.judged is None else answer.judged.readings:
            name = f"{one.kind}: {one.name}"
            self.shares[name] = max(self.shares[name], one.e / one.limit)

    def lines(self, least: float = 0.0) -> Sequence[str]:
        """For people, the highest first."""
        ordered = sorted(self.shares.items(), key=lambda item: -item[1])
        return [f"{name} {share:.4f}" for name, share in ordered if share > least]


@pytest.mark.skipif(not RUNS, reason="long: `make soak-aa` runs it, 20 times half a minute")
def test_an_identical_version_is_never_held(serving: Governed) -> None:
    """In each of the runs it goes from 1 to 50 % and becomes champion: no abort, no hold, no call that fails."""
    highest, requests, spoken = Highest(), 0, []
    for run in range(RUNS):
        champion = serving.model("iris").aliases["champion"]
        by = msgspec.structs.replace(ADA, reason="the same again", is_forced=True)
        id = serving.operations.start_rollout("iris", 3 - champion, PLAN, by).rollout.id

        def has_ended() -> bool:
            answer = serving.operations.rollout("iris")
            highest.see(answer)
            return not answer.rollout.is_running or bool(answer.rollout.held)

        wait_for(has_ended, f"the end of run {run}", RUN_S)
        answer = serving.operations.rollout("iris")
        events = [one.change for one in serving.operations.history("iris").events if isinstance(one.change, Rolled)]
        spoken += [(run, one.what, one.why) for one in events if one.rollout == id and one.what in ("hold", "abort")]
        if answer.rollout.is_running:
            serving.operations.tell_rollout("iris", "abort", by)
        n = 0 if answer.judged is None else answer.judged.canary_n
        requests += n
        took_s = ((answer.rollout.ended or answer.rollout.since) - answer.rollout.started).total_seconds()
        all_n = n + (0 if answer.judged is None else answer.judged.champion_n)
        lag_s = 0.0 if answer.judged is None else answer.judged.lag.seconds
        told = f"run {run + 1}: {answer.rollout.status} after {took_s:.0f} s, {n:,} of {all_n:,} requests the canary's"
        sys.stdout.write(f"\n{told}, read up to {lag_s:.1f} s before; {'; '.join(highest.lines(0.05))}")
        sys.stdout.flush()
        assert n > 0.03 * all_n, "a step was left before its requests were read"
    sys.stdout.write(f"\n{requests} canary requests; highest E over its limit: {'; '.join(highest.lines())}\n")
    assert [] == spoken
    assert "Traceback" not in serving.server.text
