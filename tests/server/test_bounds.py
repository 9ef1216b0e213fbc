"""Bounds on a real server: what is too much is refused at once, and what was taken on is answered."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import gated as gated_model
import pytest
from gated import BROKEN, GATE, WAITS

from loads import wait_for
from running import Answer, Running, read_answer, request, running

PATH = "/v1/models/gated/predict"
IRIS = "/v1/models/iris/predict"
BREAKER_S = 1.5


def body_of(*xs: float) -> bytes:
    return json.dumps({"instances": [{"x": x} for x in xs]}).encode()


def call_of(*xs: float, **headers: str) -> bytes:
    return request(PATH, body_of(*xs), headers={name.replace("_", "-"): value for name, value in headers.items()})


def metric(server: Running, name: str) -> float:
    """The sum of a metric's samples."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest,
    gated: dict[str, Path],
    bundles: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """Small bounds, once with the fast lane and once without."""
    limits = {
        "limits__queue_rows": 4,
        "limits__connections": 12,
        "limits__bytes_in_flight": 100_000,
        "limits__breaker_failures": 3,
        "limits__breaker_open_s": BREAKER_S,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(gated_model.__file__).parent))
        home = tmp_path_factory.mktemp("bounds")
        paths = [gated["gated"], bundles["iris"]]
        trusted = {"sklearn__trusted": "gated.Gated", "server__fast_lane": request.param}
        with running(paths, home, **limits, **trusted) as process:
            yield process


class Held:
    """Calls that wait in the model until the gate opens."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.gate = server.home / GATE
        self.gate.unlink(missing_ok=True)
        self.connections: list[socket.socket] = []

    def ask(self, *xs: float, **headers: str) -> socket.socket:
        return self.send(call_of(*xs, **headers))

    def send(self, data: bytes) -> socket.socket:
        connection = self.server.connect()
        self.connections.append(connection)
        connection.sendall(data)
        return connection

    def open(self) -> None:
        self.gate.touch()


@pytest.fixture
def held(server: Running) -> Iterator[Held]:
    held = Held(server)
    yield held
    held.open()
    for connection in held.connections:
        connection.close()
    wait_for(lambda: metric(server, "model_active_requests") == 0)
    (server.home / BROKEN).unlink(missing_ok=True)


def told(connection: socket.socket) -> Answer:
    with connection:
        return read_answer(connection)


def values(connection: socket.socket) -> list[float]:
    return [each["value"] for each in told(connection).json["predictions"]]


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]["code"]


def test_a_full_queue_refuses_at_once(server: Running, held: Held) -> None:
    """Rows that run and rows that wait count; the refusal says when to come again, is recorded, and others go on."""
    first = held.ask(WAITS, 1.0)
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    second = held.ask(2.0, 3.0)
    wait_for(lambda: metric(server, "model_active_requests") == 2)
    refused = told(held.ask(4.0))
    assert ((503, "overloaded"), "1") == (code(refused), refused.headers["retry-after"])
    record = server.record(refused.json["error"]["request_id"])
    # Its rows were not even read.
    assert ("failure", "overloaded", "gated", 0, None) == (
        record.kind,
        record.code,
        record.model,
        record.rows,
        record.input,
    )
    with server.client() as client:
        assert 200 == client.post(IRIS, json={"instances": [dict.fromkeys(IRIS_FIELDS, 1.0)]}).status_code
    held.open()
    assert [[WAITS, 1.0], [2.0, 3.0]] == [values(first), values(second)]


IRIS_FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def test_more_rows_than_fit_may_run_alone(server: Running, held: Held) -> None:
    """A call of more rows than the queue may hold is answered when nothing else is there, and refused otherwise."""
    held.open()
    with server.client() as client:
        assert 200 == client.post(PATH, content=body_of(*range(1, 10)), headers=JSON).status_code
    held.gate.unlink()
    first = held.ask(WAITS)
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    refused = told(held.ask(*range(1, 10)))
    assert (503, "overloaded") == code(refused)
    assert 9 == server.record(refused.json["error"]["request_id"]).rows
    held.open()
    assert 200 == told(first).status


JSON = {"Content-Type": "application/json"}


def test_bytes_in_flight(server: Running, held: Held) -> None:
    """Bodies that are worked on and bodies that arrive count together; too many are refused, small ones too."""
    padding = b" " * 45_000
    first = held.send(request(PATH, body_of(WAITS) + padding))
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    whole = request(PATH, body_of(2.0) + padding)
    second = held.send(whole[:-10])  # arrives slowly
    answers = []
    for size in (30_000, 30_000):
        with server.connect() as connection:
            connection.sendall(request(PATH, body_of(3.0) + b" " * size))
            answers.append(code(read_answer(connection)))
            connection.sendall(request(IRIS, b"{}"))  # the connection goes on
            assert (400, "unreadable") == code(read_answer(connection))
    assert [(503, "overloaded")] * 2 == answers
    second.sendall(whole[-10:])
    held.open()
    assert [200, 200] == [told(first).status, told(second).status]
    with server.client() as client:
        assert 200 == client.post(PATH, content=body_of(1.0) + b" " * 90_000, headers=JSON).status_code


def test_bodies_of_callers_who_left_are_let_go(server: Running, held: Held) -> None:
    """A body that never became whole counts no longer once its caller is gone."""
    held.open()
    for _ in range(5):
        with server.connect() as connection:
            connection.sendall(request(PATH, body_of(1.0) + b" " * 60_000)[:-10])
        with server.connect() as connection:
            connection.sendall(request(PATH, body_of(1.0) + b" " * 90_000)[:-10])

    def is_free() -> bool:
        with server.client() as client:
            return 200 == client.post(PATH, content=body_of(1.0) + b" " * 95_000, headers=JSON).status_code

    wait_for(is_free)


def test_a_caller_who_hangs_up_frees_its_place(server: Running, held: Held) -> None:
    """Rows of callers who left do not run, their record says so, and those who stayed are answered."""
    first = held.ask(WAITS)
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    for number in range(3):
        held.ask(float(number), X_Request_Id="left").close()
        wait_for(lambda: metric(server, "model_active_requests") == 1)
    second = held.ask(5.0, 6.0)
    wait_for(lambda: metric(server, "model_active_requests") == 2)
    held.open()
    assert [[WAITS], [5.0, 6.0]] == [values(first), values(second)]
    left = [record for record in server.records() if record.client_id == server.pseudonyms.of_client_id("left")]
    assert [("refusal", "caller_gone", None, 1)] * 3 == [
        (record.kind, record.code, record.outputs, record.rows) for record in left
    ]


def test_a_caller_who_hangs_up_during_its_run(server: Running, held: Held) -> None:
    """The call ends then, with a record and without outputs: nobody was told anything."""
    first = held.ask(WAITS, X_Request_Id="during")
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    first.close()
    wait_for(lambda: metric(server, "model_active_requests") == 0)
    [record] = [record for record in server.records() if record.client_id == server.pseudonyms.of_client_id("during")]
    assert ("refusal", "caller_gone", None) == (record.kind, record.code, record.outputs)


def test_too_many_connections(server: Running) -> None:
    """One above the limit gets a refusal and the end, those below it go on, and a place that is left is taken."""
    refused_before = metric(server, "penstock_connections_refused_total")
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(server.connect()) for _ in range(12)]
        for connection in inside:
            connection.sendall(request("/health", method="GET"))
            assert 200 == read_answer(connection).status
        for _ in range(3):
            with server.connect() as outside:
                outside.sendall(call_of(1.0))
                answer = read_answer(outside)
                assert (503, "overloaded") == code(answer)
                assert ("close", "1") == (answer.headers["connection"], answer.headers["retry-after"])
                assert b"" == outside.recv(100)
        with server.connect() as silent:
            assert b"" == silent.recv(100)
        inside[0].sendall(request("/health", method="GET"))
        assert 200 == read_answer(inside[0]).status
    wait_for(lambda: metric(server, "penstock_connections_refused_total") >= refused_before + 4)


def state(server: Running) -> str:
    with server.client() as client:
        return str(client.get("/v1/models/gated").json()["versions"][0]["breaker"])


def test_the_circuit_breaker(server: Running, held: Held) -> None:
    """Three failures in a row open it; open it refuses at once; then one call tries, and closes it or not."""
    held.open()
    (server.home / BROKEN).touch()
    with server.client() as client:

        def ask() -> tuple[int, str]:
            answer = client.post(PATH, content=body_of(1.0), headers=JSON)
            return answer.status_code, "ok" if answer.status_code == 200 else answer.json()["error"]["code"]

        assert [(500, "model_failed")] * 3 + [(503, "model_unavailable")] * 2 == [ask() for _ in range(5)]
        assert (1.0, "open") == (metric(server, "penstock_breaker_open"), state(server))
        wait_for(lambda: state(server) == "half-open")
        assert [(500, "model_failed"), (503, "model_unavailable")] == [ask(), ask()]
        (server.home / BROKEN).unlink()
        wait_for(lambda: state(server) == "half-open")
        # A call that the model never saw says nothing of it.
        assert 422 == client.post(PATH, json={"instances": [{"x": "a"}]}).status_code
        assert [(200, "ok")] * 2 == [ask(), ask()]
    assert (0.0, "closed") == (metric(server, "penstock_breaker_open"), state(server))


def test_while_one_call_tries_all_others_are_refused(server: Running, held: Held) -> None:
    """Half-open means one call at a time; a trial whose caller hangs up leaves the place to the next."""
    (server.home / BROKEN).touch()
    held.open()
    with server.client() as client:
        for _ in range(3):
            assert 500 == client.post(PATH, content=body_of(1.0), headers=JSON).status_code
    (server.home / BROKEN).unlink()
    held.gate.unlink()
    wait_for(lambda: state(server) == "half-open")
    trial = held.ask(WAITS)
    wait_for(lambda: metric(server, "model_active_requests") == 1)
    assert (503, "model_unavailable") == code(told(held.ask(2.0)))
    trial.close()
    wait_for(lambda: metric(server, "model_active_requests") == 0)
    second = held.ask(3.0)
    held.open()
    assert 200 == told(second).status
    assert "closed" == state(server)
