"""The demo's server: `penstock serve` as a process of its own, as a user would start it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.errors import PenstockError

_START_S = 60.0
_STOP_S = 20.0


@contextlib.contextmanager
def served(bundles: Sequence[Path], home: Path) -> Iterator[str]:
    """The URL of a server on a free port of loopback, while it runs. Raises PenstockError if it does not start."""
    options = [word for bundle in bundles for word in ("--bundle", str(bundle))]
    command = [sys.executable, "-m", "penstock", "serve", *options, "--home", str(home), "--port", "0"]
    command += ["--workers", "0"]  # one process starts sooner
    home.mkdir(parents=True, exist_ok=True)
    output = home / "server.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield _url(process, output)
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _url(process: subprocess.Popen[bytes], output: Path) -> str:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        found = re.search(r"serves at (http://\S+)", output.read_text(errors="replace"))
        if found:
            return found.group(1)
        if process.poll() is not None:
            raise PenstockError(f"the server ended at once: {output.read_text(errors='replace')[-1000:]}")
        time.sleep(0.05)
    raise PenstockError(f"the server did not start within {_START_S:.0f} s; its output is in {output}")
