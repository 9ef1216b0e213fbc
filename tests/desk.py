"""Commands of the control plane, typed in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli import main


class Said(msgspec.Struct):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """Types commands on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, stdin: str = "") -> Said:
        """What `penstock` answers to these words."""
        out, err = io.StringIO(), io.StringIO()
        given, sys.argv = sys.argv, ["penstock", *words, "--home", str(self.home)]
        typed, sys.stdin = sys.stdin, io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = _code()
        finally:
            sys.argv, sys.stdin = given, typed
        return Said(code, out.getvalue(), err.getvalue())

    def ok(self, *words: str) -> Said:
        """The same, which must end well."""
        said = self(*words)
        assert 0 == said.code, said.err
        return said


def _code() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
