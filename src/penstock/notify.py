"""What a service tells systemd: that it is ready, is stopping, is alive. One datagram each (sd_notify(3))."""

from __future__ import annotations

import asyncio
import contextlib
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


class Notify:
    """Tells the socket that systemd names in `NOTIFY_SOCKET`; without one it tells nobody. Never fails."""

    def __init__(self, address: str | None, watchdog_usec: str | None = None) -> None:
        """`address` and `watchdog_usec` as in the environment: a path or `@abstract` name, and WatchdogSec in µs."""
        self._address = None if not address else "\0" + address[1:] if address.startswith("@") else address
        is_number = watchdog_usec is not None and watchdog_usec.isdigit()
        self.every_s = int(watchdog_usec) / 2e6 if self._address and is_number and watchdog_usec else None
        """How often `ALIVE` is to be told; None: never."""

    def tell(self, state: str) -> None:
        """Tell `state`."""
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)  # one that does not listen must not stop us
            end.sendto(state.encode(), self._address)

    async def tell_alive(self) -> None:
        """Tell again and again that the event loop turns, if anybody wants to hear it; until cancelled."""
        while self.every_s is not None:
            self.tell(ALIVE)
            await asyncio.sleep(self.every_s)


NOBODY = Notify(None)
