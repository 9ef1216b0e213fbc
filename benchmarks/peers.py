"""`make bench-peers`: Penstock beside other servers, each in an environment of its own, one row, 16 connections.

Every peer serves the same model twice: by its own usual design around scikit-learn, and with the very graph that
Penstock serves. One core holds all processes of a server; the client has the other. A peer and Penstock take turns, and
ratios are of rounds that follow each other. What cannot be installed, started, or does not answer as the original does
is listed with its error. `--write` writes docs/peers.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from peer_list import COMMON, DESIGNS, PEERS, Case, Design, Peer
from processes import CLIENT_CORE, SERVER_CORE, Running, end_in_order, free_port, serving
from report import DOCS, Spread, machine, ratios, table, write_part
from targets import HERE, Target, penstock_target
from workloads import Workload, workloads
from wrk import Figures, require, wrk

REPORT = DOCS / "peers.md"
CONNECTIONS = 16
LAST_CHARS = 400


class Duel(msgspec.Struct, frozen=True):
    """A peer's figures and Penstock's, round by round; or why there are none."""

    workload: str
    peer: str
    design: str
    theirs: list[Figures] = []
    ours: list[Figures] = []
    error: str = ""

    @property
    def is_ahead(self) -> bool:
        """Whether Penstock has more throughput and a lower p99, by the medians of the ratios."""
        return self.throughput().middle > 1 and self.p99().middle > 1

    def throughput(self) -> Spread:
        """Penstock's requests/s in the peer's."""
        return ratios([f.per_second for f in self.ours], [f.per_second for f in self.theirs])

    def p99(self) -> Spread:
        """The peer's p99 in Penstock's."""
        return ratios([f.p99_ms for f in self.theirs], [f.p99_ms for f in self.ours])


def main() -> None:
    """Install what is missing, measure, print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of peers, with commas")
    parser.add_argument("--environments", type=Path, default=HERE.parent / ".venvs" / "peers")
    parser.add_argument("--write", action="store_true", help="write docs/peers.md")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    require("taskset", "util-linux")
    head = _head(said.rounds, said.seconds)
    wanted = [peer for peer in PEERS if not said.only or peer.package in said.only.split(",")]
    places = {peer.package: environment(peer, said.environments) for peer in wanted}
    duels: list[Duel] = []
    with tempfile.TemporaryDirectory() as name:
        for workload in workloads(Path(name)):
            duels += _duels(workload, wanted, places, Path(name), said)
    text = "\n".join([head, _versions(wanted, places), *_tables(duels), _verdict(duels), _errors(duels)])
    print(text)
    if said.write:
        write_part(REPORT, "make bench-peers", text)


def environment(peer: Peer, folder: Path) -> Path | str:
    """The peer's environment, made if it is not there for these very requirements; or the error of pip."""
    requirements = [*COMMON, *peer.requirements]
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:16]
    place = folder / peer.package
    stamp = place / f".made-of-{digest}"
    if stamp.exists():
        return place
    print(f"{peer.name}: making {place}", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
    if done.returncode != 0:
        return "pip: " + "\n".join(line for line in done.stderr.splitlines() if "ERROR" in line)[-LAST_CHARS:]
    stamp.touch()
    return place


def _duels(
    workload: Workload, wanted: Sequence[Peer], places: dict[str, Path | str], scratch: Path, said: argparse.Namespace
) -> list[Duel]:
    row_no, row = next((i, r) for i, r in enumerate(workload.rows) if None not in r.values())
    alone = msgspec.structs.replace(workload, rows=[row], expected=[workload.expected[row_no]])
    ours = penstock_target(alone, free_port(), scratch / f"home-{workload.bundle.manifest.name}")
    found = []
    with serving(ours.command, output=scratch / "penstock.log", answers=ours.answers) as penstock:
        ours.check(alone.expected)
        for peer in wanted:
            for design in DESIGNS:
                print(f"{workload.name}: {peer.name}, {DESIGNS[design]}", file=sys.stderr)
                try:
                    figures = _duel(peer, design, alone, places[peer.package], (ours, penstock), scratch, said)
                    found.append(Duel(workload.name, peer.name, DESIGNS[design], *figures))
                except Exception as error:  # whatever a peer does, the others are measured, and this is told
                    found.append(Duel(workload.name, peer.name, DESIGNS[design], error=str(error)))
    return found


def _duel(
    peer: Peer, design: Design, workload: Workload, place: Path | str, ours: tuple[Target, Running], scratch: Path,
    said: argparse.Namespace,
) -> tuple[list[Figures], list[Figures]]:  # fmt: skip
    if isinstance(place, str):
        raise RuntimeError(place)
    folder = scratch / f"{peer.package}-{design}-{workload.bundle.manifest.name}"
    folder.mkdir()
    case = Case(workload, design, workload.row, place / "bin", folder, free_port())
    if peer.prepare is not None:
        _run(peer.prepare(case), case)
    theirs = peer.target(case)
    servers = [(theirs, None), ours]
    figures: dict[str, list[Figures]] = {target.name: [] for target, _ in servers}
    with serving(
        theirs.command, output=folder / "output.log", answers=theirs.answers, environment=case.environment,
        within_s=peer.within_s,
    ):  # fmt: skip
        theirs.check(workload.expected)
        for round_no in range(said.rounds + 1):
            for target, running in servers:
                seconds = said.seconds if round_no else 1
                one = wrk(target.url, target.body, seconds=seconds, connections=CONNECTIONS, scratch=scratch)
                if round_no:  # the first is for warming up
                    figures[target.name].append(one)
                if running is not None:
                    running.settle()
    if not any(one.answered for one in figures[theirs.name]):
        raise RuntimeError("it answered nothing under load")
    return figures[theirs.name], figures["penstock"]


def _run(command: Sequence[str], case: Case) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **case.environment})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:2])}: {done.stderr[-LAST_CHARS:]}")


def _versions(wanted: Sequence[Peer], places: dict[str, Path | str]) -> str:
    ask = "import importlib.metadata as m, sys; print(*[m.version(name) for name in sys.argv[1:]])"
    names = ("scikit-learn", "onnxruntime", "numpy", "pandas")
    rows = []
    for peer in wanted:
        place = places[peer.package]
        if isinstance(place, str):
            rows.append([peer.name, "not installed", *[""] * len(names)])
            continue
        command = [str(place / "bin/python"), "-c", ask, peer.package, *names]
        rows.append([peer.name, *subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()])
    return "## Versions\n\n" + table(["peer", "version", *names], rows)


def _tables(duels: Sequence[Duel]) -> list[str]:
    found = []
    for workload in dict.fromkeys(duel.workload for duel in duels):
        own = [duel for duel in duels if duel.workload == workload and not duel.error]
        rows = [_row(duel) for duel in own]
        if own:
            all_ours = [figures for duel in own for figures in duel.ours]
            rows.insert(0, ["penstock", "the same graph", *_cells(all_ours), "", "", ""])
        head = ["server", "model", "requests/s", "p50 ms", "p99 ms", "failed", "penstock / it, requests/s",
                "it / penstock, p99", "penstock ahead"]  # fmt: skip
        found.append(f"## {workload}, one row a request, {CONNECTIONS} connections\n\n" + table(head, rows))
    return found


def _row(duel: Duel) -> list[str]:
    ahead = "yes" if duel.is_ahead else "**no**"
    spreads = [f"{duel.throughput().text('.1f')} ×", f"{duel.p99().text('.1f')} ×"]
    return [duel.peer, duel.design, *_cells(duel.theirs), *spreads, ahead]


def _cells(figures: Sequence[Figures]) -> list[str]:
    def middle(of: Callable[[Figures], float]) -> float:
        return Spread.of(of(one) for one in figures).middle

    rates = Spread.of(one.per_second for one in figures).text()
    return [rates, f"{middle(lambda f: f.p50_ms):.2f}", f"{middle(lambda f: f.p99_ms):.2f}",
            str(sum(one.failed for one in figures))]  # fmt: skip


def _verdict(duels: Sequence[Duel]) -> str:
    measured = [duel for duel in duels if not duel.error]
    behind = [f"{duel.peer} ({duel.design}, {duel.workload})" for duel in measured if not duel.is_ahead]
    said = "met" if not behind else f"**not met** beside {', '.join(behind)}"
    return f"Ahead of every peer measured ({len(measured)}) in throughput and p99: {said}.\n"


def _errors(duels: Sequence[Duel]) -> str:
    failed = [duel for duel in duels if duel.error]
    if not failed:
        return ""
    rows = [[duel.peer, duel.design, duel.workload, _in_a_cell(duel.error)] for duel in failed]
    return "## Not measured\n\n" + table(["peer", "model", "workload", "error"], rows)


def _in_a_cell(error: Any) -> str:
    return " ".join(str(error).replace("|", "/").split())[-LAST_CHARS:]


def _head(rounds: int, seconds: int) -> str:
    return f"""# Beside other servers

Made by `make bench-peers` ({machine()}): all processes of a server on core {SERVER_CORE}, the client (wrk) on core
{CLIENT_CORE}, {CONNECTIONS} connections, closed loop, {rounds} rounds of {seconds} s, a peer and Penstock taking turns,
each in an environment of its own. Every peer's answer was compared with the original's before it was measured
(at most 1e-6 apart). Penstock validates and records; the peers do neither. "predict_proba" is the peer's usual design
around scikit-learn; "the same graph" is the ONNX graph that Penstock serves, in the peer, one thread. A median of
{rounds} rounds (lowest to highest). The peers' code is in `benchmarks/peers/`.
"""


if __name__ == "__main__":
    main()
