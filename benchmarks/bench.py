"""`make bench`: Penstock beside the null handler of the same server and beside the usual design, in one run.

One core for the server, one for the client (wrk, closed loop, 64 connections). The servers take turns; ratios are of
rounds that follow each other, so that a slow minute of the machine hits all of them. `--write` puts the tables into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from load import CONNECTIONS, Figures, free_port, server, wrk
from penstock.runtime import Model
from stages import stages
from workloads import Workload, workloads

HERE = Path(__file__).parent
REPORT = HERE.parent / "docs" / "performance.md"
BARS = {"iris forest": 0.55, "12-column pipeline": 0.40}
USUAL_BAR = 60


class Target(msgspec.Struct, frozen=True):
    """A server under load: its name, the URL and the body to post."""

    name: str
    url: str
    body: bytes


def main() -> None:
    """Run everything, print the tables, and with `--write` keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts = [_head(options)]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for workload in workloads(scratch):
            parts.append(_throughput(workload, scratch, options))
            parts.append(_stages(workload, scratch))
    text = "\n".join(parts)
    print(text)
    if options.write:
        REPORT.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def running(workload: Workload, scratch: Path) -> Iterator[list[Target]]:
    """The three servers, from when they answer."""
    ports = [free_port() for _ in range(3)]
    row = msgspec.json.encode(workload.row)
    own = msgspec.json.encode({"instances": [workload.row]})
    flat = msgspec.json.encode({f"f{i}": value for i, value in enumerate(workload.row.values())})
    serve = ["-m", "penstock", "serve", "--bundle", str(workload.bundle.path), "--home", str(scratch / "home")]
    with (
        server(str(HERE / "servers/null.py"), str(ports[0]), port=ports[0], log=scratch / "null.log"),
        server(*serve, "--port", str(ports[1]), port=ports[1], log=scratch / "penstock.log"),
        server(
            str(HERE / "servers/usual.py"), str(ports[2]), str(workload.pickled), port=ports[2],
            log=scratch / "usual.log",
        ),
    ):  # fmt: skip
        name = workload.bundle.manifest.name
        yield [
            Target("null handler", f"http://127.0.0.1:{ports[0]}/", row),
            Target("penstock", f"http://127.0.0.1:{ports[1]}/v1/models/{name}/predict", own),
            Target("FastAPI + predict_proba", f"http://127.0.0.1:{ports[2]}/predict", flat),
        ]


def _throughput(workload: Workload, scratch: Path, options: argparse.Namespace) -> str:
    measured: dict[str, list[Figures]] = {}
    with running(workload, scratch) as targets:
        for target in targets:
            wrk(target.url, target.body, seconds=1, scratch=scratch)
        for _ in range(options.rounds):
            for target in targets:
                figures = wrk(target.url, target.body, seconds=options.seconds, scratch=scratch)
                measured.setdefault(target.name, []).append(figures)
    null, own, usual = measured.values()
    lines = [
        f"## {workload.name}, one row a request",
        "",
        "| server | requests/s, median (lowest to highest) | p50 ms | p99 ms | failed |",
        "| --- | --- | --- | --- | --- |",
        *[_line(name, rounds) for name, rounds in measured.items()],
        "",
        _ratio("penstock / null handler", own, null, bar=BARS[workload.name], unit="%"),
        _ratio("penstock / FastAPI + predict_proba", own, usual, bar=USUAL_BAR, unit="×"),
        "",
    ]
    return "\n".join(lines)


def _line(name: str, rounds: list[Figures]) -> str:
    rates = sorted(figures.per_second for figures in rounds)
    p50 = statistics.median(figures.p50_ms for figures in rounds)
    p99 = statistics.median(figures.p99_ms for figures in rounds)
    failed = sum(figures.failed for figures in rounds)
    spread = f"{statistics.median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})"
    return f"| {name} | {spread} | {p50:.2f} | {p99:.2f} | {failed} |"


def _ratio(name: str, ours: list[Figures], theirs: list[Figures], *, bar: float, unit: str) -> str:
    ratios = sorted(a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True))
    middle = statistics.median(ratios)
    scale = 100 if unit == "%" else 1
    low, mid, high, wanted = (f"{value * scale:.0f} {unit}" for value in (ratios[0], middle, ratios[-1], bar))
    verdict = "met" if middle >= bar else "NOT met"
    return f"- {name}: **{mid}** ({low} to {high}); the bar is {wanted}: {verdict}"


def _stages(workload: Workload, scratch: Path) -> str:
    model = Model.load(workload.bundle)
    lines = [
        f"Stages of the hot path, {workload.name} (µs a request, medians of 9):",
        "",
        "| stage | ticks of 1 | ticks of 16 |",
        "| --- | --- | --- |",
        *[f"| {name} | {one:.2f} | {many:.2f} |" for name, one, many in stages(model, workload.row, scratch)],
        "",
    ]
    return "\n".join(lines)


def _head(options: argparse.Namespace) -> str:
    return "\n".join(
        [
            "# Performance",
            "",
            f"Made by `make bench` ({datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
            f"{platform.machine()}): one core for the server, one for wrk, {CONNECTIONS} connections, closed loop, "
            f"{options.rounds} rounds of {options.seconds} s, servers taking turns. Validation and the audit log are "
            "on. The machine is shared and noisy: read the ratios, not the rates.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
