"""`experiment`: A/B tests of a model's versions: started, looked at as often as one likes, ended."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penstock.cli.asking import Asked, Config, Force, Home, Json, Name, Reason, Url, by, number_of
from penstock.cli.screen import print_json, print_table, progress, say

if TYPE_CHECKING:
    from penstock.assignment import Arm, Experiment, Goal
    from penstock.control.answers import ExperimentAnswer, WeighAnswer
    from penstock.controller.operations import Operations

app = typer.Typer(no_args_is_help=True, help="Compare versions on live calls at fixed weights: A/B tests.")

_DELAY = "24h"


@app.command()
def start(
    *,
    name: Name,
    arm: Annotated[
        list[str],
        typer.Option(metavar="ARM=VERSION:PERCENT", help="An arm, its version, its share; may be repeated."),
    ],
    metric: Annotated[
        str, typer.Option(help="`conversion:LABEL` or `value` (both by feedback), or `score` of the answers.")
    ] = "score",
    delay: Annotated[
        str, typer.Option(help="How old a call is when its feedback counts: 30min, 24h, 7d.", metavar="TIME")
    ] = _DELAY,
    missing_is_zero: Annotated[
        bool, typer.Option("--missing-is-zero", help="A call without feedback counts as 0, else it does not count.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The field of the rows that is a caller's key, from now on.")
    ] = None,
    holdout: Annotated[float, typer.Option(min=0, max=99, help="Percent of the calls that no arm gets.")] = 0.0,
    id: Annotated[
        str | None, typer.Option("--id", help="Its name; that of the one under way to change its weights.")
    ] = None,
    planned: Annotated[int, typer.Option(min=1, help="Calls after which intervals are the narrowest.")] = 10_000,
    reason: Reason = None,
    force: Force = False,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Give each arm its share of the calls, for as long as it takes; a caller stays on one arm.

    Nothing is decided by itself, but that an arm that fails (a hard guardrail in alarm) gets no weight any more.
    Example: `penstock experiment start churn --arm blue=3:20 --arm green=4:20 --metric conversion:yes --delay 7d`
    """
    goal = _goal(metric, delay, is_missing_zero=missing_is_zero, planned=planned)
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        wanted = _wanted(operations, name, id, arm, holdout=_buckets(holdout), goal=goal)
        if key is not None:
            step("the key")
            operations.apply(msgspec.json.encode({"models": {name: {"key": key}}}).decode(), by(reason))
        step("waiting for all workers")
        revision = operations.model(name).revision
        answer = operations.weigh(name, wanted, by(reason, revision, force=force))
    _show_weights(answer, as_json=json)


@app.command()
def status(
    *,
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until it has ended.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page to this file.")] = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """What can be told of each arm, and what cannot be told yet: intervals hold however often one looks.

    Example: `penstock experiment status churn --watch`
    """
    with Asked(home, url, config).operations() as operations:
        answer = operations.experiment(name)
        while watch and answer.is_running:
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[2J\x1b[H")
            _show(answer, as_json=json)
            time.sleep(1.0)
            answer = operations.experiment(name)
        events = operations.history(name).events if html is not None else []
    _show(answer, as_json=json)
    if html is not None:
        from penstock.control.experiment_page import page_of

        html.write_text(page_of(answer, events))
        if not json:
            say(f"the report is in {html}")


@app.command()
def end(
    *,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the history for good.")],
    winner: Annotated[
        str | None, typer.Option(metavar="ARM", help="The arm whose version becomes champion, if the gate lets it.")
    ] = None,
    force: Force = False,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Give all calls back to the champion; with `--winner` to that arm's version, which becomes champion.

    Example: `penstock experiment end churn --winner green --reason "converts 3 points more"`
    """
    from penstock.errors import InUse, Unknown

    if not reason.strip():
        raise typer.BadParameter("say why; it stands in the history", param_hint="--reason")
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        model = operations.model(name)
        now = model.experiment
        if now is None:
            raise Unknown(f"{name!r} has no experiment under way: `penstock experiment start {name} …` starts one")
        if now.goal is None:
            raise InUse(f"{now.id} of {name!r} is no A/B test but a rollout's: `penstock rollout abort {name}` ends it")
        found = {arm.name: model.aliases.get(arm.alias) if arm.alias else arm.version for arm in now.arms}
        if winner is not None:
            number = found.get(winner)
            if number is None:
                raise Unknown(f"no arm {winner!r} of {now.id}; there is {', '.join(found)}")
            step("trying the winner, and waiting for all workers")
            operations.move(name, "champion", number, by(reason, model.revision, force=force))
        step("waiting for all workers")
        answer = operations.weigh(name, None, by(reason))
    _show_weights(answer, as_json=json)


def _wanted(
    operations: Operations, name: str, id: str | None, arms: list[str], *, holdout: int, goal: Goal
) -> Experiment:
    """The experiment as it is asked for; salt and rules of one under way stay. Raises InUse beside another one."""
    from penstock.assignment import Experiment
    from penstock.errors import InUse

    now = operations.model(name).experiment
    if now is not None and now.id != id:
        raise InUse(f"{name!r} has the experiment {now.id} under way: end it first, or say --id {now.id} to change it")
    try:
        return Experiment(
            id=id or f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            salt="" if now is None else now.salt,
            arms=tuple(_arm(operations, name, given) for given in arms),
            rules=() if now is None else now.rules,
            holdout=holdout,
            goal=goal,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--arm") from error


def _goal(metric: str, delay: str, *, is_missing_zero: bool, planned: int) -> Goal:
    from penstock.assignment import Goal
    from penstock.cli.times import moment

    what, colon, equals = metric.partition(":")
    now = datetime.now(UTC)
    try:
        return msgspec.convert(
            {
                "metric": what,
                "equals": equals if colon else None,
                "label_delay_s": (now - moment(delay, now)).total_seconds(),
                "is_missing_zero": is_missing_zero,
                "planned_calls": planned,
            },
            Goal,
        )
    except ValueError as error:  # a ValidationError is one, too
        raise typer.BadParameter(
            f"expected `conversion:LABEL`, `value` or `score`, and a delay as in 24h: {error}", param_hint="--metric"
        ) from error


def _arm(operations: Operations, name: str, given: str) -> Arm:
    from penstock.assignment import Arm

    arm, equals, rest = given.partition("=")
    version, colon, percent = rest.rpartition(":")
    try:
        weight = _buckets(float(percent))
        if not (equals and colon and version):
            raise ValueError("a part is missing")
        return msgspec.convert({"name": arm, "version": number_of(operations, name, version), "weight": weight}, Arm)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"expected ARM=VERSION:PERCENT as in blue=3:20, got {given!r}: {error}") from error


def _buckets(percent: float) -> int:
    return round(percent * 100)


def _show_weights(answer: WeighAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    now = answer.after
    if now is None:
        say(f"{answer.model}: the experiment {'' if answer.before is None else answer.before.id} has ended")
    else:
        shares = ", ".join(f"{arm.name} (version {arm.version}) {arm.weight / 100:g} %" for arm in now.arms)
        say(f"{answer.model}: experiment {now.id}: {shares}; the champion has the rest")
        say(f"Next: penstock experiment status {answer.model} --watch")
    for lagging in [*answer.waits_for, *answer.unserved]:
        say(f"  waits for: {lagging}")


def _show(answer: ExperimentAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    from penstock.control.experiment_page import ARMS, arm_row

    state = "running" if answer.is_running else "ended"
    goal = answer.experiment.goal
    metric = "no goal" if goal is None else goal.metric if goal.equals is None else f"{goal.metric} ({goal.equals})"
    say(f"{answer.experiment.id}: {state}, version {answer.champion} of {answer.model} is compared with; {metric}")
    if answer.is_frozen:
        say("  another version is champion now: nothing more counts; end it")
    print_table("", [arm_row(arm)[:-1] for arm in answer.arms], columns=ARMS[:-1])
    for arm in answer.arms:
        say(f"{arm.name}: {arm.said}")
        if arm.alarms:
            say(f"  in alarm: {', '.join(arm.alarms)}")
