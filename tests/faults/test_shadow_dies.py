"""A shadow fails, dies and is killed; those who call the champion do not notice, and each pair is there once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from moody import KILLS, ramp, touchy

from governed import ADA, Governed, governed
from loads import Load, ask, summed, wait_for
from penstock.audit.readers import Readers
from penstock.audit.record import Record
from penstock.control.answers import ShadowAnswer
from penstock.controller.lock import answering
from penstock.controller.remote import RemoteOperations
from penstock.jobs.shadow_state import ShadowState, read_state
from penstock.routing import SHADOW
from running import Running, records, request

CALLERS = 4
BREATH_S = 0.01
TIMES = 2
NEGATIVE = -5.0
SLOW_S = 180.0
COMPILED, TOUCHY = 2, 3


def call_of(x: float) -> bytes:
    """One prediction of `line`."""
    return request("/v1/models/line/predict", msgspec.json.encode({"instances": [{"x": x}]}))


class Rows(Load):
    """Callers that take a breath and ask for some rows in turn."""

    def __init__(self, server: Running, *xs: float) -> None:
        super().__init__(server, CALLERS, b"")
        self._calls = cycle([call_of(x) for x in xs])

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            told = await ask(reader, writer, next(self._calls))
            self.statuses[told.status] += 1
            self.answered.append(msgspec.json.decode(told.body)["request_id"])
            await asyncio.sleep(BREATH_S)
            if told.is_last:
                return

    def require_sound(self) -> None:
        """Every request was answered."""
        assert ([], {200}, 0) == (self.lost, set(self.statuses), self.refused)


@pytest.fixture(scope="module")
def serving(versions: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """A server of `line`: version 1 is the champion, 2 answers twice as much, 3 fails on some rows."""
    import penstock

    out = tmp_path_factory.mktemp("touchy")
    options = penstock.PackOptions(golden_rows=8)
    last = penstock.pack(touchy(), name="line", sample=ramp(), out=out, options=options).path
    # While all cores are busy an idle process gets nothing: here it must get on.
    patience = {"shadow__priority": "low", "shadow__max_lag_s": 600.0}
    with governed(tmp_path_factory.mktemp("shadows") / "home", **patience) as started:
        for path in (*versions["line"][:2], last):
            started.publish(path)
        yield started


def shadows_of(serving: Governed) -> list[int]:
    """The processes that shadow something of this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone since
            if b"penstock.controller.shadow_process" in (entry / "cmdline").read_bytes():
                links = [str(each.readlink()) for each in (entry / "fd").iterdir()]
                found += [int(entry.name)] if any(link.startswith(f"{serving.home}/shadows") for link in links) else []
    return found


def only_shadow(serving: Governed) -> int:
    """The process id of the one shadow, once it is at work."""
    wait_for(lambda: len(shadows_of(serving)) == 1, "one shadow")
    return shadows_of(serving)[0]


def at_work(serving: Governed) -> int:
    """The same, once it has counted more than there was."""
    before = read_state(serving.home, "line", COMPILED)
    pairs = 0 if before is None else before.pairs
    wait_for(lambda: (now := read_state(serving.home, "line", COMPILED)) is not None and now.pairs > pairs, "pairs")
    return only_shadow(serving)


@contextlib.contextmanager
def shadowing(serving: Governed, version: int) -> Iterator[None]:
    """A version shadows the champion while the block runs."""
    assert serving.operations.move("line", SHADOW, version, ADA).is_applied
    try:
        yield
    finally:
        serving.operations.move("line", SHADOW, None, ADA)
        wait_for(lambda: not shadows_of(serving), "the end of the shadow")


def kill_controller(serving: Governed) -> None:
    """kill -9, and wait for the next one."""
    killed = answering(serving.home)
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    wait_for(lambda: (now := answering(serving.home)) is not None and now.pid != killed.pid, "another controller")
    serving.operations.close()
    now = answering(serving.home)
    assert now is not None
    serving.operations = RemoteOperations(now.url)


def known(serving: Governed) -> ShadowAnswer:
    """What `penstock model` shows of it."""
    found = serving.model("line").shadow
    assert found is not None
    return found


def kept(serving: Governed, version: int) -> ShadowState:
    """What it keeps."""
    state = read_state(serving.home, "line", version)
    assert state is not None
    return state


def has_paired(serving: Governed, version: int, ids: list[str]) -> bool:
    state = read_state(serving.home, "line", version)
    return state is not None and state.pairs + state.errors >= len(ids)


def shadow_records(serving: Governed, version: int) -> list[Record]:
    return [one for one in records(serving.home) if one.kind == "shadow" and one.version == version]


def test_killed_in_the_middle_it_goes_on_where_it_was(serving: Governed) -> None:
    """`kill -9` of the shadow, and of the controller, under load: from the moment of the alias on each call is paired
    and recorded once; there is one shadow at a time; no caller notices.
    """
    with Rows(serving.server, 3.0, 5.0) as load:
        load.wait_for(10)
        with shadowing(serving, COMPILED):
            for _ in range(TIMES):
                os.kill(at_work(serving), signal.SIGKILL)
            first = at_work(serving)
            kill_controller(serving)
            wait_for(lambda: first not in shadows_of(serving), "the end of the controller's shadow")
            at_work(serving)
            load.__exit__()
            since = kept(serving, COMPILED).of.since
            ids = [one.request_id for one in records(serving.home) if one.kind == "prediction" and one.at >= since]
            wait_for(lambda: has_paired(serving, COMPILED, ids), "all pairs")
            told = known(serving)
            counted = {"model": "line", "version": str(COMPILED)}
            wait_for(lambda: summed(serving.server, "penstock_shadow_pairs_total", **counted) == len(ids), "metrics")
    load.require_sound()
    found = shadow_records(serving, COMPILED)
    assert dict.fromkeys(ids, 1) == dict(Counter(one.request_id for one in found))
    assert {6.0, 10.0} == {one.outputs[0]["value"] for one in found}
    state = kept(serving, COMPILED)
    assert (len(ids), 0, 0) == (state.pairs, state.errors, state.skipped)
    assert (COMPILED, 1, "running", len(ids)) == (told.version, told.champion, told.state, told.pairs)
    assert [] == [name for name in Readers(serving.home / "audit").names if name.startswith("shadow")]


def test_it_fails_on_every_tenth_row_and_dies_over_one(serving: Governed) -> None:
    """Rows that it cannot answer are errors; over one that ends its process it dies twice, and then passes it by."""
    with shadowing(serving, TOUCHY), serving.server.client() as client:
        xs = [1.0] * 9 + [NEGATIVE, 1.0, KILLS] + [1.0] * 7 + [NEGATIVE]
        answers = [client.post("/v1/models/line/predict", json={"instances": [{"x": x}]}).json() for x in xs]
        ids = [answer["request_id"] for answer in answers]
        wait_for(lambda: has_paired(serving, TOUCHY, ids), "all pairs", SLOW_S)
        told = known(serving)
    assert [[{"value": x}] for x in xs] == [answer["predictions"] for answer in answers]
    codes = {one.request_id: one.code for one in shadow_records(serving, TOUCHY)}
    expected = {NEGATIVE: "model_failed", KILLS: "shadow_crashed"}
    assert {one: expected.get(x, "ok") for one, x in zip(ids, xs, strict=True)} == codes
    assert len(ids) == len(shadow_records(serving, TOUCHY))
    assert (17, 3, 1, 2) == (told.pairs, told.errors, told.crashed, told.deaths)


def test_no_call_is_answered_by_it(serving: Governed) -> None:
    """It is no version of the data plane: asked for by its alias or number it is not found."""
    with shadowing(serving, COMPILED), serving.server.client() as client:
        body = {"instances": [{"x": 1.0}]}
        by_alias = client.post("/v1/models/line/aliases/shadow/predict", json=body)
        by_number = client.post(f"/v1/models/line/versions/{COMPILED}/predict", json=body)
    assert (404, 404) == (by_alias.status_code, by_number.status_code)
    assert "scores what the champion answered" in by_alias.json()["error"]["message"]
