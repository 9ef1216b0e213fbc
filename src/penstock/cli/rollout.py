"""`rollout`: a version on its way to be champion: started, watched, held, resumed, approved, aborted, promoted."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.aa import aa
from penstock.cli.asking import Asked, Config, Force, Home, Json, Name, Reason, Url, Version, by, number_of
from penstock.cli.rollout_tables import print_rollout
from penstock.cli.screen import print_json, progress, say

if TYPE_CHECKING:
    from penstock.control.answers import RolloutAnswer
    from penstock.control.rollout_decisions import Verb

app = typer.Typer(
    no_args_is_help=True, help="Give a version more and more of the calls, as far as the evidence lets it."
)
app.command("aa")(aa)

Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the history for good.")]
Html = Annotated[Path | None, typer.Option(help="Write the report as one HTML page to this file.")]


@app.command()
def start(
    *,
    name: Name,
    version: Version,
    plan: Annotated[
        Path | None, typer.Option(help="A YAML file that changes some of the plan; docs/rollouts.md shows it.")
    ] = None,
    reason: Reason = None,
    force: Force = False,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Begin a rollout: replay, shadow, then 1, 5, 25, 50 and 100 % of the calls, then champion; or rolled back.

    Each step is left when it is proven that the version does no worse, never because time has passed without evidence.
    Example: `penstock rollout start churn 8`; `penstock rollout start churn 8 --plan careful.yaml`
    """
    from penstock.control.declared_plan import read_plan

    declared = read_plan(plan.read_text() if plan is not None else "")
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("trying the version in a process of its own")
        number = number_of(operations, name, version)
        answer = operations.start_rollout(name, number, declared, by(reason, force=force))
    _show(answer, as_json=json)


@app.command()
def status(
    *,
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until it has ended.")] = False,
    html: Html = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """How the last rollout of a model stands: the ladder, each guardrail with its evidence, and what is awaited.

    Exits 1 if it was aborted. Example: `penstock rollout status churn --watch`
    """
    with Asked(home, url, config).operations() as operations:
        answer = operations.rollout(name)
        while watch and answer.rollout.is_running:
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[2J\x1b[H")
            _show(answer, as_json=json)
            time.sleep(1.0)
            answer = operations.rollout(name)
        events = operations.history(name).events if html is not None else []
    _show(answer, as_json=json)
    if html is not None:
        from penstock.control.rollout_page import page_of

        html.write_text(page_of(answer, events))
        if not json:
            say(f"the report is in {html}")
    if answer.rollout.status == "aborted":
        raise typer.Exit(1)


@app.command()
def hold(
    *, name: Name, reason: Why, home: Home = None, url: Url = None, config: Config = None, json: Json = False
) -> None:
    """Leave the weights as they are until `resume`. Example: `penstock rollout hold churn --reason "release freeze"`"""
    _told(Asked(home, url, config), name, "hold", reason, as_json=json)


@app.command()
def resume(
    *, name: Name, reason: Why, home: Home = None, url: Url = None, config: Config = None, json: Json = False
) -> None:
    """Let it go on; soft alarms that hold it are accepted for good.

    Example: `penstock rollout resume churn --reason "scores are meant to be lower"`
    """
    _told(Asked(home, url, config), name, "resume", reason, as_json=json)


@app.command()
def approve(
    *, name: Name, reason: Why, home: Home = None, url: Url = None, config: Config = None, json: Json = False
) -> None:
    """Approve the last step, where the plan asks for it. Example: `penstock rollout approve churn --reason "seen"`"""
    _told(Asked(home, url, config), name, "approve", reason, as_json=json)


@app.command()
def abort(
    *, name: Name, reason: Why, home: Home = None, url: Url = None, config: Config = None, json: Json = False
) -> None:
    """Give all calls back to the champion, now. Example: `penstock rollout abort churn --reason "wrong data"`"""
    _told(Asked(home, url, config), name, "abort", reason, as_json=json)


@app.command()
def promote(
    *, name: Name, reason: Why, home: Home = None, url: Url = None, config: Config = None, json: Json = False
) -> None:
    """Make it the champion now, whatever is proven. Example: `penstock rollout promote churn --reason "urgent"`"""
    _told(Asked(home, url, config), name, "promote", reason, as_json=json)


def _told(asked: Asked, name: str, verb: Verb, reason: str, *, as_json: bool) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why; it stands in the history", param_hint="--reason")
    with progress(quiet=as_json) as step, asked.operations() as operations:
        step("waiting for all workers")
        answer = operations.tell_rollout(name, verb, by(reason))
    _show(answer, as_json=as_json)


def _show(answer: RolloutAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_rollout(answer)
