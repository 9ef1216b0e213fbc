"""`rollout aa`: how often a rollout of the champion against itself would have been stopped, over recorded calls."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.asking import Config, Home, Json, Name
from penstock.cli.screen import print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.jobs.aa import AaReport, Rate

_TOLD_S = 2.0


def aa(
    *,
    name: Name,
    days: Annotated[float, typer.Option(min=0.001, help="From how many days ago on.")] = 7.0,
    runs: Annotated[int, typer.Option(min=1, max=100_000, help="How often the calls are split anew.")] = 100,
    weight: Annotated[float, typer.Option(min=0.01, max=99.0, help="The canary's share, in percent.")] = 10.0,
    calls: Annotated[
        int, typer.Option(min=100, max=200_000, help="Of the calls since then, the first so many.")
    ] = 10_000,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """The A/A self-test: recorded calls of the champion, split at random between two arms that are the same.

    Each alarm is a false one; how often there are some stands beside what is allowed. Exits 1 with too little
    traffic, or where the rate is above what is allowed by more than chance explains. It sees what callers do, not what
    a second version does to the machine. Example: `penstock rollout aa churn --days 2 --runs 200`
    """
    from penstock.audit.extra import sealed_lines
    from penstock.audit.follow import Follower
    from penstock.controller.versions import find_version
    from penstock.jobs.aa import least_calls, read_calls, report_of
    from penstock.routing import CHAMPION
    from penstock.settings import from_environment

    settings = from_environment(flags={} if home is None else {"home": home}, file=config).settings
    place = Path(settings.home)
    if not (place / "audit").is_dir():
        raise FileNotFoundError(f"{place / 'audit'}: there is no audit log in this home")
    champion = find_version(settings, name, CHAMPION)
    follower = Follower(place / "audit", sealed_lines=sealed_lines)
    since = datetime.now(UTC) - timedelta(days=days)
    found, moments = read_calls(follower, name, champion.digest, since=since, most=calls, tell=_tell_reading)
    least = least_calls(weight)
    if len(found) < least:
        sys.stderr.write(
            f"too little traffic: version {champion.number} of {name} has {len(found):,} recorded calls in {days:g} "
            f"days, and {least:,} are the least at {weight:g} %: look further back (--days) or weigh more (--weight)\n"
        )
        raise typer.Exit(1)
    report = report_of(found, moments, model=name, digest=champion.digest, weight=weight, runs=runs, tell=_teller(runs))
    if json:
        print_json(report)
    else:
        _print(report, champion.number)
    if any(one.lower > one.allowed for one in (report.aborts, report.holds)):
        raise typer.Exit(1)


def _tell_reading(records: int, calls: int) -> None:
    sys.stderr.write(f"{records:,} records read, {calls:,} calls found\n")
    sys.stderr.flush()


def _teller(runs: int) -> Callable[[int], None]:
    """Says on stderr how far it is, every two seconds."""
    began_s = told_s = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= _TOLD_S and done < runs:
            left_s = (now_s - began_s) / done * (runs - done)
            sys.stderr.write(f"{done:,} of {runs:,} runs, about {left_s:,.0f} s more\n")
            sys.stderr.flush()
            told_s = now_s

    return tell


def _print(report: AaReport, version: int) -> None:
    say(
        f"{report.model}: {report.calls:,} calls of version {version} by {report.callers:,} callers, "
        f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    )
    say(
        f"split {report.runs:,} times at random, {report.weight:g} % on a canary that is the champion itself; looked "
        f"at after every {report.look_calls:,} calls"
    )
    rows = [_row("false aborts", report.aborts), _row("false holds", report.holds)]
    rows.append(_row("false differences of means", report.differences))
    print_table("", rows, columns=("", "runs", "rate (95 %)", "allowed", "which"))


def _row(what: str, rate: Rate) -> tuple[object, ...]:
    by = ", ".join(f"{name} {times}" for name, times in rate.by.items())
    between = f"{rate.rate:.2%} ({rate.lower:.2%} to {rate.upper:.2%})"
    return what, f"{rate.times:,} of {rate.runs:,}", between, f"{rate.allowed:.1%}", by
