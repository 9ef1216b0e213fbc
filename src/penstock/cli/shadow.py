"""`shadow`: what the version that shadows the champion would have said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.asking import Config, Home, Json, Name
from penstock.cli.replay import print_result, print_rows
from penstock.cli.screen import print_json, print_table, say

if TYPE_CHECKING:
    from penstock.control.answers import ShadowAnswer


def shadow(
    *,
    name: Name,
    on: Annotated[
        int | None, typer.Option("--on", metavar="VERSION", help="Of which version. [default: the latest shadow]")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also a page of its own, with pictures.")] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """What a shadow has found so far beside its champion, out of the home of this machine; also once its alias is gone.

    `penstock alias NAME shadow VERSION` begins one, `penstock model NAME` shows how it goes.

    Example: `penstock shadow churn --html churn.html`
    """
    from penstock.errors import Unknown
    from penstock.jobs import page
    from penstock.jobs.shadow_page import about, page_of, report_of
    from penstock.jobs.shadow_state import read_state, shadows_of
    from penstock.settings import from_environment

    settings = from_environment(flags={} if home is None else {"home": home}, file=config).settings
    place = Path(settings.home)
    versions = shadows_of(place, name)
    version = on if on is not None else next(iter(versions), None)
    state = None if version is None else read_state(place, name, version)
    if state is None:
        there = f"there are {', '.join(map(str, versions))}" if versions else "none has shadowed here"
        raise Unknown(f"no shadow {'of' if on is None else f'{on} of'} {name!r} in {place}; {there}")
    report = report_of(state)
    if html is not None:
        html.write_text(page_of(report), encoding="utf-8")
    if json:
        print_json(report)
        return
    print_table("", [*about(report), *page.rows(report.result)], columns=["", ""])
    print_result(report.result)
    print_rows("\nLargest differences", [page.different(one) for one in report.result.largest[:10]])
    if html is not None:
        say(f"shown in {html}")


def line_of(shadow: ShadowAnswer) -> str:
    """How a shadow goes, in one line of `penstock model`."""
    state = shadow.state + (f" ({shadow.why})" if shadow.why else "")
    differs = "" if shadow.disagreement is None else f" ({shadow.disagreement:.2%} disagree)"
    counts = [f"{shadow.pairs:,} pairs{differs}", f"{shadow.errors:,} errors", f"{shadow.lag_s:.1f} s behind"]
    for what, count in (
        ("skipped", shadow.skipped),
        ("unscorable", shadow.unscorable),
        ("crashes", shadow.crashed),
        ("deaths", shadow.deaths),
    ):
        if count:
            counts.append(f"{count:,} {what}")
    if shadow.at is not None:
        counts.append(f"as of {shadow.at:%H:%M:%S} UTC")
    if shadow.last_failure:
        counts.append(f"last failure: {shadow.last_failure}")
    return f"version {shadow.version} shadows version {shadow.champion}: {state}, {', '.join(counts)}"
