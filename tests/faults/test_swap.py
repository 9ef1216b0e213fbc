"""Versions that change under load by callers that never retry: deployed, rolled back, refused, half-dead workers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import moody
import msgspec
import pytest
from moody import FACTORS

from broken import failing_golden_row, killing, missing_library
from governed import Governed, governed
from loads import Load, Told, ask, memory_bytes, summed, wait_for, workers_of
from penstock.control.changes import Moved
from penstock.controller.lock import Address, answering
from penstock.controller.remote import RemoteOperations
from penstock.errors import MoveRefused, PenstockError
from penstock.routing import read_wanted, write_wanted
from rows import IRIS_ROW
from running import Running, request, running

SWAPS = int(os.environ.get("PENSTOCK_TEST_SWAPS", "24"))  # `make soak-swaps` does 100, one a second
EVERY_S = float(os.environ.get("PENSTOCK_TEST_SWAP_S", "0"))
WARM_SWAPS = 8
GROWN_BYTES = 8 << 20
X = 7.0
CALLERS = 8


class Answers(Load):
    """As `Load`, of a model of `versions`: `versions` counts who answered, `wrong` has answers that were not its."""

    def __init__(self, server: Running, model: str, callers: int = CALLERS) -> None:
        body = msgspec.json.encode({"instances": [{"x": X}]})
        super().__init__(server, callers, request(f"/v1/models/{model}/predict", body))
        self.versions: Counter[int] = Counter()
        self.wrong: list[bytes] = []

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            told = await ask(reader, writer, self._data)
            self.statuses[told.status] += 1
            self.answered.append("")
            self._look(told)
            if told.is_last:
                return

    def _look(self, told: Told) -> None:
        answer = msgspec.json.decode(told.body)
        if told.status != 200:
            self.wrong.append(told.body)
            return
        self.versions[answer["version"]] += 1
        if answer["predictions"] != [{"value": X * FACTORS[answer["version"] - 1]}]:
            self.wrong.append(told.body)

    def require_sound(self) -> None:
        """Every request was answered, by the version that its answer names."""
        assert ([], [], {200}, 0) == (self.lost, self.wrong[:3], set(self.statuses), self.refused)


@pytest.fixture(scope="module")
def serving(versions: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """A server of `line`, of which three versions are published, the first its champion; one for all tests in order."""
    with governed(tmp_path_factory.mktemp("swap")) as started:
        assert [1, 2, 3] == [started.publish(path) for path in versions["line"]]
        yield started


def test_deploys_and_rollbacks_under_load(serving: Governed) -> None:
    """Alternating deploys and rollbacks: no request fails, each answer is of the version that it names, whoever asks
    after a command returned is answered by what it deployed; memory is flat.
    """
    held: list[list[int]] = []
    with Answers(serving.server, "line") as load:
        load.wait_for(50)
        for swap in range(SWAPS):
            began_s = time.monotonic()
            wanted = 1 if swap % 2 else 2 + swap // 2 % 2  # every deploy loads what was let go before
            answer = serving.rollback("line") if swap % 2 else serving.deploy("line", wanted)
            assert (True, [], wanted) == (answer.is_applied, answer.waits_for, answer.after)
            with Answers(serving.server, "line") as after:
                after.wait_for(2 * CALLERS)
            assert {wanted} == set(after.versions)
            after.require_sound()
            if swap == WARM_SWAPS or swap == SWAPS - 1:
                held.append([memory_bytes(pid) for pid in workers_of(serving.server)])
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - began_s)))
    load.require_sound()
    assert {1, 2, 3} == set(load.versions)
    grown = [after - before for before, after in zip(*held, strict=True)]
    assert max(grown) < GROWN_BYTES
    moves = [event.change for event in serving.operations.history("line").events if isinstance(event.change, Moved)]
    assert SWAPS + 1 == len(moves)
    assert 0 == len([line for line in serving.server.text.splitlines() if "ERROR" in line or "Traceback" in line])


BROKEN: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a failing golden row": (failing_golden_row, "golden row 0"),
    "a missing library": (missing_library, "pip install 'penstock[tensorflow]'"),
    "a graph that kills its process": (killing, "killed by SIGSEGV"),
}


def test_versions_that_cannot_be_served(serving: Governed, bundles: dict[str, Path], tmp_path: Path) -> None:
    """A version that does not load or does not prove itself is refused with the reason, which the model shows; the old
    one answers all the while, and the server is ready.
    """
    assert serving.deploy("line", 1).is_applied
    serving.publish(bundles["iris"])
    ready = request("/health/ready", method="GET")
    with Answers(serving.server, "line") as load, Pages(serving.server, 2, ready) as pages:
        for number, (broken, words) in enumerate(BROKEN.values(), start=2):
            assert number == serving.publish(broken(bundles["iris"], tmp_path / f"broken-{number}"))
            with pytest.raises(MoveRefused, match="cannot be served here") as refused:
                serving.deploy("iris", number)
            [version] = [each for each in serving.model("iris").versions if each.number == number]
            assert words in str(refused.value)
            assert words in version.failures["mill"]
            assert {"champion": 1} == serving.model("iris").aliases
        load.wait_for(50)
    load.require_sound()
    assert {200} == set(pages.statuses)
    assert {1} == set(load.versions)


def test_workers_that_are_killed_while_versions_change(serving: Governed) -> None:
    """kill -9 of workers, and a rolling restart, between and during deploys: in the end all workers serve what was
    deployed last.
    """
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(0.15):
            workers = workers_of(serving.server)
            if len(workers) == 2:
                os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in (2, 3, 1, 2, 3):
            serving.deploy("line", number)
    finally:
        is_over.set()
        killer.join()
    serving.server.process.send_signal(signal.SIGHUP)
    serving.deploy("line", 2)
    wait_for(lambda: len(workers_of(serving.server)) == 2 and serving.served("line") == 2, "all serve version 2")
    with Answers(serving.server, "line") as load:
        load.wait_for(50)
    load.require_sound()
    assert {2} == set(load.versions)


def test_the_controller_is_started_again(serving: Governed) -> None:
    """kill -9 of the controller under load: nobody notices, and another one governs; the metrics count it."""
    killed = controller_of(serving).pid
    with Answers(serving.server, "line") as load:
        load.wait_for(20)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: (now := answering(serving.home)) is not None and now.pid != killed, "another controller")
        load.wait_for(20)
    load.require_sound()
    assert 1 == summed(serving.server, "penstock_worker_restarts_total", worker="controller")
    serving.operations.close()
    serving.operations = RemoteOperations(controller_of(serving).url)
    assert serving.deploy("line", 2).is_applied


def test_a_byte_that_changes_after_the_trial(serving: Governed, versions: dict[str, list[Path]]) -> None:
    """A version that was proven here, and whose file changed since: nobody serves it, and the deploy tells why."""
    assert serving.deploy("line", 2).is_applied
    assert serving.deploy("line", 1).is_applied
    assert serving.deploy("line", 3).is_applied  # 2 is not loaded any more
    model = (versions["line"][1] / "model.onnx").read_bytes()
    [path] = [path for path in serving.home.glob("bundles/*/model.onnx") if path.read_bytes() == model]
    path.chmod(0o644)
    path.write_bytes(model[:-1] + bytes([model[-1] ^ 1]))  # the repository's own, too: it is the same file
    with Answers(serving.server, "line") as load:
        load.wait_for(20)
        with pytest.raises(PenstockError, match=r"model\.onnx.*it was changed"):
            serving.deploy("line", 2)
        load.wait_for(20)
    load.require_sound()
    assert {3} == set(load.versions)
    with serving.server.client() as client:
        assert 200 == client.get("/health/ready").status_code


def test_native_versions(versions: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native versions are swapped as well: the new one's process is up before anybody is answered by it, and that of
    one that is neither served nor kept ends.
    """
    monkeypatch.setenv("PYTHONPATH", f"{Path(moody.__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    with governed(tmp_path, sklearn__trusted="moody.Moody", models__kept=0) as serving:
        for path in versions["moody"]:
            serving.publish(path)
        with Answers(serving.server, "moody", 4) as load:
            load.wait_for(20)
            assert serving.deploy("moody", 2).is_applied
            load.wait_for(20)
        load.require_sound()
        assert {1, 2} == set(load.versions)
        wait_for(lambda: {"2"} == natives_of(serving.server), "the process of version 2 alone")


def test_the_server_starts_again_without_its_controller(serving: Governed) -> None:
    """What was deployed last is served from `routing.json` by a server that has no controller at all."""
    assert 3 == serving.model("line").aliases["champion"]
    assert 0 == serving.server.stop()
    with running([], serving.home) as alone:
        assert "without workers there is no controller" in alone.text
        with Answers(alone, "line") as load:
            load.wait_for(20)
    load.require_sound()
    assert {3} == set(load.versions)


def test_a_server_whose_bundles_are_gone(serving: Governed, tmp_path: Path) -> None:
    """A server that starts with versions whose bundles are not there says so, and serves the others."""
    shutil.copytree(serving.home, tmp_path / "home")
    wanted = read_wanted(tmp_path / "home")
    gone = tmp_path / "gone"
    paths = {**wanted.paths, "line": dict.fromkeys(wanted.paths["line"], str(gone))}
    write_wanted(tmp_path / "home", msgspec.structs.replace(wanted, paths=paths))
    with running([], tmp_path / "home") as alone, alone.client() as client:
        assert "line/3 cannot be served: " in alone.text
        body = {"instances": [IRIS_ROW]}
        assert 200 == client.post("/v1/models/iris/predict", json=body).status_code
        assert 404 == client.post("/v1/models/line/predict", json={"instances": [{"x": X}]}).status_code


class Pages(Load):
    """Callers that ask for a page."""

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            told = await ask(reader, writer, self._data)
            self.statuses[told.status] += 1


def controller_of(serving: Governed) -> Address:
    """The process that governs, and where."""
    found = answering(serving.home)
    assert found is not None
    return found


def natives_of(server: Running) -> set[str]:
    """The versions of `moody` that have a process of their own, as the metrics show them."""
    return {
        number for number in "12" if summed(server, "process_resident_memory_bytes", worker=f"native-moody-{number}")
    }
