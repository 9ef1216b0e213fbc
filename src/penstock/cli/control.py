"""`publish`, `deploy`, `alias`, `rollback`, `remove`, `apply`, `gc`, `backup`, `restore`: what operators change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.asking import Asked, Config, Force, Home, IfRevision, Json, Name, Reason, Url, Version, by, number_of
from penstock.cli.screen import console, print_json, print_table, progress, say
from penstock.cli.times import shown

if TYPE_CHECKING:
    from penstock.control.answers import ApplyAnswer, MoveAnswer, PublishAnswer

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")]
_TRYING = "trying the version in a process of its own, then waiting for all workers"


def publish(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a directory or a .penstock file.")],
    alias: Annotated[
        str | None, typer.Option(help="Also give this alias to the version, as `penstock alias` does.")
    ] = None,
    reason: Reason = None,
    force: Force = False,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Put a bundle into the model repository as the next version of its model; the same content only once.

    The first version of a model becomes its champion; later ones do not by themselves.
    Example: `penstock publish bundles/churn-1`
    """
    if not bundle.exists():
        raise FileNotFoundError(f"{bundle}: there is nothing at this path")
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("storing the bundle")
        answer = operations.publish(bundle, by(reason, force=force), alias)
    if json:
        print_json(answer)
    else:
        _print_published(answer)
    _end(answer.move)


def deploy(
    *,
    name: Name,
    version: Version,
    reason: Reason = None,
    force: Force = False,
    if_revision: IfRevision = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a version the champion of its model, and wait until all workers answer by it. Exits 1 if they do not.

    It is loaded and proven on its own first, its schema is compared with the champion's, and the rules are asked.
    Example: `penstock deploy churn 4 --reason "autumn retraining"`
    """
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step(_TRYING)
        number = number_of(operations, name, version)
        answer = operations.move(name, "champion", number, by(reason, if_revision, force=force))
    _show_move(answer, as_json=json)


def alias(
    *,
    name: Name,
    alias: Annotated[
        str, typer.Argument(metavar="ALIAS", help="As in candidate; Staging and Production are taken, too.")
    ],
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="As of `penstock deploy`.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    reason: Reason = None,
    force: Force = False,
    if_revision: IfRevision = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Give an alias to a version, or take it away; callers ask `/v1/models/NAME/aliases/ALIAS/predict`.

    Example: `penstock alias churn candidate 5`; `penstock alias churn candidate --remove`
    """
    if (version is None) != remove:
        raise typer.BadParameter("give a VERSION, or --remove", param_hint="VERSION")
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step(_TRYING)
        number = None if version is None else number_of(operations, name, version)
        answer = operations.move(name, alias, number, by(reason, if_revision, force=force))
    _show_move(answer, as_json=json)


def rollback(
    *,
    name: Name,
    reason: Reason = None,
    if_revision: IfRevision = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make the champion before this one the champion again. Exits 1 unless all workers answer by it.

    It is still loaded, so that this takes a moment; once more goes back one more.
    Example: `penstock rollback churn --reason "complaints from the call centre"`
    """
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("waiting for all workers")
        answer = operations.rollback(name, by(reason, if_revision))
    _show_move(answer, as_json=json)


def remove(
    *,
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="A number.")],
    reason: Reason = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although a machine answers by it, as one that is gone; needs a --reason.")
    ] = False,
    if_revision: IfRevision = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Remove a version that nothing refers to; its files go with the next `penstock gc`, its number is not given again.

    Example: `penstock remove churn 2`
    """
    with Asked(home, url, config).operations() as operations:
        operations.remove(name, version, by(reason, if_revision, force=force))
    if json:
        print_json({"model": name, "version": version})
        return
    console().print(f"version {version} of {name} is removed; `penstock gc` frees its files")


def apply(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A declared state, as docs/control.md shows; - reads stdin.")
    ],
    dry_run: DryRun = False,
    reason: Reason = None,
    force: Force = False,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make aliases and options of models what a file declares: again and again the same, for CI.

    It ends at the first change that is refused, which exits 1; those before it stand.
    Example: `penstock apply deployments.yaml --dry-run`
    """
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("comparing" if dry_run else _TRYING)
        answer = operations.apply(text, by(reason, force=force), is_dry=dry_run)
    if json:
        print_json(answer)
    else:
        _print_applied(answer)
    if not (answer.is_dry or answer.is_applied or _is_without_server(answer.waits_for)):
        raise typer.Exit(1)


def gc(
    *,
    dry_run: DryRun = False,
    reason: Reason = None,
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Remove old versions by the rules of `models.keep_last` and `models.keep_days`, and files that nothing refers to.

    Example: `penstock gc --dry-run`
    """
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("looking for what nothing refers to")
        answer = operations.collect_garbage(by(reason), is_dry=dry_run)
    if json:
        print_json(answer)
        return
    print_table(
        "", [(name, ", ".join(map(str, numbers))) for name, numbers in answer.versions.items()], columns=("", "")
    )
    count = sum(map(len, answer.versions.values()))
    verb = "would go" if answer.is_dry else "are gone"
    console().print(f"{count} versions and {len(answer.files)} files {verb}: {answer.freed_bytes / 1e6:,.1f} MB")


def backup(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that is not there yet.")],
    home: Home = None,
    url: Url = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Copy the state, the bundles and the log of a home, which may be serving, as of one moment. The secret of the log
    is in it, too: keep the copy as safe as the home.

    Example: `penstock backup /backups/penstock-monday`
    """
    with progress(quiet=json) as step, Asked(home, url, config).operations() as operations:
        step("copying")
        operations.back_up(directory.absolute())
    if json:
        print_json({"directory": str(directory)})
        return
    say(f"backed up to {directory}; `penstock restore {directory} --home DIR` makes a home of it")
    say("`audit.key` is in it, by which keys can be told from the log: keep the copy as safe as the home")


def restore(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `penstock backup` made.")],
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a new home of a backup; every byte of it is checked. An existing home is not touched.

    Example: `penstock restore /backups/penstock-monday --home ./penstock-home`
    """
    from penstock.controller.restore import restore as restored
    from penstock.settings import from_environment

    settings = from_environment(flags={} if home is None else {"home": home}, file=config).settings
    with progress(quiet=json) as step:
        step("checking and copying")
        found = restored(directory, settings)
    if json:
        print_json({"home": settings.home, "at": found.at, "revision": found.revision})
        return
    say(f"restored to {settings.home}, as of {shown(found.at)} (revision {found.revision})")
    say(f"Next: penstock serve --home {settings.home}")


def _show_move(answer: MoveAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        _print_move(answer)
    _end(answer)


def _print_published(answer: PublishAnswer) -> None:
    screen = console()
    was = "" if answer.is_new else " (was there already)"
    screen.print(f"[bold]{answer.model}[/] version {answer.version}{was}   {answer.digest}")
    if answer.move is not None:
        _print_move(answer.move)
    elif answer.is_new:
        say(f"Next: penstock deploy {answer.model} {answer.version}")


def _print_move(answer: MoveAnswer) -> None:
    screen = console()
    will = _named(answer.after)
    change = f"{_named(answer.before)} → {will}" if answer.is_changed else f"{will}, as before"
    screen.print(f"[bold]{answer.alias}[/] of {answer.model}: {change}   (revision {answer.revision})")
    for reason in answer.overruled:
        say(f"  overruled: {reason}")
    if answer.is_applied:
        screen.print("  all workers of this machine answer by it")
    for waits_for in answer.waits_for:
        say(f"  not served yet: {waits_for}")


def _print_applied(answer: ApplyAnswer) -> None:
    rows = [(one.model, one.what, *_before_and_after(one.what, one.before, one.after)) for one in answer.differences]
    if rows:
        print_table("", rows, columns=("model", "what", "before", "after"))
    count = len(rows)
    if not rows:
        console().print("all is as declared")
    elif answer.is_dry:
        console().print(f"{count} difference{'s' * (count > 1)}; nothing was changed")
    for waits_for in answer.waits_for:
        say(f"  not served yet: {waits_for}")


def _before_and_after(what: str, before: object, after: object) -> tuple[str, str]:
    if what.startswith("alias "):  # which says both
        return "", ""
    return bytes(before).decode(), bytes(after).decode()  # type: ignore[call-overload]


def _named(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def _end(move: MoveAnswer | None) -> None:
    """Exit 1 where workers do not answer as was asked; a change that no server is there for stands all the same."""
    if move is not None and not (move.is_applied or _is_without_server(move.waits_for)):
        raise typer.Exit(1)


def _is_without_server(waits_for: list[str]) -> bool:
    from penstock.controller.convergence import NO_SERVER

    return waits_for == [NO_SERVER]
