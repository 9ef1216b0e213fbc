"""Feedback as a real server takes it: from HTTP, the clients and the command, down to the join."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from loads import summed
from penstock.audit import Masked, Record
from penstock.audit.feedback import Labels
from penstock.audit.follow import Follower
from penstock.client import AsyncClient, Client
from penstock.client.answers import FeedbackTaken
from penstock.errors import ClientError, ServerRefused
from running import Running, environment, running

PATH = "/v1/feedback"
NOBODY = "01a1f8f8-a2ee-752b-b9d0-02aeca9d1291"


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("feedback")
    with running([bundles["churn"], bundles["amount"]], home, server__max_body_bytes=1_000_000) as process:
        yield process


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def asked(server: Running, churn_row: dict[str, Any]) -> str:
    """The request id of an answer for two rows, which had the key "customer-17"."""
    with Client(server.url) as client:
        return client.predict("churn", [churn_row, churn_row], key="customer-17").request_id


def last(server: Running) -> Record:
    return server.records()[-1]


def test_one_statement(server: Running, http: httpx.Client, asked: str) -> None:
    """A statement is a record of its own, under the id of the answer that it is about."""
    sent = {"request_id": asked, "index": 1, "actual": "yes", "at": "2026-11-20T12:00:00+01:00"}
    reply = http.post(PATH, json=sent, headers={"x-request-id": "mine"})
    assert (200, 1, 0, "mine") == (
        reply.status_code, reply.json()["taken"], reply.json()["unlisted"], reply.headers["x-request-id"]
    )  # fmt: skip
    record = last(server)
    assert ("feedback", asked, "feedback", 1) == (record.kind, record.request_id, record.protocol, record.rows)
    assert [{"index": 1, "actual": "yes", "at": "2026-11-20T11:00:00Z"}] == [
        {**one, "at": datetime.fromisoformat(one["at"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        for one in record.input
    ]
    assert server.pseudonyms.of_client_id("mine") == record.client_id


@pytest.mark.parametrize("actual", [True, 3, -2.5, "no"])
def test_kinds_of_actuals(server: Running, http: httpx.Client, actual: object) -> None:
    """Labels, numbers and truth values are kept as they came."""
    assert 200 == http.post(PATH, json=[{"request_id": NOBODY, "actual": actual}]).status_code
    assert [{"index": 0, "actual": actual}] == last(server).input


def test_a_text_that_is_no_label(server: Running, http: httpx.Client) -> None:
    """A text that no served model knows may be anything: it is kept that it came, and the reply says so."""
    reply = http.post(PATH, json={"request_id": NOBODY, "actual": "Erika Mustermann"})
    assert 1 == reply.json()["unlisted"]
    assert [{"index": 0, "actual": Masked("unlisted")}] == last(server).input


@pytest.mark.parametrize(
    ("body", "path", "expected", "got"),
    [
        ({"actual": 1}, "$", "`request_id`, or `key` and `model`", "neither"),
        ({"request_id": NOBODY, "key": "k", "model": "churn", "actual": 1}, "$", "`request_id`, or", "both"),
        ({"request_id": "Erika", "actual": 1}, "$.request_id", "the `request_id` of an answer", "another text"),
        ([{"request_id": NOBODY}], "$[0].actual", "a label", "none"),
        ({"request_id": NOBODY, "actual": None}, "$.actual", "a label", "null"),
        ({"request_id": NOBODY, "actual": []}, "$.actual", "a label", "a list"),
        ({"request_id": NOBODY, "actual": {"a": "Erika"}}, "$.actual", "a label", "an object"),
        ({"request_id": NOBODY, "actual": 1, "index": -1}, "$.index", "the number of a row", "a number"),
        ({"request_id": NOBODY, "actual": 1, "index": True}, "$.index", "the number of a row", "true or false"),
        ({"request_id": NOBODY, "actual": 1, "at": "2026-11-20T12:00:00"}, "$.at", "RFC 3339", "another text"),
        ({"request_id": NOBODY, "actual": 1, "Erika": 2}, "$", "no members but", "1 others"),
        ({"key": "k", "actual": 1}, "$.model", "the model", "none"),
        ({"key": "k", "model": "erika", "actual": 1}, "$.model", "a model that is served here", "another name"),
        ([], "$", "at least one statement", "none"),
        ([7], "$[0]", "an object", "a number"),
    ],
)
def test_what_is_wrong(server: Running, http: httpx.Client, body: object, path: str, expected: str, got: str) -> None:
    """A statement that is none is refused with its place, and with nothing of what it said; the refusal is recorded."""
    reply = http.post(PATH, json=body)
    [violation] = reply.json()["error"]["violations"]
    assert (422, path, got) == (reply.status_code, violation["path"], violation["got"])
    assert expected in violation["expected"]
    assert "rika" not in reply.text
    record = last(server)
    assert ("refusal", "schema_violation", "feedback", 1) == (
        record.kind, record.code, record.protocol, len(record.violations)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"7", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"{}", "text/csv", 415),
        (b"[" + b'{"actual":1},' * 1000 + b"{}]", "application/json", 413),
        (b" " * 1_000_001, "application/json", 413),
    ],
)
def test_bodies_that_are_not_taken(http: httpx.Client, body: bytes, content_type: str, status: int) -> None:
    """What is no JSON, of another type or too much is refused as on every other route."""
    assert status == http.post(PATH, content=body, headers={"content-type": content_type}).status_code


def test_all_or_none(server: Running, http: httpx.Client) -> None:
    """One wrong statement, and none of its call is taken."""
    before = sum(record.kind == "feedback" for record in server.records())
    sent = [{"request_id": NOBODY, "actual": 1}, {"request_id": NOBODY}]
    assert 422 == http.post(PATH, json=sent).status_code
    assert before == sum(record.kind == "feedback" for record in server.records())


def test_the_client(server: Running, asked: str) -> None:
    """One statement, or thousands of a frame; what cannot be sent is refused before."""
    with Client(server.url) as client:
        assert FeedbackTaken(taken=1) == client.feedback(asked, actual="yes")
        assert FeedbackTaken(taken=1) == client.feedback(key="customer-17", model="churn", actual="no")
        frame = pd.DataFrame({"request_id": [NOBODY] * 2001, "actual": 1, "index": [0, None, 1] * 667})
        assert FeedbackTaken(taken=2001) == client.feedback_many(frame)
        targets = [{"request_id": NOBODY, "actual": {"a": 1.0}}]
        assert FeedbackTaken(taken=1, unlisted=1) == client.feedback_many(targets)
        assert FeedbackTaken(taken=0) == client.feedback_many([])
        with pytest.raises(ClientError, match="Expected what came true"):
            client.feedback(asked, actual=None)
        with pytest.raises(ServerRefused, match="422 schema_violation"):
            client.feedback("nobody", actual=1)


def test_the_async_client(server: Running, asked: str) -> None:
    """The same, awaited."""

    async def main() -> list[FeedbackTaken]:
        async with AsyncClient(server.url) as client:
            one = await client.feedback(asked, actual="yes", index=1)
            return [one, await client.feedback_many([{"request_id": asked, "actual": "no"}] * 3)]

    assert [FeedbackTaken(taken=1), FeedbackTaken(taken=3)] == asyncio.run(main())


def command(server: Running, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "penstock", "feedback", *words, "--url", server.url]
    return subprocess.run(line, capture_output=True, text=True, env=environment({}), timeout=120)


def test_the_command(server: Running, tmp_path: Path, asked: str) -> None:
    """A CSV with ids, and JSON lines with keys under other names; a row without its label is told."""
    table = tmp_path / "labels.csv"
    table.write_text(f"request_id,index,actual,other\n{asked},1,yes,x\n{NOBODY},,17,\n{NOBODY},,nobody,\n")
    done = command(server, "churn", str(table))
    assert (0, "") == (done.returncode, done.stderr)
    assert "taken 3 of 3" in done.stdout
    assert "of 1 the label is none that a served model knows" in done.stdout
    kept = [record.input[0]["actual"] for record in server.records()[-3:]]
    assert ["yes", 17, Masked("unlisted")] == kept
    lines = tmp_path / "labels.jsonl"
    lines.write_text('{"customer":"customer-17","left":"no"}\n')
    done = command(server, "churn", str(lines), "--key", "customer", "--actual", "left", "--json")
    assert (0, '{\n  "taken": 1,\n  "unlisted": 0\n}\n') == (done.returncode, done.stdout)
    assert (server.pseudonyms.of_key("customer-17"), "churn") == (last(server).key, last(server).model)
    lines.write_text("{}\n")
    done = command(server, "churn", str(lines))
    assert 1 == done.returncode
    assert "row 1: expected a value in the column request_id, got none" in done.stderr


def test_joined_with_what_was_served(server: Running, http: httpx.Client, churn_row: dict[str, Any]) -> None:
    """Read back from the log, each answered row has what was last said of it, by id or by key."""
    with Client(server.url) as client:
        first = client.predict("churn", [churn_row, churn_row]).request_id
        second = client.predict("churn", churn_row, key="customer-99").request_id
        client.feedback(first, actual="no", index=1)
        client.feedback(first, actual="yes", index=1)
        client.feedback(key="customer-99", model="churn", actual="no")
    records = [
        record for batch in iter(Follower(server.home / "audit").reader().read, None) for record in batch.records
    ]
    labels = Labels(records)
    found = {(one.record.request_id, one.index): one.actual.value for one in labels.join(records)}
    assert ("yes", "no") == (found[first, 1], found[second, 0])
    assert (first, 0) not in found
    assert NOBODY in {one.request_id for one in labels.unknown}


def test_it_is_counted(server: Running, http: httpx.Client) -> None:
    """`penstock_feedback_total` counts statements that are recorded, and calls that were refused."""
    before = [summed(server, "penstock_feedback_total", outcome=name) for name in ("recorded", "refused")]
    http.post(PATH, json=[{"request_id": NOBODY, "actual": 1}] * 3)
    http.post(PATH, json=[])
    after = [summed(server, "penstock_feedback_total", outcome=name) for name in ("recorded", "refused")]
    assert [3.0, 1.0] == [now - then for then, now in zip(before, after, strict=True)]


def test_shown_beside_the_answer(server: Running, http: httpx.Client, asked: str) -> None:
    """`audit show ID` has the answer and what was said of it; `--rows` means the answer's."""
    http.post(PATH, json={"request_id": asked, "actual": "yes"})
    line = [sys.executable, "-m", "penstock", "audit", "show", asked, "--home", str(server.home)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment({}), timeout=120)
    assert 0 == done.returncode, done.stderr
    assert "what came true" in done.stdout
    assert "what was answered" in done.stdout
    rows = subprocess.run([*line, "--rows"], capture_output=True, text=True, env=environment({}), timeout=120)
    assert '"tenure_months": 7' in rows.stdout


def test_a_training_set(server: Running, asked: str, tmp_path: Path) -> None:
    """`audit training-set` writes labelled rows as they were served, to be packed again, and says what it left out."""
    with Client(server.url) as client:
        client.feedback(asked, actual="no", index=1)
        client.feedback(NOBODY, actual="no")
    out = tmp_path / "served.jsonl"
    line = [sys.executable, "-m", "penstock", "audit", "training-set", "churn", str(out), "--home", str(server.home)]
    done = subprocess.run([*line, "--target", "left", "--ids"], capture_output=True, text=True, env=environment({}))
    assert 0 == done.returncode, done.stderr
    assert "statements of feedback found no row in this log" in done.stdout
    [row] = [one for one in map(json.loads, out.read_text().splitlines()) if one["request_id"] == asked]
    assert ("no", 1, 1, 7, None) == (row["left"], row["row"], row["model_version"], row["tenure_months"], row["income"])
    assert 2 == subprocess.run(line, capture_output=True, env=environment({})).returncode
