"""The environments of other people's clients: each is made once, in .venvs/clients, and again when its line changes.

`make clients` runs this with the Python of the environments. A client is one line in `CLIENTS`; its program runs in a
process of its own, with that environment and nothing of ours.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

HOME: Final = Path(__file__).parents[2] / ".venvs" / "clients"
PROGRAMS: Final = Path(__file__).parent / "programs"

CLIENTS: Final[Mapping[str, Sequence[str]]] = {
    "mlflow": ("mlflow==3.17.2",),
    "triton-http": ("tritonclient[http]==2.73.0",),
    "triton-grpc": ("tritonclient[grpc]==2.73.0",),
    "kserve": ("kserve==0.21.0",),
}


def called(name: str, program: str, *words: str) -> Any:
    """What `programs/{program}` prints as JSON when it runs in the environment `name`. Skips where that is not made."""
    python = HOME / name / "bin" / "python"
    if not is_made(name):
        pytest.skip(f"the environment of {name} is not there: make clients")
    line = [str(python), "-I", str(PROGRAMS / program), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert 0 == done.returncode, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def is_made(name: str) -> bool:
    """Whether the environment is there, with what its line says."""
    stamp = HOME / name / ".installed"
    return stamp.is_file() and stamp.read_text().split() == list(CLIENTS[name])


def make(name: str) -> None:
    """Make the environment anew."""
    home = HOME / name
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *CLIENTS[name]], check=True)
    (home / ".installed").write_text("\n".join(CLIENTS[name]))


if __name__ == "__main__":
    for client in CLIENTS:
        if not is_made(client):
            make(client)
