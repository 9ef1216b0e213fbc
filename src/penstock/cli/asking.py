"""Whom a command of the control plane asks (the controller of a home, one at a URL, or nobody), and as whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock.control.control import By
    from penstock.controller.operations import Operations

Home = Annotated[str | None, typer.Option(help="Where data live. [default: ./penstock-home]")]
Url = Annotated[
    str | None,
    typer.Option(help="The control API to ask, as of another machine. [default: that of the home, if it runs]"),
]
Config = Annotated[Path | None, typer.Option(help="A settings file. [default: ./penstock.toml, if there]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="A number, `latest`, or a content digest (its beginning will do).")
]
Reason = Annotated[str | None, typer.Option(help="Why; it stands in the history for good.")]
Force = Annotated[
    bool, typer.Option("--force", help="Overrule rules and breaking changes of the schema; needs a --reason.")
]
IfRevision = Annotated[
    int | None, typer.Option(help="Only if the model is still at this revision, as `penstock model` showed it.")
]


class Asked:
    """Which operations a command asks: the options that all of them have, as they were given."""

    def __init__(self, home: str | None, url: str | None, config: Path | None) -> None:
        self._home, self._url, self._config = home, url, config

    @contextmanager
    def operations(self) -> Iterator[Operations]:
        """The running controller's, or this process' own under the lock of the home. Raises ControlError."""
        from penstock.controller.lock import answering
        from penstock.settings import from_environment

        flags = {} if self._home is None else {"home": self._home}
        settings = from_environment(flags=flags, file=self._config).settings
        there = answering(Path(settings.home)) if self._url is None else None
        url = self._url if there is None else there.url
        if url is None:
            from penstock.controller.open import operations_of

            with operations_of(settings) as operations:
                yield operations
            return
        # What runs a controller is not loaded to ask one: a rollback in the night waits for less than half as long.
        from penstock.controller.remote import RemoteOperations

        with closing(RemoteOperations(url)) as operations:
            yield operations


def by(reason: str | None, if_revision: int | None = None, *, force: bool = False) -> By:
    """Who asks: the operating system's user@host, which nobody has verified."""
    from penstock.bundle.provenance import user_at_host
    from penstock.control.changes import Who
    from penstock.control.control import By

    if force and not (reason or "").strip():
        raise typer.BadParameter("say why: --force overrules what protects callers", param_hint="--reason")
    return By(who=Who(user_at_host()), reason=reason, if_revision=if_revision, is_forced=force)


def number_of(operations: Operations, name: str, version: str) -> int:
    """The number of the version that is meant. Raises Unknown naming those that there are."""
    from penstock.control.aliases import version_of

    if version.isdecimal():
        return int(version)
    return version_of(name, {one.number: one.digest for one in operations.model(name).versions}, version)
