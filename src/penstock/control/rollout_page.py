"""The report of a rollout as one self-contained HTML page: what was decided and why, and the evidence over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.control.answers import Judged, RolloutAnswer, Sample
from penstock.control.changes import Event, Rolled
from penstock.pictures import Line, escaped, lines, page, section, table
from penstock.rollout.reading import Reading

_SHOWN_RATIO = 10.0


def page_of(answer: RolloutAnswer, events: Sequence[Event] = ()) -> str:
    """The page. `events` are the model's; those of this rollout are told."""
    rollout, judged = answer.rollout, answer.judged
    why = rollout.why if answer.action is None or not rollout.is_running else answer.action.why
    told = "; ".join(one.text for one in why)
    parts = [
        section(
            f"{rollout.status} at {rollout.stage} {rollout.step + 1 if rollout.stage == 'step' else ''}".strip(),
            note=f"{told} Begun {rollout.started:%Y-%m-%d %H:%M:%S} UTC by {rollout.who.name}.",
        ),
        section("Guardrails", readings_table(rollout.readings if judged is None else judged.readings)),
    ]
    if judged is not None:
        parts += [section("Evidence over time", *_pictures(judged)), section("Means", _means(judged))]
    mine = [event for event in events if isinstance(event.change, Rolled) and event.change.rollout == rollout.id]
    if mine:
        parts.append(section("What happened", table(("at (UTC)", "who", "what", "why"), [_told(one) for one in mine])))
    return page(f"Rollout {rollout.id}: version {rollout.version} against champion {rollout.champion}", *parts)


def readings_table(readings: Sequence[Reading]) -> str:
    """Guardrails with their evidence."""
    columns = ("guardrail", "kind", "canary", "champion", "ratio", "95 %", "E", "limit", "state")
    return table(
        columns,
        [
            (
                one.name,
                one.kind,
                f"{one.canary_events:,} / {one.canary_n:,}",
                f"{one.champion_events:,} / {one.champion_n:,}",
                None if one.ratio is None else round(one.ratio, 3),
                f"{one.lower:.3g} to {'∞' if one.upper is None else format(one.upper, '.3g')}",
                round(one.e, 3),
                round(one.limit, 1),
                one.state,
            )
            for one in readings
        ],
    )


def _pictures(judged: Judged) -> Iterator[str]:
    """For each guardrail with events the interval of its ratio, over the canary's requests."""
    for name in dict.fromkeys(name for sample in judged.samples for name in sample.ratios):
        had = [(sample, sample.ratios[name]) for sample in judged.samples if name in sample.ratios]
        xs = [float(sample.canary_n) for sample, _ in had]
        low, mid, high = ([min(ratio[place], _SHOWN_RATIO) for _, ratio in had] for place in range(3))
        caption = f"{name}: rate of the canary over the champion's, by requests of the canary"
        yield lines([Line(name, xs, mid, low, high)], caption=caption, levels={"equal": 1.0})
    if not any(sample.ratios for sample in judged.samples):
        yield f"<p>{escaped('No guardrail had an event.')}</p>"
    growth = [Line(arm, *_growth(judged.samples, arm)) for arm in ("canary", "champion")]
    yield lines(growth, caption="Requests that count, by seconds since the start")


def _growth(samples: Sequence[Sample], arm: str) -> tuple[list[float], list[float]]:
    began = samples[0].at_s if samples else 0.0
    counts = [float(one.canary_n if arm == "canary" else one.champion_n) for one in samples]
    return [one.at_s - began for one in samples], counts


def _means(judged: Judged) -> str:
    columns = ("metric", "canary", "champion", "difference", "95 %, at any time")
    return table(
        columns,
        [
            (
                name,
                round(one.canary_mean, 5),
                round(one.champion_mean, 5),
                round(one.difference, 5),
                None if one.lower is None or one.upper is None else f"{one.lower:.4g} to {one.upper:.4g}",
            )
            for name, one in judged.intervals.items()
        ],
    )


def _told(event: Event) -> tuple[object, ...]:
    change = event.change
    if not isinstance(change, Rolled):
        raise ValueError(f"Expected an event of a rollout, got {event.kind}")
    why = "; ".join(one.text for one in change.why)
    where = f"{change.stage} {change.step + 1}" if change.stage == "step" else change.stage
    return f"{event.at:%Y-%m-%d %H:%M:%S}", event.who.name, f"{change.what} ({where})", why
