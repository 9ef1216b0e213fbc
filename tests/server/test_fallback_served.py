"""Declared fallbacks on a real server: when they answer, and how reply, header, record and metrics say so."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gated as gated_model
import httpx
import pytest
from gated import BROKEN, GATE, WAITS
from test_bounds import metric

from loads import wait_for
from running import Running, command, environment, running

GATED = "/v1/models/gated/predict"
SECOND = "/v1/models/gated/versions/2/predict"
CONSTANT = '[fallback.gated]\nkind = "constant"\nprediction = { value = -1.0 }\n'
VERSION = '[fallback.gated]\nkind = "version"\nversion = 1\n'
ABSTAIN = '[fallback.gated]\nkind = "abstain"\n'


@contextlib.contextmanager
def serving(home: Path, bundles: list[Path], toml: str, **settings: object) -> Iterator[Running]:
    """A server whose models can be broken, with `toml` as its settings file."""
    home.mkdir(exist_ok=True)
    (home / "penstock.toml").write_text(toml)
    (home / GATE).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(gated_model.__file__).parent))
        with running(bundles, home, sklearn__trusted="gated.Gated", **settings) as process:
            yield process


def rows(*xs: object) -> dict[str, Any]:
    return {"instances": [{"x": x} for x in xs]}


def told(answer: httpx.Response) -> tuple[int, str | None, str | None, object]:
    """Status, mark in the body, mark in the headers, and what was answered."""
    body = answer.json()
    told = body["error"]["code"] if "error" in body else body.get("predictions", body.get("prediction"))
    return answer.status_code, body.get("fallback"), answer.headers.get("x-penstock-fallback"), told


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "asgi"])
def test_a_constant(gated: dict[str, Path], tmp_path: Path, lane: bool) -> None:
    """It answers when the run fails, when the breaker is open and when the queue is full; never a caller's fault."""
    limits = {"limits__breaker_failures": 2, "limits__queue_rows": 2, "server__fast_lane": lane}
    with serving(tmp_path / "home", [gated["gated"]], CONSTANT, **limits) as server, server.client() as client:
        assert (200, None, None, [{"value": 3.0}]) == told(client.post(GATED, json=rows(3.0)))
        full_queue(server, client)
        (server.home / BROKEN).touch()
        answers = [client.post(GATED, json=rows(1.0, 2.0)) for _ in range(3)]
        assert [(200, "constant", "constant", [{"value": -1.0}] * 2)] * 3 == [told(answer) for answer in answers]
        records = [server.record(answer.json()["request_id"]) for answer in answers]
        assert ["model_failed", "model_failed", "model_unavailable"] == [
            record.fallback.code for record in records if record.fallback is not None
        ]
        assert [("prediction", "ok", "constant", 1, [{"value": -1.0}] * 2, [{"x": 1.0}, {"x": 2.0}])] * 3 == [
            (
                record.kind,
                record.code,
                record.fallback and record.fallback.kind,
                record.fallback and record.fallback.version,
                record.outputs,
                record.input,
            )
            for record in records
        ]
        assert (422, None, None, "schema_violation") == told(client.post(GATED, json=rows("a")))
        short = client.post("/predict", json={"features": {"x": 1.0}})
        assert (200, "constant", "constant", -1.0) == told(short)
        many = client.post("/batch_predict", json={"features": [{"x": 1.0}]})
        assert (200, "constant", "constant", [{"prediction": -1.0}]) == told(many)
        assert 6 == metric(server, "penstock_fallback_answers_total")


def full_queue(server: Running, client: httpx.Client) -> None:
    """Rows that may not wait get the constant; a deadline that passes does not."""
    (server.home / GATE).unlink()
    with httpx.Client(base_url=server.url, trust_env=False) as other:
        late = other.post(GATED, json=rows(WAITS, 1.0), headers={"X-Deadline-Ms": "50"})
        assert (504, None, None, "deadline_exceeded") == told(late)
        full = client.post(GATED, json=rows(5.0))
        assert (200, "constant", "constant", [{"value": -1.0}]) == told(full)
        assert "overloaded" == server.record(full.json()["request_id"]).fallback.code  # type: ignore[union-attr]
        (server.home / GATE).touch()
        wait_for(lambda: metric(server, "model_batch_rows_count") >= 2)
        assert (200, None, None, [{"value": 5.0}]) == told(client.post(GATED, json=rows(5.0)))


def test_another_version(gated: dict[str, Path], bundles: dict[str, Path], tmp_path: Path) -> None:
    """Version 1 answers for version 2, and says that it did; for itself nothing stands in."""
    paths = [gated["gated"], gated["gated-2"]]
    with serving(tmp_path / "home", paths, VERSION, limits__queue_rows=1) as server, server.client() as client:
        assert (200, None, None, [{"value": 6.0}]) == told(client.post(SECOND, json=rows(3.0)))
        (server.home / GATE).unlink()
        with httpx.Client(base_url=server.url, trust_env=False) as other:
            late = other.post(SECOND, json=rows(WAITS), headers={"X-Deadline-Ms": "50"})
        assert 504 == late.status_code
        answer = client.post(SECOND, json=rows(3.0))
        assert (200, "version", "version", [{"value": 3.0}]) == told(answer)
        body = answer.json()
        assert (1, "1") == (body["version"], answer.headers["x-penstock-version"])
        record = server.record(body["request_id"])
        assert record.fallback is not None
        assert (1, "version", "overloaded", 2, 1) == (
            record.version,
            record.fallback.kind,
            record.fallback.code,
            record.fallback.version,
            record.batch_rows,
        )
        assert body["digest"] == record.digest
        (server.home / GATE).touch()
        (server.home / BROKEN).touch()  # now both fail: the first failure stands
        wait_for(lambda: (500, None, None, "model_failed") == told(client.post(SECOND, json=rows(3.0))))
        assert (500, None, None, "model_failed") == told(client.post(GATED, json=rows(3.0)))


def test_an_abstention_which_is_never_kept(gated: dict[str, Path], tmp_path: Path) -> None:
    """No label and no value, but a mark: a person is to look at it. The cache keeps the model's own answers only."""
    with serving(tmp_path / "home", [gated["gated"]], ABSTAIN, cache__entries=10) as server, server.client() as client:
        assert (200, None, None, [{"value": 7.0}]) == told(client.post(GATED, json=rows(7.0)))
        (server.home / BROKEN).touch()
        for _ in range(2):
            answer = client.post(GATED, json=rows(1.0, 2.0))
            assert (200, "abstain", "abstain", [{}, {}]) == told(answer)
        assert [{}, {}] == server.record(answer.json()["request_id"]).outputs
        assert (200, "abstain", "abstain", None) == told(client.post("/predict", json={"features": {"x": 1.0}}))
        kept = client.post("/predict", json={"features": {"x": 7.0}})  # which outlives a model that is broken
        assert (200, None, None, 7.0) == told(kept)
        assert kept.json()["cached"]
        (server.home / BROKEN).unlink()
        for mark in (None, "hit"):
            answer = client.post(GATED, json=rows(1.0, 2.0))
            assert (200, None, None, [{"value": 1.0}, {"value": 2.0}]) == told(answer)
            assert mark == answer.headers.get("x-penstock-cache")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[fallback.iris]\nkind = "abstain"\n', "fallback.iris is set, but what is served is amount"),
        (
            '[fallback.amount]\nkind = "version"\nversion = 7\n',
            "fallback.amount names version 7, but the versions are 1",
        ),
        ('[fallback.amount]\nkind = "constant"\nprediction = { label = 1 }\n', "expected value, got label"),
    ],
)
def test_a_fallback_that_cannot_be_ends_the_start(
    bundles: dict[str, Path], tmp_path: Path, toml: str, message: str
) -> None:
    """It is told at the start, not when it is needed."""
    (tmp_path / "penstock.toml").write_text(toml)
    line = command([bundles["amount"]], tmp_path, "--port", "0")
    done = subprocess.run(line, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=60)
    assert 2 == done.returncode
    assert message in " ".join((done.stdout + done.stderr).split())
