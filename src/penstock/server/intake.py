"""How many bytes of request bodies a worker holds at a time: those that are arriving and those that are worked on."""

from __future__ import annotations

from penstock.errors import Overloaded
from penstock.server.call import Call

DEFAULT_BYTES = 64 * 1024 * 1024


class Intake:
    """Counts bodies in and out. One per worker, on its event loop; `Predict` gives back what a call held.

    `held_bytes` is what is held now; one body alone may always be held, whatever its size.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, call: Call, part: bytes) -> bool:
        """Hold a part of the body of `call`. If there is no room, it fails with Overloaded and holds nothing."""
        held_bytes = self.held_bytes + len(part)
        if held_bytes > self._limit_bytes and self.held_bytes > len(call.body):
            self.refuse(call)
            return False
        self.held_bytes = held_bytes
        return True

    def refuse(self, call: Call) -> None:
        """Fail `call` with Overloaded; what has come of its body is let go."""
        self.give_back(call)
        call.failure = Overloaded(_FULL)

    def give_back(self, call: Call) -> None:
        """Let go of the body of a call that never started."""
        self.held_bytes -= len(call.body)
        call.body = b""


_FULL = "the server holds as many bytes of requests as it may (limits.bytes_in_flight): try again"
