"""The report of an A/B test as one self-contained HTML page: each arm's difference to the champion, and how it came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.control.answers import ArmAnswer, ExperimentAnswer, Judged
from penstock.control.changes import Event, Weighed
from penstock.control.rollout_page import readings_table
from penstock.pictures import Line, escaped, lines, page, section, table
from penstock.rollout.reading import SAMPLE_RATIO

ARMS = (
    "arm", "version", "weight, %", "calls", "of expected", "mean", "champion", "difference", "at any time", "verdict"
)  # fmt: skip


def page_of(answer: ExperimentAnswer, events: Sequence[Event] = ()) -> str:
    """The page. `events` are the model's; those of this experiment are told."""
    experiment, goal = answer.experiment, answer.experiment.goal
    about = "no goal is declared" if goal is None else f"the mean of {goal.metric} is compared"
    note = f"{about}; begun {answer.began:%Y-%m-%d %H:%M:%S} UTC by {answer.began_by}."
    state = "running" if answer.is_running else "ended"
    if answer.is_frozen:
        note += " Another version is champion now: nothing more counts."
    parts = [section(f"{state}: arms against version {answer.champion}", table(ARMS, list(map(arm_row, answer.arms))))]
    parts.insert(0, f'<p class="note">{escaped(note)}</p>')
    for arm in answer.arms:
        if arm.judged is not None:
            pictures = _pictures(arm.name, arm.judged, "" if goal is None else goal.metric)
            parts.append(section(f"{arm.name}: over time", *pictures, note=arm.said))
            parts.append(section(f"{arm.name}: guardrails", readings_table(arm.judged.readings)))
    since = answer.began
    told = [_told(one) for one in events if isinstance(one.change, Weighed) and one.at >= since]
    if told:
        parts.append(section("What happened", table(("at (UTC)", "who", "weights, %", "why"), told)))
    return page(f"Experiment {experiment.id} of {answer.model}", *parts)


def arm_row(arm: ArmAnswer) -> tuple[object, ...]:
    """An arm as a row of `ARMS`; `of expected`: how many callers it has of those that the weights let expect."""
    one = arm.difference
    calls = 0 if arm.judged is None else arm.judged.canary_n
    readings = () if arm.judged is None else arm.judged.readings
    share = next((found.ratio for found in readings if found.name == SAMPLE_RATIO), None)
    expected = None if share is None else f"{share:.1%}"
    means: tuple[object, ...] = (None, None, None, None)
    if one is not None:
        between = None if one.lower is None or one.upper is None else f"{one.lower:.4g} to {one.upper:.4g}"
        means = (round(one.canary_mean, 5), round(one.champion_mean, 5), round(one.difference, 5), between)
    alarms = f"; in alarm: {', '.join(arm.alarms)}" if arm.alarms else ""
    return arm.name, arm.version, arm.weight / 100, calls, expected, *means, f"{arm.said}{alarms}"


def _pictures(arm: str, judged: Judged, metric: str) -> Iterator[str]:
    had = [(sample, sample.means[metric]) for sample in judged.samples if metric in sample.means]
    if not had:
        yield f"<p>{escaped('There was no interval yet.')}</p>"
        return
    xs = [float(sample.canary_n + sample.champion_n) for sample, _ in had]
    low, mid, high = ([mean[place] for _, mean in had] for place in range(3))
    caption = f"{metric}: {arm} minus champion, by calls of the two"
    yield lines([Line(arm, xs, mid, low, high)], caption=caption, levels={"equal": 0.0})


def _told(event: Event) -> tuple[object, ...]:
    change = event.change
    after = change.after if isinstance(change, Weighed) else None
    shares = "ended" if after is None else ", ".join(f"{arm.name} {arm.weight / 100:g}" for arm in after.arms)
    return f"{event.at:%Y-%m-%d %H:%M:%S}", event.who.name, shares, event.reason or ""
