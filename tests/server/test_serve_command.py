"""`penstock serve` as it is typed: what it refuses, with which words and which exit code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from running import command, environment, running


def serve(bundles: list[Path], home: Path, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """The outcome of a server that does not come to serve."""
    line = command(bundles, home, *words)
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(settings), cwd=home)


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on stderr; nothing else is printed, and no traceback."""
    assert (code, "") == (done.returncode, done.stdout)
    [line] = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_off_loopback(bundles: dict[str, Path], tmp_path: Path, host: str) -> None:
    """An address that others can reach is refused without --insecure, with what to do; nothing is written."""
    line = refusal(serve([bundles["iris"]], tmp_path, "--host", host, "--port", "0"), 2)
    assert f"server.host is {host}" in line
    assert "--insecure" in line
    assert not (tmp_path / "audit").exists()


def test_off_loopback_with_insecure(bundles: dict[str, Path], tmp_path: Path) -> None:
    """With --insecure it listens there, and `/v1/info` says so."""
    with running([bundles["iris"]], tmp_path, "--host", "0.0.0.0", "--insecure") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        with server.client() as client:
            assert client.get("/v1/info").json()["insecure"] is True


def test_ipv6_loopback(bundles: dict[str, Path], tmp_path: Path) -> None:
    """::1 is loopback, and the address that is printed can be asked."""
    with running([bundles["iris"]], tmp_path, "--host", "::1") as server, server.client() as client:
        assert server.url.startswith("http://[::1]:")
        assert 200 == client.get("/health").status_code


def test_print_settings(tmp_path: Path) -> None:
    """--print-settings prints each value with where it came from, and serves nothing."""
    file = tmp_path / "penstock.toml"
    file.write_text("[server]\nmax_rows = 77\ndeadline_ms = 900\n")
    done = serve([], tmp_path, "--print-settings", "--port", "1234", server__deadline_ms=800)
    assert (0, "") == (done.returncode, done.stderr)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "77" in lines["server.max_rows"]
    assert "penstock.toml" in lines["server.max_rows"]
    assert "800" in lines["server.deadline_ms"]
    assert "environment" in lines["server.deadline_ms"]
    assert "PENSTOCK_SERVER__DEADLINE_MS" in done.stdout
    assert "flag --port" in lines["server.port"]
    assert "default" in lines["server.max_body_bytes"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", "Did you mean `server.port`?"),
        ("[server]\nport = '80'\n", "a whole number from 0 to 65535"),
        ("[server\n", "is not TOML"),
    ],
)
def test_a_bad_settings_file(bundles: dict[str, Path], tmp_path: Path, text: str, words: str) -> None:
    """A settings file that is wrong is exit 2, with its name and what is right."""
    (tmp_path / "penstock.toml").write_text(text)
    line = refusal(serve([bundles["iris"]], tmp_path), 2)
    assert words in line
    assert "penstock.toml" in line


def test_a_missing_bundle(tmp_path: Path) -> None:
    """A bundle that is not there is named."""
    done = serve([tmp_path / "nope-1"], tmp_path)
    assert done.returncode in (1, 2)
    assert "nope-1" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_published(tmp_path: Path) -> None:
    """Without a bundle what is published is served: with nothing yet, the server says what to do, and is not ready."""
    with running([], tmp_path) as server, server.client() as client:
        assert f"nothing is published yet: penstock publish BUNDLE --home {tmp_path}" in " ".join(server.text.split())
        assert (200, 503) == (client.get("/health/live").status_code, client.get("/health/ready").status_code)
        assert 404 == client.post("/v1/models/iris/predict", json={"instances": [{}]}).status_code


@pytest.mark.parametrize("name", ["model.onnx", "schema.yaml", "golden.json"])
def test_a_changed_bundle(bundles: dict[str, Path], tmp_path: Path, name: str) -> None:
    """A bundle with one changed byte is exit 1, names the file, and is not served."""
    copy = tmp_path / "iris-1"
    shutil.copytree(bundles["iris"], copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    assert name in refusal(serve([copy], tmp_path, "--port", "0"), 1)


def test_an_unknown_default_model(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A default model that is not served is exit 2 and names what is."""
    line = refusal(serve([bundles["iris"]], tmp_path, "--default-model", "churn", "--port", "0"), 2)
    assert "'churn'" in line
    assert "iris" in line


def test_a_home_that_cannot_be_written(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A home in which no log can be begun is exit 1 with the directory's name, before anything is served."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        command([bundles["iris"]], blocked, "--port", "0"),
        capture_output=True, text=True, timeout=60, env=environment({}), cwd=tmp_path,
    )  # fmt: skip
    assert str(blocked) in refusal(done, 1)
