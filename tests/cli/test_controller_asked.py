"""What commands make of a controller's answers: of one that lags, that is not there, and of what is wrong elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from desk import Desk
from penstock.control.answers import HistoryAnswer, ModelAnswer, MoveAnswer, Span, VersionAnswer
from penstock.control.changes import Event, Lineage, ModelConfig, Moved, Rules, Who
from penstock.routing import ModelOptions

AT = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
MOVED = Event(
    revision=7, at=AT, who=Who("ana@quay"), model="churn", change=Moved(alias="champion", before=1, after=2),
    reason="autumn [retraining] \x1b[2J",
)  # fmt: skip


@contextlib.contextmanager
def answering(answers: dict[str, object]) -> Iterator[str]:
    """A controller that has one answer for each path, whoever asks; its URL."""

    class Canned(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = msgspec.json.encode(answers[self.path])
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = _answer

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An operator's desk, with nothing at its home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    return Desk(tmp_path / "home")


def moved(**facts: object) -> MoveAnswer:
    """The answer to a deploy of version 2."""
    plain = {"model": "churn", "alias": "champion", "before": 1, "after": 2, "revision": 7, "is_changed": True}
    return msgspec.convert(plain | facts, MoveAnswer)


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_lagging_worker_is_named(desk: Desk, json: list[str]) -> None:
    """A deploy that not all workers have applied in time exits 1, and names those that have not."""
    with answering({"/v1/models/churn/aliases/champion": moved(waits_for=["worker 1"])}) as url:
        said = desk("deploy", "churn", "2", "--url", url, *json)
    assert (1, True) == (said.code, "worker 1" in said.out)


def test_an_applied_move_is_well(desk: Desk) -> None:
    """A rollback that is applied everywhere exits 0."""
    answer = moved(before=2, after=1, is_applied=True)
    with answering({"/v1/models/churn/rollback": answer}) as url:
        said = desk.ok("rollback", "churn", "--url", url)
    assert "version 2 → version 1" in said.out
    assert "all workers of this machine answer by it" in said.out


def version(number: int, **facts: object) -> VersionAnswer:
    """A version, published at three in the night."""
    plain = {
        "number": number, "digest": f"sha256:{number:064x}", "published_at": AT, "published_by": "ana@quay",
        "flavour": "onnx", "size_bytes": 1000, "aliases": [], "serves_on": [], "failures": {}, "metrics": {},
        "evaluation_set": None, "lineage": Lineage(),
    }  # fmt: skip
    return VersionAnswer(**(plain | facts))  # type: ignore[arg-type]


def model(**facts: object) -> ModelAnswer:
    """A model whose champion cannot be served on one of three machines, and is on its way to another."""
    lineage = Lineage(packed_by="ana@quay", git_commit="c0ffee", mlflow_run="r7", dvc_path="data.csv", dvc_md5="5d41")
    plain = {
        "name": "churn", "revision": 7, "aliases": {"champion": 2}, "moved": {"champion": MOVED}, "rollback_to": 1,
        "serving": {"quay": {"champion": 1}, "mole": {"champion": 2}, "mill": {}},
        "config": ModelConfig(options=ModelOptions(is_lazy=True), rules={"champion": Rules(floors={"f1": 0.5})}),
        "versions": [
            version(1, serves_on=["quay"]),
            version(2, aliases=["champion"], serves_on=["mole"], failures={"quay": "no room [2 GB]"}, lineage=lineage),
        ],
    }  # fmt: skip
    return ModelAnswer(**(plain | facts))  # type: ignore[arg-type]


def test_what_is_wrong_is_said(desk: Desk) -> None:
    """Which machine answers by what instead, and why; what a rollback would do; where versions come from.

    What others have put into it is shown, and obeyed by no terminal.
    """
    served = Span(alias="champion", version=1, since=AT, node="quay")
    history = HistoryAnswer(model="churn", events=[MOVED], wanted=[], served=[served])
    with answering({"/v1/models/churn": model(), "/v1/models/churn/history": history}) as url:
        said = " ".join(desk.ok("model", "churn", "--url", url).out.split())
    for words in (
        'by ana@quay (unverified): "autumn [retraining] \N{REPLACEMENT CHARACTER}[2J"',
        "quay answers champion by version 1 since",
        "`penstock rollback churn` goes back to version 1",
        "wrong: champion is to be version 2, and quay answers by version 1: no room [2 GB]",
        "wrong: champion is to be version 2, and mill does not answer; it is on its way",
        "quay cannot serve it: no room [2 GB]",
        "packed by ana@quay git commit c0ffee mlflow run r7 dvc md5 5d41 dvc path data.csv",
        'rules of champion: {"floors":{"f1":0.5}}',
        "lazy: true",
    ):
        assert words in said


def test_models_end_with_what_is_wrong(desk: Desk) -> None:
    """The table says where the champion answers; below it stands what is not as it ought to be."""
    alone = model(name="iris", serving={}, versions=[version(2, aliases=["champion"], failures={"quay": "no room"})])
    with answering({"/v1/models": {"models": [model(), alone]}}) as url:
        said = desk.ok("models", "--url", url).out
    assert "mole" in said
    assert "churn: champion is to be version 2, and quay answers by version 1: no room [2 GB]" in said
    assert "iris: champion is version 2, which quay cannot serve: no room" in said
