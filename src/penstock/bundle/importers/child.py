"""`python -m penstock.bundle.importers.child`: does one order whose source may run code, and leaves a sealed bundle.

Reads the order as JSON on standard input; writes lines (`order.Line`) on the pipe whose number is its argument. The
parent (`apart.py`) gets a path, never an object; what this process prints is kept for the error message.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback
from contextlib import suppress

import msgspec

from penstock.bundle.importers.carry import carry_out
from penstock.bundle.importers.order import Failed, Line, Order, Packed, Step
from penstock.errors import PackRefused, PenstockError


class Task(msgspec.Struct, frozen=True):
    """What the parent sends: the order, and how much memory the process may take."""

    order: Order
    memory_bytes: int


def main() -> int:
    """Carry out the one order; 0 when there is a bundle, 1 when there is none."""
    pipe = int(sys.argv[1])
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)

    def write(line: Line) -> None:
        os.write(pipe, msgspec.json.encode(line) + b"\n")

    _limit(task.memory_bytes)
    order = msgspec.structs.replace(task.order, may_unpickle=True)
    try:
        bundle = carry_out(order, lambda text: write(Step(text)))
    except (PenstockError, FileNotFoundError) as error:
        parts = (error.step, error.reason, error.advice) if isinstance(error, PackRefused) else None
        write(Failed(type(error).__name__, str(error), parts))
        return 1
    except Exception as error:  # the edge of the process: the traceback is printed, for the parent's message
        traceback.print_exc()
        said = "the memory limit was reached" if isinstance(error, MemoryError) else str(error)[:300]
        write(Failed(type(error).__name__, said, is_unforeseen=True))
        return 1
    write(Packed(str(bundle.path)))
    return 0


def _limit(memory_bytes: int) -> None:
    """Bound the address space, and leave no core dump of what may be personal data."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS does not limit the address space
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    sys.exit(main())
