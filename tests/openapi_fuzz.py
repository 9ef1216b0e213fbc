"""Schemathesis against a real server and its own `/openapi.json`: `make schemathesis` runs it, the suite does not.

`python tests/openapi_fuzz.py COMMAND [OPTION…]`: COMMAND is schemathesis, from an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import _packed
from penstock.testing import running

CONFIG = Path(__file__).with_name("schemathesis.toml")
# They answer every row of their schema; others may overflow, which is a 500 as it should be.
MODELS = ("iris", "churn")


def main() -> int:
    """The exit code of schemathesis."""
    with tempfile.TemporaryDirectory() as folder:
        bundles = _packed(Path(folder))
        served = [bundles[name] for name in MODELS]
        with running(served, Path(folder) / "home", server__default_model="churn") as server:
            document = f"{server.url}/openapi.json"
            line = [
                str(Path(sys.argv[1]).absolute()),  # it runs in the folder
                "--config-file",
                str(CONFIG),
                "run",
                document,
                "--suppress-health-check=all",
                *sys.argv[2:],
            ]
            return subprocess.run(line, check=False, stdin=subprocess.DEVNULL, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
