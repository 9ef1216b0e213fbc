"""`audit`: the log, read: `query`, `show`, `export`, `verify`, `seal`, `erase`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape

from penstock.cli.asking import Asked, Config, Home, Json, Url, by
from penstock.cli.records import COLUMNS, line_of, print_record
from penstock.cli.screen import console, print_json, print_table, progress
from penstock.cli.times import moment

if TYPE_CHECKING:
    from penstock.audit.conditions import Conditions
    from penstock.audit.query import Found, Records
    from penstock.control.answers import ExportAnswer
    from penstock.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The record of every answer: search it, prove it, take it elsewhere.")

Id = Annotated[str | None, typer.Option("--id", help="A request id, ours or the caller's.")]
Key = Annotated[str | None, typer.Option(help="The key of the entity.")]
Principal = Annotated[str | None, typer.Option(help="Who asked.")]
Model = Annotated[str | None, typer.Option(help="A model's name.")]
Version = Annotated[int | None, typer.Option(help="A version of the model.")]
Since = Annotated[str | None, typer.Option(help='From when on: 2026-11-20T18:00:00Z, 2026-11-20, "2h ago".')]
Until = Annotated[str | None, typer.Option(help="Up to when, not included.")]
Outcome = Annotated[str | None, typer.Option(help="prediction, refusal, failure, or a code: ok, schema_violation, …")]
Where = Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="A feature's value; may be repeated.")]


_SAME_ID = 100


@app.command()
def query(
    *,
    sql: Annotated[
        str | None, typer.Argument(metavar="[SQL]", help="One SELECT from `records` or `predictions`.")
    ] = None,
    id: Id = None,
    key: Key = None,
    principal: Principal = None,
    model: Model = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most, the newest first.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only older than this request id: the next page.")] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Search the records by conditions, the newest first; or by SQL, which can read nothing else and change nothing.

    Example: `penstock audit query --model churn --since "1h ago" --where region=north`;
    `penstock audit query "SELECT model, count(*) FROM records GROUP BY model"`
    """
    conditions = _conditions(
        since,
        until,
        where,
        key=_key(key, home, config),
        principal=principal,
        model=model,
        version=version,
        outcome=outcome,
        before=before,
    )
    with progress(quiet=json) as step:
        step("reading")
        records = _records(home, config)
        from penstock.audit.columns import records_of

        if sql is not None:
            if id is not None or conditions != type(conditions)():
                raise typer.BadParameter("give SQL or conditions, not both", param_hint="SQL")
            found = records.sql(sql, limit)
            _print_rows(found.table.to_pylist(), found.table.column_names, has_more=found.has_more, as_json=json)
            return
        found = _found(records, conditions, id, limit=limit, home=_directory(home, config).parent)
    page = list(records_of(found.table))
    following = found.next
    if json:
        print_json({"records": _as_written(found.table), "next": following})
        return
    print_table("", map(line_of, page), columns=COLUMNS)
    if following is not None:
        console().print(f"there are more: --before {following}", markup=False)
    elif not page:
        console().print("no such record")


@app.command()
def show(
    *,
    id: Annotated[str, typer.Argument(metavar="ID", help="A request id, ours or the caller's.")],
    rows: Annotated[bool, typer.Option("--rows", help="Only the rows as the model got them, for `predict`.")] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Everything about one decision: who asked what and when, what answered, and how to compute it again. Exits 1 if
    there is no such record. Example: `penstock audit show 01a1f8cc-fd52-7176-919d-5bcc126f74c8`
    """
    with progress(quiet=json or rows) as step:
        step("reading")
        records = _records(home, config)
        from penstock.audit.columns import records_of
        from penstock.audit.conditions import Conditions

        place = _directory(home, config).parent
        table = _found(records, Conditions(), id, limit=_SAME_ID, home=place).table
    found = list(records_of(table))
    if json:
        print_json(_as_written(table))
    elif rows and found:
        print_json(next((one for one in found if one.kind not in ("feedback", "shadow")), found[0]).input)
    elif not found:
        console().print(f"no record has the id {id}", markup=False)
    else:
        for record in found:
            print_record(record, _directory(home, config).parent)
    if not found:
        raise typer.Exit(1)


@app.command()
def export(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file: .parquet or .csv.")],
    rows: Annotated[
        bool, typer.Option("--rows", help="A line for each row, with a column for each feature, not for each call.")
    ] = False,
    key: Key = None,
    principal: Principal = None,
    model: Model = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    where: Where = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write records to a file for other tools, with the column names of inference tables.

    Example: `penstock audit export churn.parquet --model churn --since "7d ago" --rows`
    """
    conditions = _conditions(
        since,
        until,
        where,
        key=_key(key, home, config),
        principal=principal,
        model=model,
        version=version,
        outcome=outcome,
    )
    with progress(quiet=json) as step:
        step("writing")
        records = _records(home, config)
        from penstock.audit.export import export as exported
        from penstock.controller.exporting import registered

        with registered(_settings(home, config), file, conditions, by(None)) as made:
            made.lines = exported(records, conditions, file, by_row=rows)
    if json:
        print_json({"file": str(file), "lines": made.lines})
    else:
        console().print(f"{made.lines:,} lines in {file}", markup=False)


@app.command()
def verify(*, home: Home = None, config: Config = None, json: Json = False) -> None:
    """Prove that all segments and sealed files are what was written, and that none is missing. Exits 1 naming what is
    broken. Example: `penstock audit verify`
    """
    from penstock.audit.proof import prove

    with progress(quiet=json) as step:
        proof = prove(_directory(home, config), step)
    if json:
        print_json(proof)
    else:
        for problem in proof.problems:
            console().print(f"[bold red]broken[/]: {escape(problem)}")
        console().print(
            f"{proof.records:,} records in {proof.segments} segments ({proof.sealed} of them sealed); "
            f"{proof.dropped:,} could not be written, {proof.lost:,} were lost by a kill, "
            f"{proof.gone:,} are gone by retention"
        )
    if proof.problems:
        raise typer.Exit(1)


@app.command()
def seal(*, home: Home = None, url: Url = None, config: Config = None, json: Json = False) -> None:
    """Seal the segments that no worker writes into Parquet files now, and remove what retention lets go. A server does
    so by itself. Example: `penstock audit seal`
    """
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("sealing")
        answer = operations.seal(by(None))
    if json:
        print_json(answer)
        return
    screen = console()
    for removed in answer.removed:
        screen.print(f"removed {removed.path} with {removed.records:,} records: {removed.why}", markup=False)
    for problem in answer.problems:
        screen.print(f"[bold red]not sealed[/]: {escape(problem)}")
    screen.print(
        f"{answer.records:,} records of {answer.segments} segments are sealed, in {answer.files} files"
        if answer.segments
        else "nothing to seal"
    )
    if answer.problems:
        raise typer.Exit(1)


@app.command()
def erase(
    *,
    id: Annotated[list[str] | None, typer.Option("--id", help="A request id of ours; may be repeated.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="The key of an entity, in clear; may be repeated.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it stands in the history for good.")],
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Take what was asked and answered out of the log for good, by law; that there was a call stays, and the log still
    verifies. What feedback says of it goes as well, and its lines in exports, or they are named. Exits 1
    while a worker writes a segment that holds such records.

    Example: `penstock audit erase --key customer-17 --reason "request 4711 of 20 November"`
    """
    if not id and not key:
        raise typer.BadParameter("give an --id or a --key", param_hint="--id")
    from penstock.audit.erase import Wanted

    wanted = Wanted(frozenset(id or ()), frozenset(key or ()))
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("erasing")
        answer = operations.erase(wanted, by(reason))
    if json:
        print_json(answer)
    else:
        console().print(f"the payloads of {answer.records:,} records are erased")
        for segment in answer.busy:
            console().print(f"{segment} is being written and holds such records: ask again later", markup=False)
        for one in answer.exports:
            _print_export(one)
    if answer.busy:
        raise typer.Exit(1)


def _print_export(export: ExportAnswer) -> None:
    where = f"{export.path} on {export.node}, exported by {export.who}"
    if export.by_hand is None:
        console().print(f"{export.lines:,} lines are gone from {where}", markup=False)
    else:
        console().print(f"to be erased by hand: {where}, may hold such records: {export.by_hand}", markup=False)


def _settings(home: str | None, config: Path | None) -> Settings:
    from penstock.settings import from_environment

    return from_environment(flags={} if home is None else {"home": home}, file=config).settings


def _directory(home: str | None, config: Path | None) -> Path:
    directory = Path(_settings(home, config).home, "audit")
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: there is no audit log in this home")
    return directory


def _records(home: str | None, config: Path | None) -> Records:
    from penstock.audit.extra import require_audit

    require_audit("reading the audit log")
    from penstock.audit.query import Records

    return Records(_directory(home, config))


def _conditions(since: str | None, until: str | None, where: list[str] | None, **equal: Any) -> Conditions:
    from penstock.audit.conditions import Conditions

    begin, end = moment_of(since, "--since"), moment_of(until, "--until")
    return Conditions(since=begin, until=end, where=pairs_of(where), **equal)


def pairs_of(where: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Fields and values of `--where`. Raises BadParameter."""
    pairs = []
    for pair in where or []:
        field, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected FIELD=VALUE, got {pair!r}", param_hint="--where")
        pairs.append((field, value))
    return tuple(pairs)


def moment_of(text: str | None, option: str) -> datetime | None:
    """The moment that an option names. Raises BadParameter."""
    try:
        return None if text is None else moment(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _key(key: str | None, home: str | None, config: Path | None) -> tuple[str, ...] | None:
    from penstock.audit.conditions import key_texts

    return None if key is None else key_texts(_directory(home, config).parent, key)


def _found(records: Records, conditions: Conditions, id: str | None, *, limit: int, home: Path) -> Found:
    """The newest that there are; an id is ours, or else a caller's."""
    from penstock.audit.conditions import client_id_texts

    found = records.page(msgspec.structs.replace(conditions, request_id=id), limit)
    if id is None or len(found.table):
        return found
    return records.page(msgspec.structs.replace(conditions, client_id=client_id_texts(home, id)), limit)


def _as_written(table: Any) -> list[msgspec.Raw]:
    """The records of a table as JSON, with the tags of what JSON cannot hold."""
    from penstock.audit.columns import lines_of

    return [msgspec.Raw(line) for line in lines_of(table)]


def _print_rows(rows: list[dict[str, Any]], names: list[str], *, has_more: bool, as_json: bool) -> None:
    if as_json:
        print_json({"rows": rows, "has_more": has_more})
        return
    print_table("", [tuple(row.values()) for row in rows], columns=names)
    if has_more:
        console().print("there are more: raise --limit, or ask for less")
