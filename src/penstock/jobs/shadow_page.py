"""What a shadow has found so far: a value for programs, tables for people, and one self-contained HTML page."""

from __future__ import annotations

from datetime import datetime

import msgspec

from penstock.jobs import page
from penstock.jobs.comparison import Comparison
from penstock.jobs.result import Result
from penstock.jobs.shadow_state import Shadowed, ShadowState
from penstock.pictures import page as html_page
from penstock.pictures import section, table


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow's comparison with its champion as of `at`. Counts as in `ShadowState`."""

    of: Shadowed
    began_at: datetime
    at: datetime
    errors: int
    crashed: int
    unscorable: int
    skipped: int
    lag_s: float
    lag_records: int
    last_failure: str | None
    result: Result


def report_of(state: ShadowState) -> ShadowReport:
    """What a state says."""
    return ShadowReport(
        of=state.of,
        began_at=state.began_at,
        at=state.at,
        errors=state.errors,
        crashed=state.crashed,
        unscorable=state.unscorable,
        skipped=state.skipped,
        lag_s=state.lag_s,
        lag_records=state.lag_records,
        last_failure=state.last_failure,
        result=Comparison(state.comparison).result(),
    )


def about(report: ShadowReport) -> list[tuple[str, object]]:
    """Who shadows whom, and how it goes."""
    of = report.of
    found: list[tuple[str, object]] = [
        ("shadow", f"version {of.version}, {of.digest}"),
        ("champion", f"version {of.champion}"),
        ("calls since", f"{of.since:%Y-%m-%d %H:%M:%S} UTC"),
        ("as of", f"{report.at:%Y-%m-%d %H:%M:%S} UTC, {report.lag_s:.1f} s behind ({report.lag_records:,} records)"),
    ]
    if report.crashed:
        found.append(("calls over which its process died", f"{report.crashed:,}"))
    if report.skipped:
        found.append(("records passed unread, too far behind", f"{report.skipped:,}"))
    if report.last_failure is not None:
        found.append(("last failure", report.last_failure))
    return found


def page_of(report: ShadowReport) -> str:
    """The page. Whatever stands in the log or in names is escaped."""
    result, of = report.result, report.of
    return html_page(
        f"{of.model}: version {of.version} shadows version {of.champion}",
        section("Shadow and champion", table(["", ""], about(report))),
        section("Rows", table(["", ""], page.rows(result))),
        *page.pictures(result),
    )
