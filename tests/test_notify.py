"""What systemd is told, on a real datagram socket as it makes one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from penstock.notify import ALIVE, READY, STOPPING, Notify
from running import running


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(str(tmp_path / "notify"))
    end.settimeout(20)
    return end


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_server_says_that_it_is_ready_and_that_it_stops(
    bundles: dict[str, Path],
    tmp_path: Path,
    systemd: socket.socket,
    workers: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`serve` tells READY once it answers, WATCHDOG now and then, STOPPING when it drains."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with systemd:
        with running([bundles["iris"]], tmp_path / "home", "--workers", workers) as server:
            told = [systemd.recv(100).decode(), systemd.recv(100).decode()]
            assert [READY, ALIVE] == told
            server.process.terminate()
            while STOPPING not in told:
                told.append(systemd.recv(100).decode())
            assert 0 == server.stop()
        assert {READY, ALIVE, STOPPING} == set(told)


def test_without_systemd_nobody_is_told() -> None:
    """No socket, one that is gone and a watchdog that is no number are no errors."""
    for notify in (Notify(None), Notify("/nowhere/to/be/found"), Notify("@penstock-nobody", "soon")):
        notify.tell(READY)
        assert notify.every_s is None
        asyncio.run(notify.tell_alive())


def test_an_abstract_name(tmp_path: Path) -> None:
    """A name that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{tmp_path}")
        end.settimeout(5)
        Notify(f"@{tmp_path}", "3000000").tell(READY)
        assert READY.encode() == end.recv(100)
    assert 1.5 == Notify(f"@{tmp_path}", "3000000").every_s


def test_one_that_does_not_listen_stops_nobody(tmp_path: Path) -> None:
    """What is told to a full queue is lost, and the server goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "full"))
        for _ in range(1000):
            Notify(str(tmp_path / "full")).tell(ALIVE)
        assert ALIVE.encode() == end.recv(100)
