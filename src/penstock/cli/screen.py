"""What the commands print: tables for people on a terminal or in a pipe, JSON for programs, errors on stderr."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penstock.errors import MoveRefused, SchemaViolation

_SHOWN_VIOLATIONS = 10
_PIPE_WIDTH = 140
# Control characters but for tab and line feed, and those that turn the direction of writing.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def console() -> Console:
    """Standard output, for people; wide enough for a table where it is no terminal."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def print_json(value: object) -> None:
    """One JSON document on standard output, for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def printable(text: str) -> str:
    """`text` without what a terminal would obey (escape sequences, which others may have put into it)."""
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", text)


def say(text: str) -> None:
    """A line on standard output, in which nothing is markup."""
    console().print(printable(text), markup=False)


def print_table(title: str, rows: Iterable[Sequence[object]], *, columns: Sequence[str]) -> None:
    """A table; `columns` may be empty texts."""
    table = Table(title=title or None, title_justify="left", show_header=any(columns), box=None, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, overflow="fold", style="bold" if index == 0 and not name else "")
    for row in rows:
        table.add_row(*("" if cell is None else escape(printable(str(cell))) for cell in row))
    console().print(table)


def fail(error: Exception) -> None:
    """An error as a message on stderr; all violations of a row, each reason against a move, no traceback."""
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    if isinstance(error, MoveRefused) and error.reasons:
        screen.print(f"[bold red]refused[/]: {escape(str(error).partition(f': {error.reasons[0]}')[0])}")
        for reason in error.reasons:
            screen.print(f"  - {escape(printable(reason))}")
        screen.print("--force with a --reason overrules it" if error.may_force else "this cannot be overruled")
        return
    screen.print(f"[bold red]error[/]: {escape(printable(str(error)))}")
    if isinstance(error, SchemaViolation):
        for violation in error.violations[1:_SHOWN_VIOLATIONS]:
            screen.print(f"       {escape(printable(str(violation)))}")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, on a terminal's stderr; nothing elsewhere."""
    screen = Console(stderr=True, highlight=False)
    if quiet or not screen.is_terminal:
        yield lambda step: None
        return
    with screen.status("") as status:
        yield lambda step: status.update(escape(step))
