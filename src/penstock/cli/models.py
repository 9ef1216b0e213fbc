"""`models`, `model`, `history`: what ought to run, what does and why not, since when, and who did it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.asking import Asked, Config, Home, Json, Name, Url
from penstock.cli.events import reason_of, told_of, who_of
from penstock.cli.screen import console, print_json, print_table, say
from penstock.cli.shadow import line_of
from penstock.cli.times import moment, shown, since

if TYPE_CHECKING:
    from penstock.control.answers import HistoryAnswer, ModelAnswer, Span, VersionAnswer
    from penstock.control.changes import ModelConfig

_COLUMNS = ("version", "aliases", "answers on", "published", "by", "flavour", "size", "metrics")


def models(*, home: Home = None, url: Url = None, config: Config = None, json: Json = False) -> None:
    """Every model: its champion, since when and by whom, where a rollback would go, and what is wrong.

    Example: `penstock models`
    """
    with Asked(home, url, config).operations() as operations:
        answers = operations.models()
    if json:
        print_json(answers)
        return
    if not answers:
        say("nothing is published yet: `penstock publish BUNDLE` begins")
        return
    now = datetime.now(UTC)
    print_table("", [_line(answer, now) for answer in answers], columns=_MODEL_COLUMNS)
    for answer in answers:
        for fault in faults_of(answer):
            say(f"{answer.name}: {fault}")


_MODEL_COLUMNS = ("model", "champion", "since", "by", "answers on", "other aliases", "versions", "a rollback goes to")


def model(*, name: Name, home: Home = None, url: Url = None, config: Config = None, json: Json = False) -> None:
    """One model: what each alias means and who moved it, what each machine answers by and since when, every version
    with its lineage, and why one that is wanted is not served.

    Example: `penstock model churn`
    """
    with Asked(home, url, config).operations() as operations:
        answer = operations.model(name)
        served = operations.history(name).served
    if json:
        print_json(answer)
        return
    _print_model(answer, served)


def history(
    *,
    name: Name,
    at: Annotated[
        str | None,
        typer.Option(
            help='What was then: 2026-11-20T18:00:00Z, "2026-11-20 18:00" (local time), 2026-11-20, "2h ago".'
        ),
    ] = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Everything that happened to a model: when, who, what and why; and which version answered from when to when.

    Example: `penstock history churn --at "2h ago"`
    """
    try:
        then = None if at is None else moment(at, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from error
    with Asked(home, url, config).operations() as operations:
        answer = operations.history(name, then)
    if json:
        print_json(answer)
    elif then is not None:
        _print_then(answer, then)
    else:
        _print_history(answer)


def faults_of(answer: ModelAnswer) -> Iterator[str]:
    """What is not as it ought to be: machines that answer by another version than an alias names, and why."""
    from penstock.routing import SHADOW

    for node, aliases in sorted(answer.serving.items()):
        for alias, number in answer.aliases.items():
            if alias != SHADOW and aliases.get(alias) != number:
                answers_by = f"answers by version {aliases[alias]}" if alias in aliases else "does not answer"
                yield f"{alias} is to be version {number}, and {node} {answers_by}{_why(answer, number, node)}"
    for version in answer.versions:
        for node, why in sorted(version.failures.items()):
            if version.aliases and node not in answer.serving:
                yield f"{', '.join(version.aliases)} is version {version.number}, which {node} cannot serve: {why}"


def _why(answer: ModelAnswer, number: int, node: str) -> str:
    failures = next((version.failures for version in answer.versions if version.number == number), {})
    return f": {failures[node]}" if node in failures else "; it is on its way, or no server runs there"


def _line(answer: ModelAnswer, now: datetime) -> tuple[object, ...]:
    moved = answer.moved.get("champion")
    champion = answer.aliases.get("champion")
    answering = [node for node, aliases in answer.serving.items() if aliases.get("champion") == champion]
    others = [f"{alias} {number}" for alias, number in answer.aliases.items() if alias != "champion"]
    return (
        answer.name,
        champion or "none",
        "" if moved is None else since(moved.at, now),
        "" if moved is None else who_of(moved.who),
        ", ".join(sorted(answering)) or "no machine",
        ", ".join(others),
        len(answer.versions),
        answer.rollback_to or "nothing",
    )


def _print_model(answer: ModelAnswer, served: list[Span]) -> None:
    screen, now = console(), datetime.now(UTC)
    screen.print(f"[bold]{answer.name}[/]   revision {answer.revision}")
    for alias in sorted(answer.aliases, key=lambda alias: (alias != "champion", alias)):
        number, moved = answer.aliases[alias], answer.moved[alias]
        say(f"  {alias}: version {number} since {since(moved.at, now)} by {who_of(moved.who)}{reason_of(moved)}")
    for span in served:
        if span.until is None:
            since_when = since(span.since, now)
            say(f"  {span.node} answers {span.alias} by version {span.version} since {since_when}")
    if not answer.serving:
        screen.print("  no machine serves it")
    if answer.rollback_to is not None:
        say(f"  `penstock rollback {answer.name}` goes back to version {answer.rollback_to}")
    for line in _configured(answer.config):
        say(f"  {line}")
    if answer.shadow is not None:
        say(f"  {line_of(answer.shadow)}")
    for fault in faults_of(answer):
        say(f"  wrong: {fault}")
    screen.print()
    print_table("", [_version(version) for version in answer.versions], columns=_COLUMNS)
    for version in answer.versions:
        _print_version(version)


def _configured(config: ModelConfig) -> Iterator[str]:
    import msgspec

    for what, value in msgspec.to_builtins(config.options).items():
        yield f"{what}: {msgspec.json.encode(value).decode()}"
    for alias, rules in config.rules.items():
        yield f"rules of {alias}: {msgspec.json.encode(rules).decode()}"


def _version(version: VersionAnswer) -> tuple[object, ...]:
    return (
        version.number,
        ", ".join(version.aliases),
        ", ".join(version.serves_on),
        shown(version.published_at),
        version.published_by,
        version.flavour,
        f"{version.size_bytes / 1e3:,.0f} kB",
        "  ".join(f"{metric} {value:.4g}" for metric, value in version.metrics.items()),
    )


def _print_version(version: VersionAnswer) -> None:
    from msgspec import structs

    lineage = [f"{name} {value}" for name, value in structs.asdict(version.lineage).items() if value]
    told = "  ".join(lineage).replace("_", " ")
    say(f"version {version.number}: {version.digest}" + f"  {told}" * bool(told))
    if version.evaluation_set is not None:
        say(f"  evaluated on {version.evaluation_set}")
    for node, why in sorted(version.failures.items()):
        say(f"  {node} cannot serve it: {why}")


def _print_history(answer: HistoryAnswer) -> None:
    rows = [(shown(event.at), who_of(event.who), told_of(event), event.reason) for event in answer.events]
    print_table("", rows, columns=("time", "who", "what", "why"))
    console().print()
    if answer.served:
        _print_spans("which version answered, by machine", answer.served)
    else:
        console().print("no machine has served it yet")


def _print_spans(title: str, spans: list[Span]) -> None:
    rows = [
        (span.node, span.alias, span.version, shown(span.since), "now" if span.until is None else shown(span.until))
        for span in sorted(spans, key=lambda span: span.since)
    ]
    print_table(title, rows, columns=("machine", "alias", "version", "from", "to"))


def _print_then(answer: HistoryAnswer, then: datetime) -> None:
    screen = console()
    screen.print(f"[bold]{answer.model}[/] at {shown(then)}")
    if not answer.aliases_at:
        first = f"; the first was at {shown(answer.events[0].at)}" if answer.events else ""
        screen.print(f"  no alias meant anything then{first}")
    for alias, number in answer.aliases_at.items():
        begin = next(span.since for span in answer.wanted if span.alias == alias and _holds(span, then))
        move = next(event for event in answer.events if event.at == begin)
        say(f"  {alias}: version {number} since {shown(begin)} by {who_of(move.who)}{reason_of(move)}")
    for node, aliases in answer.serving_at.items():
        told = ", ".join(f"{alias} by version {number}" for alias, number in aliases.items())
        say(f"  {node} answered {told}")
    if not answer.serving_at:
        screen.print("  no machine is known to have served it then")


def _holds(span: Span, then: datetime) -> bool:
    return span.since <= then and (span.until is None or then < span.until)
