"""Webhooks of a real server: no event is lost by a receiver that is away, nor by a controller that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from loads import wait_for
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.lock import answering
from penstock.controller.open import operations_of
from penstock.settings import Settings
from receivers import receiver
from running import running
from variants import variant

ANA = By(who=Who("ana@quay"))


def test_no_event_is_lost(bundles: dict[str, Path], tmp_path: Path) -> None:
    """While a receiver is away the controller is killed in the middle of deploys: in the end it has every event."""
    home = tmp_path / "home"
    home.mkdir()
    second = variant(bundles["iris"], tmp_path / "variants", 5)
    with receiver() as ops:
        ops.answer = 503
        (home / "penstock.toml").write_text(f'[webhooks.ops]\nurl = "{ops.url}"\nsecret = "a secret of the tests"\n')
        with running([], home, "--workers", "1", control__port=0) as server:
            with operations_of(Settings(home=str(home))) as operations:
                operations.publish(bundles["iris"], ANA)
                operations.publish(second, ANA)
                wait_for(lambda: ops.got, "the first attempt")
                assert operations.move("iris", "champion", 2, ANA).is_applied
            killed = answering(home)
            assert killed is not None
            os.kill(killed.pid, signal.SIGKILL)
            wait_for(lambda: (now := answering(home)) is not None and now.pid != killed.pid, "another controller")
            with operations_of(Settings(home=str(home))) as operations:
                assert operations.rollback("iris", ANA).is_applied
                ops.answer = 200
                events = operations.history("iris").events
            assert server.process.poll() is None
            first = min(received.event["data"]["revision"] for received in ops.got)
            owed = {event.revision for event in events if event.revision >= first}
            wait_for(lambda: owed <= set(ops.revisions), "all events", 120)
    kinds = {received.event["type"].rpartition(".")[2] for received in ops.taken}
    assert {"moved", "serving", "tried"} <= kinds
