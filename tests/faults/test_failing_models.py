"""Models that raise, hang, answer NaN or another number of rows: their callers are told, all others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moody
import msgspec
import pytest

from loads import Told, ask, summed, wait_for
from running import Running, request, running

CALLERS = 24
CALLS = 12  # of each caller
DEADLINE_MS = 1000


@pytest.fixture(scope="module", params=[0, 2], ids=["in the server", "in a process of its own"])
def server(
    request: pytest.FixtureRequest, faulty: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """All models, of which `moody` is native, so with workers in a process of its own; its class is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(moody.__file__).parent))
        home = tmp_path_factory.mktemp("failing")
        words = ("--workers", str(request.param))
        limits = {"server__deadline_ms": DEADLINE_MS * 3, "native__grace_s": 0.5}
        with running(list(faulty.values()), home, *words, sklearn__trusted="moody.Moody", **limits) as started:
            yield started


def call_of(model: str, xs: list[float], **headers: str) -> bytes:
    body = msgspec.json.encode({"instances": [{"x": x} for x in xs]})
    return request(f"/v1/models/{model}/predict", body, headers=headers)


async def ask_all(server: Running, callers: list[list[bytes]]) -> list[list[Told]]:
    """What each caller is told, all callers at once, each on a connection of its own."""

    async def caller(calls: list[bytes]) -> list[Told]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
        try:
            return [await ask(reader, writer, data) for data in calls]
        finally:
            writer.close()

    return await asyncio.gather(*map(caller, callers))


def values(told: Told) -> list[Any]:
    return [each["value"] for each in msgspec.json.decode(told.body)["predictions"]]


POISONS = [("moody", each) for each in moody.MOODS.values()] + [("log", -5.0)]


@pytest.mark.parametrize(("model", "poison"), POISONS, ids=[*moody.MOODS, "the log of a negative number"])
def test_a_poison_row_in_every_batch(server: Running, model: str, poison: float) -> None:
    """The callers of the poison alone are told 500; those who shared a run with it get their own rows' numbers."""
    calls: list[list[list[float]]] = []
    for caller in range(CALLERS):
        rows = [[float(1 + caller * 1000 + call), float(2 + caller * 1000 + call)] for call in range(CALLS)]
        calls.append([[row[0], poison] for row in rows] if caller % 6 == 0 else rows)
    told = asyncio.run(ask_all(server, [[call_of(model, xs) for xs in of] for of in calls]))
    records = {record.request_id: record for record in server.records()}
    for caller, (asked, answers) in enumerate(zip(calls, told, strict=True)):
        for xs, answer in zip(asked, answers, strict=True):
            if caller % 6 == 0:
                error = msgspec.json.decode(answer.body)["error"]
                code = "model_failed" if poison == moody.RAISES else "output_refused"
                assert (500, code) == (answer.status, error["code"])
                record = records[error["request_id"]]
                assert ("failure", [{"x": x} for x in xs]) == (record.kind, record.input)
                assert not any(word in answer.body for word in (b"Traceback", b".py", b"/", b"I will not"))
            else:
                expected = [float(moody.np.log(x)) for x in xs] if model == "log" else xs
                assert (200, pytest.approx(expected, rel=1e-12)) == (answer.status, values(answer))
    if poison == moody.RAISES:
        assert "RuntimeError: I will not (request_id=" in server.text


def test_a_model_that_hangs(server: Running) -> None:
    """While one run hangs, its caller and those behind it are told 504 in time, and other models are answered.

    When it is over, the model answers again.
    """
    slow = [call_of("moody", [moody.HANGS], **{"X-Deadline-Ms": str(DEADLINE_MS)})]
    behind = [[call_of("moody", [float(x)], **{"X-Deadline-Ms": str(DEADLINE_MS)})] for x in range(8)]
    others = [[call_of("echo", [float(x)]) for x in range(50)] for _ in range(4)]
    before = summed(server, "model_requests_total", model="echo", status="success")
    told = asyncio.run(ask_all(server, [slow, *behind, *others]))
    assert {504} == {told[0][0].status}
    assert {each[0].status for each in told[1:9]} <= {200, 504}
    assert [[float(x)] for x in range(50)] * 4 == [values(each) for of in told[9:] for each in of]
    wait_for(lambda: summed(server, "model_requests_total", model="echo", status="success") == before + 200)
    again = asyncio.run(ask_all(server, [[call_of("moody", [7.0])] for _ in range(8)]))
    assert [(200, [7.0])] * 8 == [(each.status, values(each)) for [each] in again]


def test_a_model_that_never_ends(faulty: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A native model that computes for ever is ended with its process; the next is there soon, and answers."""
    monkeypatch.setenv("PYTHONPATH", str(Path(moody.__file__).parent))
    served = [faulty["moody"], faulty["echo"]]
    limits = {"server__deadline_ms": DEADLINE_MS, "native__grace_s": 0.2, "sklearn__trusted": "moody.Moody"}
    with running(served, tmp_path, "--workers", "2", **limits) as server:
        others = [[call_of("echo", [float(x)]) for x in range(50)] for _ in range(4)]
        told = asyncio.run(ask_all(server, [[call_of("moody", [moody.NEVER_ENDS])], *others]))
        assert told[0][0].status in (500, 504)
        assert [[float(x)] for x in range(50)] * 4 == [values(each) for of in told[1:] for each in of]
        wait_for(lambda: asyncio.run(ask_all(server, [[call_of("moody", [7.0])]]))[0][0].status == 200)
        again = asyncio.run(ask_all(server, [[call_of("moody", [float(x)])] for x in range(8)]))
        assert [(200, [float(x)]) for x in range(8)] == [(each.status, values(each)) for [each] in again]
