"""A rollout on a terminal: its ladder, the verdict, each guardrail with its evidence, the arms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from penstock.cli.screen import print_table, say

if TYPE_CHECKING:
    from penstock.control.answers import Judged, RolloutAnswer
    from penstock.control.rollouts import RolloutState
    from penstock.rollout.reading import Reading

_COLUMNS: Final = ("guardrail", "", "canary", "champion", "ratio (95 %)", "E / limit", "state")


def print_rollout(answer: RolloutAnswer) -> None:
    """All of it."""
    rollout = answer.rollout
    say(f"{rollout.id}: version {rollout.version} of {answer.model} against champion {rollout.champion}")
    say(f"  {ladder(rollout)}")
    say(f"  {_verdict(answer)}")
    for lagging in answer.waits_for:
        say(f"  waits for: {lagging}")
    judged = answer.judged
    readings = rollout.readings if judged is None else judged.readings
    if readings:
        print_table("", map(_row, _worth_showing(readings)), columns=_COLUMNS)
    if judged is not None:
        _print_arms(judged)


def ladder(rollout: RolloutState) -> str:
    """The stages in one line, the present one in brackets: `replay ✓ → [5 %] → 25 % → champion`."""
    plan = rollout.plan
    stages = ["replay"] * (plan.replay is not None) + ["shadow"] * (plan.shadow is not None)
    names = [*stages, *(f"{percent:g} %" for percent in plan.steps), "champion"]
    if rollout.status == "promoted":
        return " → ".join(f"{name} ✓" for name in names)
    at = stages.index(rollout.stage) if rollout.stage in stages else len(stages) + rollout.step
    marked = [f"{name} ✓" for name in names[:at]]
    marked.append(f"[{names[at]}]" if rollout.is_running else f"{names[at]} ✗")
    return " → ".join([*marked, *names[at + 1 :]])


def _verdict(answer: RolloutAnswer) -> str:
    rollout = answer.rollout
    if not rollout.is_running:
        return f"{rollout.status}: {'; '.join(one.text for one in rollout.why)}"
    if rollout.held_by is not None and (answer.action is None or answer.action.verdict != "hold"):
        return f"hold: held by {rollout.held_by}"  # since the last look
    if answer.action is None:
        return "nobody judges it now: it goes on when `penstock serve` runs on this home"
    why = "; ".join(one.text for one in answer.action.why)
    return f"{answer.action.verdict}: {why}" if why else answer.action.verdict


def _worth_showing(readings: tuple[Reading, ...]) -> Iterator[Reading]:
    """Those that decide, and those that something has happened to."""
    for reading in readings:
        if reading.kind == "hard" or reading.state == "alarm" or reading.canary_events or reading.champion_events:
            yield reading


def _row(reading: Reading) -> tuple[object, ...]:
    upper = "∞" if reading.upper is None else f"{reading.upper:.2f}"
    ratio = "" if reading.ratio is None else f"{reading.ratio:.2f} ({reading.lower:.2f} to {upper})"
    needs = f", {reading.needed:,} more" if reading.state == "open" and reading.needed else ""
    return (
        reading.name,
        reading.kind,
        f"{reading.canary_events:,} / {reading.canary_n:,}",
        f"{reading.champion_events:,} / {reading.champion_n:,}",
        ratio,
        f"{reading.e:.3g} / {reading.limit:.3g}",
        f"{reading.state}{needs}",
    )


def _print_arms(judged: Judged) -> None:
    said = f"requests that count: canary {judged.canary_n:,}, champion {judged.champion_n:,}"
    if judged.left_out:
        said += f"; {judged.left_out:,} were placed by hand and do not"
    if judged.waiting:
        said += f"; {judged.waiting:,} wait for their labels"
    if judged.lag.records:
        said += f"; {judged.lag.records:,} records ({judged.lag.seconds:.1f} s) are still to be read"
    say(said)
    for name, interval in judged.intervals.items():
        if interval.lower is not None and interval.upper is not None:
            between = f"{interval.lower:.4g} to {interval.upper:.4g}, at any time"
            say(f"{name}: canary minus champion {interval.difference:.4g} ({between})")
