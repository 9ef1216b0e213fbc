"""A real controller process, and in this one the supervisor with two workers that apply whatever they are told."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import msgspec

from penstock.control.sql_store import SqlStore
from penstock.control.state import State, folded
from penstock.controller.remote import RemoteOperations
from penstock.routing import Wanted, read_wanted
from penstock.settings import ControlSettings, Settings
from penstock.workers import channel
from penstock.workers.channel import Apply, Failed, Govern, Governs, Leave, Standing
from penstock.workers.governor import CONTROLLER
from penstock.workers.spawn import spawn

END_S = 30.0


def settings_of(home: Path, **sections: object) -> Settings:
    """Of a controller on a free port that calls its machine `mill`."""
    control = ControlSettings(port=0, node="mill")
    return msgspec.structs.replace(Settings(home=str(home), control=control), **sections)


class Stage:
    """Controllers one after the other; `url` is where the present one answers, `failure` why it cannot begin."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Path(settings.home)
        self.began_at = datetime.now(UTC)
        self.url = ""
        self.failure = ""
        self.applied: list[int] = []

    def __enter__(self) -> Stage:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.leave()

    def start(self) -> None:
        """Start a controller, and return once it governs or has said why it cannot."""
        self.url = self.failure = ""
        self.process, self._end = spawn(CONTROLLER, threads=1)
        channel.send(self._end, Govern(self.settings, "http://127.0.0.1:8080", self.began_at))
        self._is_known = threading.Event()
        self._thread = threading.Thread(target=self._hear, args=(self._end,), daemon=True)
        self._thread.start()
        assert self._is_known.wait(END_S)

    def kill(self) -> None:
        """End the controller with SIGKILL."""
        self.process.kill()
        self.ended()

    def leave(self) -> int:
        """Let the controller leave in order; its exit status."""
        channel.send(self._end, Leave())
        return self.ended()

    def vanish(self) -> int:
        """Leave the controller alone, as a killed supervisor does; its exit status."""
        self._end.shutdown(socket.SHUT_RDWR)
        return self.ended()

    def ended(self) -> int:
        """Wait until the controller has ended; its exit status."""
        status = self.process.wait(END_S)
        self._thread.join(END_S)
        self._end.close()
        return status

    def _hear(self, end: socket.socket) -> None:
        while True:
            select.select([end], [], [])
            try:
                message = channel.received_by_supervisor(end)
            except BlockingIOError:
                continue
            except OSError:
                message = None
            match message:
                case Governs():
                    self.url = message.url
                    self._stand()
                    self._is_known.set()
                case Apply():
                    self.applied.append(message.revision)
                    self._stand()
                case Failed():
                    self.failure = message.message
                case None:
                    self._is_known.set()
                    return

    def _stand(self) -> None:
        revision = self.wanted.revision
        channel.send(self._end, Standing({0: revision, 1: revision}, {}, revision))

    @property
    def wanted(self) -> Wanted:
        return read_wanted(self.home)

    def operations(self) -> RemoteOperations:
        return RemoteOperations(self.url)


def state_of(home: Path) -> State:
    """What the events of a home make, read beside whoever writes them; a gap raises."""
    with contextlib.closing(SqlStore(None, home=home)) as store:
        return folded(store.since(0))
