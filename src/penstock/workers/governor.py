"""The supervisor's side of the controller: starts its process, hears it, and starts another when it dies."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from penstock.settings import Settings
from penstock.telemetry import FamilyState
from penstock.workers import channel
from penstock.workers.channel import Apply, Beat, EndSegment, Failed, Govern, Governs, Leave, Standing
from penstock.workers.spawn import BackOff, Channelled, fate_of, spawn

_LOG = logging.getLogger("penstock")
_PATIENCE_S: Final = 15.0
CONTROLLER: Final = "penstock.controller.process"


class Governor:
    """Keeps a controller beside the workers, which go on without it.

    `url` is where the control API answers, None before it does. `is_settled`: it is known whether the first controller
    governs, or has been waited for long enough.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        *,
        on_word: Callable[[], None],
        on_turn: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """`on_word` is called whenever there may be something new to serve, and at the beginning of each controller;
        `on_turn` where the workers are to begin new segments; `on_failure` hears why the first one cannot begin.
        """
        self.url: str | None = None
        self.is_settled = False
        self.restarts = 0
        self.counted: list[FamilyState] = []
        """What the controller has counted."""
        self._govern = Govern(settings, url, datetime.now(UTC))
        self._on_word = on_word
        self._on_turn = on_turn
        self._on_failure = on_failure
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Channelled | None = None
        self._ended: list[subprocess.Popen[bytes]] = []  # to be reaped
        self._rest = BackOff()
        self._is_over = False
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Start a controller, and settle within a while however that goes."""
        self._start()
        self._loop.call_later(_PATIENCE_S, self._settle)

    def tell(self, standing: Standing) -> None:
        """Tell the controller how the workers stand, if there is one; a new one asks by its `Governs`."""
        if self._line is not None:
            channel.send(self._line.end, standing)

    def leave(self) -> None:
        """Let the controller go, which notes that nothing is served here any more."""
        self._is_over = True
        if self._line is not None:
            channel.send(self._line.end, Leave())

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those to be waited for."""
        return [*self._ended, *([] if self._process is None else [self._process])]

    def watch(self) -> None:
        """Reap what has ended."""
        self._ended = [process for process in self._ended if process.poll() is None]

    def _start(self) -> None:
        if self._is_over:
            return
        self._process, end = spawn(CONTROLLER, threads=1)
        self._line = Channelled(end)
        self._loop.add_reader(end, self._hear, self._line)
        channel.send(end, self._govern)

    def _hear(self, line: Channelled) -> None:
        try:
            message = channel.received_by_supervisor(line.end)
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError):
            message = None
        match message:
            case None:
                self._bury(line)
            case Governs():
                self.url = message.url
                self._settle()
                self._on_word()
            case Apply():
                self._on_word()
            case Beat():
                self.counted = message.counted
            case EndSegment():
                self._on_turn()
            case Failed():
                _LOG.error("the controller cannot begin: %s", message.message)
                if self.url is None:
                    self._on_failure(message.message)

    def _bury(self, line: Channelled) -> None:
        self._loop.remove_reader(line.end)
        line.end.close()
        process, self._process, self._line, self.counted = self._process, None, None, []
        if process is None:
            return
        self._ended.append(process)
        if self._is_over:
            return
        rest_s = self._rest.after_s(line.lived_s)
        _LOG.error("the controller %s; what is served goes on, and another starts in %.1f s", fate_of(process), rest_s)
        self.restarts += 1
        self._loop.call_later(rest_s, self._start)
        self._settle()

    def _settle(self) -> None:
        if not self.is_settled:
            self.is_settled = True
            self._on_word()
