"""Two workers against one, on a machine of two cores, of which the client needs one.

The rate of two workers on two cores cannot be seen where the client takes half a core or more. What can be seen is what
a request costs: the processor time, user and system, of all processes of the server, per answer. Two measures, of which
the smaller counts:

- *shared core*: both workers and the supervisor on the server's core, the client alone on the other; twice the rate of
  that, over the rate of one worker on that core;
- *two cores*: workers on both cores, beside them the client on whichever core is free; twice the processor time a
  request of one worker, over that of two. Caches and kernel locks are contended here as they will be, and the client
  disturbs both workers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from processes import Running, free_port, serving
from report import Spread, ratios
from targets import Target, penstock_target
from workloads import Workload
from wrk import Figures, wrk

BOTH = "0,1"


class Scaling(msgspec.Struct, frozen=True):
    """Ratios of two workers to one, both ways, and microseconds of processor time a request."""

    shared_core: Spread
    two_cores: Spread
    one_us: Spread
    shared_us: Spread
    two_us: Spread

    @property
    def least(self) -> Spread:
        """The smaller of both."""
        return min(self.shared_core, self.two_cores, key=lambda spread: spread.middle)


def scaling(workload: Workload, scratch: Path, *, rounds: int, seconds: int, connections: int) -> Scaling:
    """Measure one worker, two on one core and two on two, taking turns."""
    rates: dict[str, list[float]] = {"one": [], "shared": [], "two": []}
    costs_us: dict[str, list[float]] = {"one": [], "shared": [], "two": []}
    with contextlib.ExitStack() as stack:
        servers: dict[str, tuple[Target, Running, str]] = {}
        for name, workers, cores, client in (("one", 1, "0", "1"), ("shared", 2, "0", "1"), ("two", 2, BOTH, BOTH)):
            target = penstock_target(workload, free_port(), scratch / f"home-{name}", workers=workers)
            output = scratch / f"scaling-{name}.log"
            running = stack.enter_context(serving(target.command, output=output, answers=target.answers, cores=cores))
            servers[name] = (target, running, client)
        for round_no in range(rounds + 1):
            for name, (target, running, client) in servers.items():
                before_s = running.cpu_s()
                figures = _load(target, seconds if round_no else 1, connections, scratch, client)
                if round_no:
                    rates[name].append(figures.per_second)
                    costs_us[name].append((running.cpu_s() - before_s) / figures.answered * 1e6)
    shared = ratios(rates["shared"], rates["one"])
    two = ratios(costs_us["one"], costs_us["two"])
    return Scaling(_doubled(shared), _doubled(two), *(Spread.of(costs_us[name]) for name in ("one", "shared", "two")))


def _load(target: Target, seconds: int, connections: int, scratch: Path, client: str) -> Figures:
    return wrk(target.url, target.body, seconds=seconds, connections=connections, scratch=scratch, cores=client)


def _doubled(spread: Spread) -> Spread:
    return Spread(2 * spread.middle, 2 * spread.low, 2 * spread.high)
