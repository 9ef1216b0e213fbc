"""`doctor`: what is wrong with this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.screen import console, print_json, print_table, progress


def doctor(
    *,
    bundle: Annotated[list[Path] | None, typer.Argument(help="Bundles to hold against this environment.")] = None,
    home: Annotated[str | None, typer.Option(help="Where data live. [default: ./penstock-home]")] = None,
    config: Annotated[Path | None, typer.Option(help="A settings file. [default: ./penstock.toml, if there]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """Say what is wrong with this installation and these bundles, and the mend of each.

    Looks at Python, libraries, settings, the home directory, disk, clock, and whether each bundle answers its golden
    rows here. Exits 1 when there is a problem; what is weak or worth a note exits 0. Changes nothing.

    Example: `penstock doctor bundles/churn-1`
    """
    from penstock.doctor import findings_of, look

    with progress(quiet=json) as step:
        step("looking")
        facts = look(bundle or [], home=home, file=config)
    found = findings_of(facts)
    problems = sum(finding.degree == "problem" for finding in found)
    if json:
        print_json({"ok": not problems, "findings": found})
    elif found:
        rows = [(finding.degree, finding.where, finding.what, finding.mend) for finding in found]
        print_table("", rows, columns=("degree", "where", "what", "mend"))
    if not json:
        counted = f"{'[red]' if problems else '[green]'}{problems} problem(s)[/], {len(found) - problems} to know"
        console().print(f"{counted}; {len(facts.libraries)} libraries, {len(facts.bundles)} bundle(s) looked at")
    if problems:
        raise typer.Exit(1)
