"""A real `penstock serve` with a controller, and what an operator does with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from loads import wait_for
from penstock.control.answers import ModelAnswer, MoveAnswer
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.remote import RemoteOperations
from penstock.routing import CHAMPION
from running import Running, running

ADA = By(who=Who("ada@mill"))
NODE = "mill"


class Governed:
    """A server of two workers on its home, and its control API."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.home = server.home
        self.operations = RemoteOperations(self.control_url)

    @property
    def control_url(self) -> str:
        """Where the control API answered at first."""
        wait_for(lambda: "control API at" in self.server.text, "the control API")
        return re.findall(r"control API at (http://\S+)", self.server.text)[-1]

    def publish(self, bundle: Path) -> int:
        """The number that a bundle gets as a version."""
        return self.operations.publish(bundle, ADA).version

    def deploy(self, model: str, version: int) -> MoveAnswer:
        """Make a version the champion, and wait until the workers have applied it."""
        return self.operations.move(model, CHAMPION, version, ADA)

    def rollback(self, model: str) -> MoveAnswer:
        """Go back to the champion before."""
        return self.operations.rollback(model, ADA)

    def model(self, name: str) -> ModelAnswer:
        """What `penstock model` shows."""
        return self.operations.model(name)

    def served(self, model: str) -> int | None:
        """The champion that all workers answer by, as the history knows; None while they do not agree."""
        return self.model(model).serving.get(NODE, {}).get(CHAMPION)


@contextlib.contextmanager
def governed(home: Path, *words: str, **settings: object) -> Iterator[Governed]:
    """A server of what is published below `home`, while the block runs; as `running`."""
    given = {"control__port": 0, "control__node": NODE, **settings}
    with running([], home, "--workers", "2", *words, **given) as server:
        made = Governed(server)
        try:
            yield made
        finally:
            made.operations.close()
