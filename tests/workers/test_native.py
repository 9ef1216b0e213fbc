"""Native models in processes of their own: the same numbers, and a death that costs only what was being computed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import penstock
from loads import Load, iris_call, summed, wait_for, workers_of
from running import Running, request, running

GROWTH = "/v1/models/growth/predict"


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    served = [bundles["growth"], bundles["iris"]]
    with running(served, tmp_path_factory.mktemp("apart"), "--workers", "2") as started:
        yield started


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(each) for each in found.split()]


def sources_of(server: Running) -> list[int]:
    """The processes that have loaded a native model and fork."""
    return [pid for pid in children_of(server.process.pid) if b"workers.native" in line_of(pid)]


def computing(server: Running) -> list[int]:
    """The processes that compute native models."""
    return [pid for source in sources_of(server) for pid in children_of(source)]


def line_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def growth_call(*xs: float) -> bytes:
    return request(GROWTH, msgspec.json.encode({"instances": [{"x": x} for x in xs]}))


def test_the_numbers_are_those_of_the_bundle_itself(server: Running, bundles: dict[str, Path]) -> None:
    """What another process computes comes back as the bundle answers here, in the callers' order."""
    growth = penstock.open(bundles["growth"])
    rows = [{"x": 4.0 + step / 7} for step in range(300)]
    with server.client() as client:
        answer = client.post(GROWTH, json={"instances": rows})
    told = msgspec.convert(answer.json()["predictions"], list[penstock.Prediction])
    assert growth.predict(rows) == told


def test_workers_do_not_load_what_natives_need(server: Running) -> None:
    """No worker has scikit-learn's or pandas' libraries in memory; the native process has them."""

    def has_them(pid: int) -> bool:
        maps = Path(f"/proc/{pid}/maps").read_text()
        return "/sklearn/" in maps or "/pandas/" in maps

    workers = [pid for pid in workers_of(server) if b"workers.worker" in line_of(pid)]
    assert 2 == len(workers)
    assert [False, False] == [has_them(pid) for pid in workers]
    assert [True] == [has_them(pid) for pid in computing(server)]


def test_its_memory_is_in_the_metrics(server: Running) -> None:
    """The page of metrics shows the native process as a worker of its own name."""
    wait_for(lambda: summed(server, "process_resident_memory_bytes", worker="native-growth-1") > 10e6)


def test_a_killed_native_process_costs_only_its_own_calls(server: Running) -> None:
    """kill -9 under load: its callers get a 503 or their answer, all other models' are answered, and it is back."""
    before = summed(server, "penstock_worker_restarts_total", worker="native-growth-1")
    with Load(server, 8, growth_call(5.0)) as native, Load(server, 4, iris_call()) as other:
        native.wait_for(50)
        [pid] = computing(server)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: computing(server) not in ([], [pid]))
        other.wait_for(100)
    assert ([], []) == (native.lost, other.lost)
    assert {200} == set(other.statuses)
    assert {200, 503} == set(native.statuses)
    with server.client() as client:
        wait_for(lambda: client.post(GROWTH, json={"instances": [{"x": 5.0}]}).status_code == 200)
    with Load(server, 8, growth_call(5.0)) as again:
        again.wait_for(100)
    assert ([], {200}) == (again.lost, set(again.statuses))
    assert before + 1 == summed(server, "penstock_worker_restarts_total", worker="native-growth-1")


def test_a_rolling_restart_loses_no_native_call(server: Running) -> None:
    """SIGHUP replaces the native process too, the new one being asked before the old one leaves."""
    old = [*computing(server), *sources_of(server)]
    with Load(server, 4, growth_call(5.0, 6.0)) as load:
        load.wait_for(20)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not any(line_of(pid) for pid in old), deadline_s=60)
        load.wait_for(20)
    assert ([], {200}) == (load.lost, set(load.statuses))


def test_none_is_left_when_the_supervisor_is_killed(server: Running) -> None:  # the last of its server
    """Native processes end with their supervisor, however that ends."""
    processes = [*computing(server), *sources_of(server)]
    assert 2 == len(processes)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(line_of(pid) for pid in processes))


def test_a_native_bundle_that_cannot_be_loaded_ends_the_start(bundles: dict[str, Path], tmp_path: Path) -> None:
    """What the native process cannot load is told by `serve`, which exits."""
    touched = tmp_path / "touched"
    touched.mkdir()
    for file in bundles["growth"].iterdir():
        (touched / file.name).write_bytes(file.read_bytes())
    (touched / "model.skops").write_bytes(b"not a model")
    with pytest.raises(AssertionError, match=r"model\.skops"), running([touched], tmp_path, "--workers", "1"):
        pass


def test_a_native_process_that_dies_at_the_start_ends_it(bundles: dict[str, Path], tmp_path: Path) -> None:
    """When it dies without a word before it has loaded, the command says how and ends; it does not try for ever."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "skops.py").write_text("import os\nos._exit(3)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(broken))
        with pytest.raises(AssertionError) as told, running([bundles["growth"]], tmp_path, "--workers", "1"):
            pass
    assert "Expected native-growth-1 to load, but it exited with 3" in " ".join(str(told.value).split())
