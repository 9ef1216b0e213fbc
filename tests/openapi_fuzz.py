"""Schemathesis against real servers and their own `/openapi.json`: `make schemathesis` runs it, the suite does not.

`python tests/openapi_fuzz.py COMMAND [OPTION…]`: COMMAND is schemathesis, from an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import _packed
from penstock.controller.api import api_of
from penstock.testing import running
from planes import ANA, plane_of, served, settings_of
from variants import variant

CONFIG = Path(__file__).with_name("schemathesis.toml")
# They answer every row of their schema; others may overflow, which is a 500 as it should be.
MODELS = ("iris", "churn")
# Bodies and answers that are no JSON.
BINARY = ("/v1/backup", "/v1/models/{name}/versions")


def checked(url: str, folder: Path, *more: str) -> int:
    """The exit code of schemathesis against the server at `url`."""
    words = ["--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--suppress-health-check=all"]
    line = [sys.argv[1], *words, *more, *sys.argv[2:]]
    return subprocess.run(line, check=False, stdin=subprocess.DEVNULL, cwd=folder).returncode


def main() -> int:
    """Whether the data port or the control API failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = _packed(folder)
        with running([bundles[model] for model in MODELS], folder / "home", server__default_model="churn") as server:
            data = checked(server.url, folder)
        settings = settings_of(folder / "controlled")
        with plane_of(settings) as plane, served(api_of(plane.operations, settings)) as url:
            for bundle in (bundles["iris"], variant(bundles["iris"], folder / "variants", 5)):
                plane.operations.publish(bundle, ANA)
            control = checked(url, folder, *(word for path in BINARY for word in ("--exclude-path", path)))
    return data or control


if __name__ == "__main__":
    sys.exit(main())
