"""What comes back from the process of a model: every caller of a run is told, whatever came of it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest

from penstock.errors import ModelFailed
from penstock.runtime import Model, RemoteModel
from penstock.runtime.away import Results, Ticket
from penstock.runtime.model import open_model
from penstock.runtime.wire import Failed, Ran, frame
from rows import IRIS_ROW

DEADLINE_S = 10.0


async def told(model: Model, answer: Ran, callers: int) -> Results:
    """The results of a run of one row each, which the other end answers so."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    remote = RemoteModel(model.bundle, version=1, check=model.check, cost=model.cost)
    await remote.remote.attach(ours)
    tickets = []
    for _ in range(callers):
        ticket = Ticket()
        ticket.rows = model.check.from_objects([dict(IRIS_ROW)]).rows
        tickets.append(ticket)
    done: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
    [number] = remote.remote.ask(tickets, lambda results, run_ms: done.set_result(results))
    await asyncio.get_running_loop().sock_sendall(theirs, frame(msgspec.structs.replace(answer, id=number)))
    try:
        return await asyncio.wait_for(done, DEADLINE_S)
    finally:
        remote.remote.close()
        theirs.close()


@pytest.mark.parametrize("callers", [1, 3])
def test_a_run_in_which_everybody_failed(bundles: dict[str, Path], callers: int) -> None:
    """A classifier that raised for all of them: each is told so, and nobody waits for a deadline."""
    failed = [Failed(place, "model_failed", f"it raised for {place}") for place in range(callers)]
    results = asyncio.run(told(open_model(bundles["iris"]), Ran(0, 1.0, [b"", b""], failed), callers))
    assert [(ModelFailed, f"it raised for {place}") for place in range(callers)] == [
        (type(one), str(one)) for one in results
    ]


def test_an_answer_that_is_none(bundles: dict[str, Path]) -> None:
    """Bytes that are not the outputs of the rows fail the callers of the run, with what was wrong."""
    results = asyncio.run(told(open_model(bundles["iris"]), Ran(0, 1.0, [b"12345", b""], []), 2))
    assert [ModelFailed, ModelFailed] == [type(one) for one in results]
