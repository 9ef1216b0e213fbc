"""The command line: one file per command group, no logic; each command imports what it needs when it runs."""

from penstock.cli.main import main

__all__ = ["main"]
