"""A replay that saves after each batch and goes on only when it is told to: for tests that kill it in the middle.

python slow_replay.py HOME BUNDLE
"""

from __future__ import annotations

import sys
from pathlib import Path

from penstock.audit.sealed_lines import sealed_lines
from penstock.bundle.bundle import Bundle
from penstock.jobs.replay import Progress, Question, Replay
from penstock.runtime.model import Model


def wait(progress: Progress) -> None:
    """Say how many pairs there are, and wait for a line."""
    sys.stdout.write(f"{progress.pairs}\n")
    sys.stdout.flush()
    sys.stdin.readline()


model = Model.load(Bundle.open(Path(sys.argv[2])), version=2)
question = Question(model=model.name, version=2, digest=model.digest)
Replay(Path(sys.argv[1]), question, model, sealed_lines=sealed_lines, batch_rows=200).run(wait, save_s=0.0)
