"""How many bytes of request bodies a worker holds at a time: those that are arriving and those that are worked on."""

from __future__ import annotations

from penstock.errors import Overloaded
from penstock.server.call import Call

DEFAULT_BYTES = 64 * 1024 * 1024


class Intake:
    """Counts bodies in and out. One per worker, on its event loop.

    `held_bytes` is what is held now; whoever lets go of a body subtracts its length: `Predict` at the end of a call.
    One body alone may always be held, whatever its size.
    """

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def hold(self, part_bytes: int, own_bytes: int) -> bool:
        """Count another part of a body that has `own_bytes` by now. False, once counted, if that is too much."""
        held_bytes = self.held_bytes = self.held_bytes + part_bytes
        return held_bytes <= self.limit_bytes or held_bytes <= own_bytes

    def refuse(self, call: Call) -> None:
        """Fail `call` with Overloaded and let go of its body."""
        self.let_go(call)
        call.failure = overloaded()

    def let_go(self, call: Call) -> None:
        """Let go of the body of a call that does not start."""
        self.held_bytes -= len(call.body)
        call.body = b""


def overloaded() -> Overloaded:
    """The failure of a body for which there is no room."""
    return Overloaded("the server holds as many bytes of requests as it may (limits.bytes_in_flight): try again")
