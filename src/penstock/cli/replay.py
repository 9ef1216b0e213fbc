"""`audit replay`: recorded calls, scored again by another version or as a proof by the same one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.asking import Config, Home, Json, Name
from penstock.cli.audit import moment_of, pairs_of
from penstock.cli.screen import console, print_json, print_table, say
from penstock.cli.times import shown

if TYPE_CHECKING:
    from penstock.controller.replay import Going, Resumes
    from penstock.controller.versions import FoundVersion
    from penstock.jobs.replay import Report
    from penstock.jobs.result import Result
    from penstock.settings import Settings

_TOLD_S = 2.0


On = Annotated[
    str, typer.Option("--on", metavar="VERSION", help="A number, an alias, `latest`, a digest, or a bundle's path.")
]
Since = Annotated[str | None, typer.Option(help='From when on: 7d, "2h ago", 2026-11-20. [default: all]')]
Until = Annotated[str | None, typer.Option(help="Up to when, not included. [default: now]")]
Where = Annotated[
    list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only rows with this value; may be repeated.")
]
By = Annotated[str | None, typer.Option(metavar="FIELD", help="Tell rows apart by this feature.")]
Whole = Annotated[
    bool, typer.Option("--whole", help="From what was sent, through the version's own defaults and mappings.")
]
ExpectIdentical = Annotated[
    bool,
    typer.Option(
        "--expect-identical", help="Only what this very content had answered; exit 1 unless it answers the same."
    ),
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also a page of its own, with pictures.")]
BatchRows = Annotated[int, typer.Option(min=1, max=100_000, help="Rows of one run.")]
Again = Annotated[bool, typer.Option("--again/--resume", help="Begin anew, or go on with what was interrupted.")]


def replay(
    *,
    name: Name,
    on: On,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    by: By = None,
    whole: Whole = False,
    expect_identical: ExpectIdentical = False,
    html: Html = None,
    batch_rows: BatchRows = 1000,
    again: Again = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Score what was recorded with another version, and compare: flips, |Δ|, refusals, failures, time.

    Examples: `penstock audit replay churn --on candidate --since 7d --by region --html churn.html`;
    `penstock audit replay churn --on champion --expect-identical`
    """
    from penstock.controller.replay import Task, replayed
    from penstock.jobs.replay import Question

    settings = _settings(home, config)
    moments = (moment_of(since, "--since"), moment_of(until, "--until"))
    conditions = pairs_of(where)
    found = _found(settings, name, on)
    question = Question(
        model=name,
        version=found.number,
        digest=found.digest,
        since=since,
        until=until,
        where=conditions,
        by=by,
        is_whole=whole,
        is_identical=expect_identical,
        decision=None if expect_identical else found.decision,
    )
    path = str(found.path.absolute())
    task = Task(question=question, path=path, settings=settings, moments=moments, batch_rows=batch_rows, again=again)
    report = replayed(task, _teller())
    _show(report, Path(settings.home), html, as_json=json)
    if expect_identical and not report.is_identical:
        raise typer.Exit(1)


def _settings(home: str | None, config: Path | None) -> Settings:
    from penstock.settings import from_environment

    settings = from_environment(flags={} if home is None else {"home": home}, file=config).settings
    if not Path(settings.home, "audit").is_dir():
        raise FileNotFoundError(f"{Path(settings.home, 'audit')}: there is no audit log in this home")
    return settings


def _found(settings: Settings, name: str, on: str) -> FoundVersion:
    """The bundle that is meant: of the repository, or a path."""
    from penstock.bundle.manifest import manifest_of
    from penstock.controller.versions import FoundVersion, find_version

    path = Path(on)
    if path.suffix == ".penstock" or "/" in on:
        return FoundVersion(number=0, digest=manifest_of(path).content_digest, path=path, decision=None)
    return find_version(settings, name, on)


def _show(report: Report, home: Path, html: Path | None, *, as_json: bool) -> None:
    from penstock.jobs.page import page_of
    from penstock.jobs.replay import report_path

    if html is not None:
        html.write_text(page_of(report), encoding="utf-8")
    if as_json:
        print_json(report)
        return
    _print(report)
    say(f"kept in {report_path(home, report)}" + (f", shown in {html}" if html is not None else ""))


def _teller() -> Callable[[Resumes | Going], None]:
    """Says on stderr how it goes, every two seconds."""
    from penstock.controller.replay import Resumes

    told_s = time.monotonic()

    def tell(told: Resumes | Going) -> None:
        nonlocal told_s
        if isinstance(told, Resumes):
            line = (
                f"goes on with the replay begun {shown(told.began_at)}: {told.pairs:,} rows are scored (--again: anew)"
            )
        elif time.monotonic() - told_s < _TOLD_S:
            return
        else:
            how = told.progress
            line = f"{how.share:.0%} of the records, {how.pairs:,} rows, {how.rows_s:,.0f} rows/s"
            told_s = time.monotonic()
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    return tell


def _print(report: Report) -> None:
    from penstock.jobs import page

    result = report.result
    print_table("", [*page.about(report), *page.rows(result)], columns=["", ""])
    if report.question.is_identical:
        print_table("\nThe same content", page.identity(report), columns=["", ""])
        print_rows("\nThe first rows that differ", [page.different(one) for one in result.identity.first])
    print_result(result, report.question.by)
    if not report.question.is_identical:
        print_rows("\nLargest differences", [page.different(one) for one in result.largest[:10]])


def print_result(result: Result, by: str | None = None) -> None:
    """What a comparison says, but for single rows; `by` is the field that rows are told apart by."""
    from penstock.jobs import page

    if result.labels:
        cells = [(name, *row) for name, row in zip(result.labels, result.matrix, strict=True)]
        print_table("\nDecisions: the champion's down, this version's across", cells, columns=["", *result.labels])
        console().print(f"{result.flips:,} flips ({result.disagreement or 0:.3%})")
    if result.moved is not None:
        moved = msgspec.structs.asdict(result.moved)
        names = ["mean", "p50", "p90", "p95", "p99", "p999", "most"]
        print_table("\n|Δ| of the score", [[f"{moved[name]:.6g}" for name in names]], columns=names)
    if result.scores is not None:
        console().print(f"PSI of the scores: {result.scores.psi:.4f}")
    if result.latency:
        print_table("\nTime of a row, µs", page.latency(result), columns=page.LATENCY)
    if result.segments:
        print_table(f"\nBy {by}", page.segments(result), columns=page.SEGMENTS)
    for title, reasons in (("Refusals", result.refusals), ("Failures", result.failures)):
        if reasons:
            print_table(f"\n{title}", reasons.items(), columns=["why", "rows"])


def print_rows(title: str, rows: list[list[object]]) -> None:
    """Rows that differ, as `page.different` has them."""
    from penstock.jobs import page

    if rows:
        print_table(title, rows, columns=page.LARGEST)
