"""A replay's report as one self-contained HTML page: what was compared, the pictures, and the rows that differ most."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from penstock.jobs.replay import Question, Report
from penstock.jobs.result import MOVED_EDGES, Bins, Different, Moved, Result
from penstock.pictures import bars, figure, matrix, page, section, table


def page_of(report: Report) -> str:
    """The page. Whatever stands in the log or in names is escaped."""
    question, result = report.question, report.result
    parts = [
        section("What was compared", table(["", ""], about(report))),
        section("Rows", table(["", ""], rows(result))),
    ]
    if question.is_identical:
        parts.append(section("The same content", table(["", ""], identity(report))))
    return page(f"Replay of {question.model} on {named(question)}", *parts, *pictures(result, question.by))


def pictures(result: Result, by: str | None = None) -> list[str]:
    """What a comparison says, section by section; `by` is the field that rows are told apart by."""
    parts = []
    if result.labels:
        note = "Down: what the callers were told. Across: what this version says. Off the diagonal a decision flips."
        parts.append(
            section("Decisions", matrix(result.labels, result.labels, result.matrix, caption="Rows"), note=note)
        )
    if result.moved is not None:
        parts.append(_moved(result.moved))
    if result.scores is not None:
        parts.append(_scores(result.scores))
    if result.latency:
        note = (
            "The champion as it was measured while it served, this version alone on this machine, beside the traffic."
        )
        parts.append(section("Time of a row, µs", table(LATENCY, latency(result)), note=note))
    if result.segments:
        parts.append(section(f"By {by}", table(SEGMENTS, segments(result)), _segment_bars(result)))
    for title, reasons in (("Refusals", result.refusals), ("Failures", result.failures)):
        if reasons:
            parts.append(section(title, table(["why", "rows"], list(reasons.items()))))
    if result.largest:
        found = [[*different(one), _features(one)] for one in result.largest]
        parts.append(section("Largest differences", table([*LARGEST, "features"], found)))
    return parts


LATENCY = ["rows in the run", "runs", "champion, median", "p95", "this version, median", "p95"]
SEGMENTS = ["", "rows", "flips", "share", "mean |Δ|", "median", "p95", "largest"]
LARGEST = ["request", "row", "|Δ|", "champion", "this version"]


def named(question: Question) -> str:
    """The version, for people."""
    return f"version {question.version}" if question.version else f"a bundle that is not published ({question.digest})"


def about(report: Report) -> list[tuple[str, object]]:
    """What was asked, and what it took."""
    question, result = report.question, report.result
    found: list[tuple[str, object]] = [
        ("report", report.id),
        ("version", f"{named(question)}, {question.digest}"),
        ("answered by", ", ".join(f"version {name}: {count:,} rows" for name, count in result.rows.versions.items())),
        ("from", report.asked.since or "the first record"),
        ("until", report.asked.until or f"the start of the replay, {report.began_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("read as", "what was sent" if question.is_whole else "final features"),
        ("took", f"{report.took_s:.1f} s, {result.rows.scored / max(report.took_s, 1e-9):,.0f} rows/s"),
    ]
    if question.where:
        found.insert(5, ("where", ", ".join(f"{name} = {value}" for name, value in question.where)))
    if report.resumed:
        found.append(("interrupted", "it was, and went on where it was"))
    if report.unread:
        found.append(("unread", f"{report.unread:,} records are gone or broken: `penstock audit verify`"))
    return found


def rows(result: Result) -> list[tuple[str, object]]:
    """What became of the rows."""
    counts = result.rows
    share = "–" if counts.share is None else f"{counts.share:.2%}"
    found: list[tuple[str, object]] = [
        ("scored", f"{counts.scored:,} of {counts.rows:,} rows ({share} of those asked)")
    ]
    for what, count in (
        ("refused by this version, answered by the champion", counts.refused),
        ("failed in this version, answered by the champion", counts.failed),
        ("not scorable: a field is masked or missing", counts.lacking),
        ("without features: the policy kept none, or erased", counts.without_features),
        ("without an answer to compare: the policy kept none", counts.without_answer),
        ("answered by a fallback", counts.by_fallback),
        ("filtered out by --where", counts.filtered),
    ):
        if count:
            found.append((what, f"{count:,}"))
    found += [(f"masked: {name}", f"{count:,}") for name, count in sorted(counts.masked.items())]
    found += [(f"not in the records: {name}", f"{count:,}") for name, count in sorted(counts.missing.items())]
    return found


def identity(report: Report) -> list[tuple[str, object]]:
    """What the proof found."""
    found = report.result.identity
    bar = "bit for bit" if found.tolerance == 0 else f"labels equal, numbers to {found.tolerance:g} relative"
    return [
        ("proof", f"identical ({bar})" if report.is_identical else f"NOT identical ({bar})"),
        ("equal to the last bit", f"{found.bit_for_bit:,} of {report.result.pairs:,}"),
        ("different", f"{found.unequal:,}"),
    ]


def latency(result: Result) -> list[tuple[object, ...]]:
    """The table of times."""
    return [
        (
            f"{each.rows}" if each.rows < 3 else f"{each.rows // 2 + 1} to {each.rows}",
            each.timed,
            *(figure(value) for value in msgspec.structs.astuple(each)[2:]),
        )
        for each in result.latency
    ]


def segments(result: Result) -> list[tuple[object, ...]]:
    """The table of segments."""
    return [
        (
            one.name,
            f"{one.pairs:,}",
            f"{one.flips:,}",
            f"{one.flips / max(1, one.pairs):.2%}",
            *(figure(value) for value in msgspec.structs.astuple(one)[3:]),
        )
        for one in result.segments
    ]


def said(answer: dict[str, Any]) -> str:
    """An answer in one line."""
    numbers = answer.get("probabilities") or answer.get("values") or {}
    parts = [_number(answer[name]) for name in ("label", "value") if name in answer]
    inner = ", ".join(f"{name} {_number(value)}" for name, value in numbers.items())
    return " ".join([*parts, f"({inner})" if parts and inner else inner]).strip()


def different(one: Different) -> list[object]:
    """A row that differs, as a line of a table."""
    return [
        one.request_id,
        one.row,
        None if one.difference is None else f"{one.difference:.6g}",
        said(one.champion),
        said(one.candidate),
    ]


def _features(one: Different) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in one.features.items() if value is not None)


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _moved(moved: Moved) -> str:
    names = ["0", *(f"≤ {edge:g}" for edge in MOVED_EDGES[1:]), f"> {MOVED_EDGES[-1]:g}"]
    last = max(place for place, count in enumerate(moved.histogram) if count)
    exact = "exact" if moved.is_exact else "to 0.1 %"
    quantiles = [("mean", moved.mean), ("median", moved.p50), ("p90", moved.p90), ("p95", moved.p95)]
    quantiles += [("p99", moved.p99), ("p99.9", moved.p999), ("largest", moved.most)]
    return section(
        "How far scores moved, |Δ|",
        bars(names[: last + 1], {"rows": moved.histogram[: last + 1]}, caption="Rows by |Δ|"),
        table([name for name, _ in quantiles], [[f"{value:.6g}" for _, value in quantiles]]),
        note=f"Of each row the largest over its classes or targets; quantiles are {exact}.",
    )


def _scores(scores: Bins) -> str:
    edges = scores.edges
    middles = [(low + high) / 2 for low, high in pairwise(edges)] or edges
    shown = {"champion": scores.champion, "this version": scores.candidate}
    return section(
        "Scores",
        bars([figure(value) for value in middles], shown, caption="Rows by score"),
        note=f"PSI {scores.psi:.4f}, over tenths of the champion's scores.",
    )


def _segment_bars(result: Result) -> str:
    names = [one.name for one in result.segments]
    if result.labels:
        shares = [one.flips / max(1, one.pairs) for one in result.segments]
        return bars(names, {"flips": shares}, caption="Share of decisions that flip")
    return bars(names, {"|Δ|": [one.moved_mean for one in result.segments]}, caption="Mean |Δ|")
