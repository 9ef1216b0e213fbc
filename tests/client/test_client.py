"""Both clients against a real HTTP server that plays a script: one scene per request."""

from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from penstock.client import Answer, AsyncClient, AuditInfo, Client, Health, ModelStatus, ModelVersion, ServerInfo
from penstock.errors import ClientError, ServerRefused, ServerUnreachable, Violation
from penstock.schema.prediction import Prediction

Scene = Callable[[socket.socket, threading.Event], None]
Ask = Callable[..., Any]

ANSWER = {
    "model": "churn",
    "version": 3,
    "digest": "sha256:ab",
    "request_id": "0190-1",
    "predictions": [{"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}, {"value": 1.5}],
    "latency_ms": 0.4,
    "added_by_a_later_server": {"x": 1},
}


def reply(status: int, body: object, **headers: str) -> Scene:
    """The scene in which a whole HTTP answer is given."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n" + content
    return lambda connection, _: connection.sendall(data)


def error(status: int, code: str, message: str, **headers: str) -> Scene:
    return reply(status, {"error": {"code": code, "message": message, "request_id": "0190-e"}}, **headers)


def hang_up(connection: socket.socket, _: threading.Event) -> None:
    """The scene in which the request is read and the connection closed without an answer."""


def cut(connection: socket.socket, _: threading.Event) -> None:
    """The scene in which the answer ends in the middle."""
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{")


def silent(_: socket.socket, over: threading.Event) -> None:
    """The scene in which nothing comes until the test is over."""
    over.wait(30)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """The scene in which one byte comes now and then, so that no single read is late."""
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n")
    while not over.wait(0.02):
        try:
            connection.sendall(b" ")
        except OSError:
            return


class Stage(socketserver.ThreadingTCPServer):
    """A server on a free loopback port that plays `scenes` in order and keeps what was asked in `requests`."""

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = iter(scenes)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Player)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Player(socketserver.StreamRequestHandler):
    server: Stage

    def handle(self) -> None:
        method, path, _ = self.rfile.readline().decode().split(" ")
        headers: dict[str, str] = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.requests.append((method, path, headers, body))
        next(self.server.scenes)(self.connection, self.server.over)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Starts a server that plays the given scenes."""
    monkeypatch.setenv("NO_PROXY", "*")
    stages: list[tuple[Stage, threading.Thread]] = []

    def start(*scenes: Scene) -> Stage:
        stage = Stage(list(scenes))
        thread = threading.Thread(target=stage.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stages.append((stage, thread))
        return stage

    yield start
    for stage, thread in stages:
        stage.over.set()
        stage.shutdown()
        stage.server_close()
        thread.join()


def ask_sync(url: str, method: str, *arguments: object, client: dict[str, Any] | None = None, **options: object) -> Any:
    with Client(url, **(client or {})) as made:
        return getattr(made, method)(*arguments, **options)


def ask_async(
    url: str, method: str, *arguments: object, client: dict[str, Any] | None = None, **options: object
) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **(client or {})) as made:
            return await getattr(made, method)(*arguments, **options)

    return asyncio.run(run())


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One call by a client of either kind."""
    return request.param


def test_predict_gives_the_answer(play: Callable[..., Stage], ask: Ask) -> None:
    """The answer's members arrive typed; members that this client does not know are ignored."""
    stage = play(reply(200, ANSWER))
    expected = Answer(
        model="churn",
        version=3,
        digest="sha256:ab",
        request_id="0190-1",
        predictions=(Prediction(label="yes", probabilities={"no": 0.25, "yes": 0.75}), Prediction(value=1.5)),
        latency_ms=0.4,
    )
    assert expected == ask(stage.url, "predict", "churn", [{"age": 3}])


def test_predict_sends_what_it_was_given(play: Callable[..., Stage], ask: Ask) -> None:
    """Rows, key and params go in the body, ids, deadline and the API key in headers, the version in the path."""
    stage = play(reply(200, ANSWER))
    ask(
        stage.url + "/gate/",
        "predict",
        "churn",
        {"age": 3},
        client={"api_key": "k1", "headers": {"X-Team": "risk"}},
        key="customer-17",
        version=2,
        params={"explain": True},
        request_id="mine 1",
        deadline_ms=250,
    )
    [(method, path, headers, body)] = stage.requests
    assert (method, path) == ("POST", "/gate/v1/models/churn/versions/2/predict")
    assert json.loads(body) == {"instances": [{"age": 3}], "key": "customer-17", "params": {"explain": True}}
    expected = {
        "authorization": "Bearer k1",
        "content-type": "application/json",
        "x-request-id": "mine 1",
        "x-deadline-ms": "250",
        "x-team": "risk",
    }
    assert expected == {name: headers[name] for name in expected}


def test_what_is_not_given_is_not_sent(play: Callable[..., Stage], ask: Ask) -> None:
    """A plain call has the rows in its body and nothing else, and no key in its headers."""
    stage = play(reply(200, ANSWER))
    ask(stage.url, "predict", "churn", {"age": 3}, alias="candidate")
    [(_, path, headers, body)] = stage.requests
    assert (path, body) == ("/v1/models/churn/aliases/candidate/predict", b'{"instances":[{"age":3}]}')
    assert {"authorization", "x-request-id", "x-deadline-ms"} & set(headers) == set()


@pytest.mark.parametrize(
    ("method", "arguments", "path", "body", "expected"),
    [
        (
            "models",
            (),
            "/v1/models",
            {"models": [{"name": "churn", "ready": True, "versions": [{"version": 1, "digest": "ab"}]}]},
            (ModelStatus(name="churn", ready=True, versions=(ModelVersion(version=1, digest="ab"),)),),
        ),
        (
            "model",
            ("churn",),
            "/v1/models/churn",
            {"name": "churn", "ready": False, "aliases": {"champion": 2}, "schema": {"type": "object"}},
            ModelStatus(name="churn", ready=False, aliases={"champion": 2}, schema={"type": "object"}),
        ),
        ("health", (), "/health", {"status": "ok", "model_loaded": True}, Health("ok", True)),
        (
            "info",
            (),
            "/v1/info",
            {"penstock": "0.1", "python": "3.11", "audit": {"durability": "write", "bound": "none"}},
            ServerInfo(penstock="0.1", python="3.11", audit=AuditInfo(durability="write", bound="none")),
        ),
    ],
)
def test_looks_are_typed(
    play: Callable[..., Stage],
    ask: Ask,
    method: str,
    arguments: tuple[str, ...],
    path: str,
    body: object,
    expected: object,
) -> None:
    """Each GET of the client asks its route and gives its typed result."""
    stage = play(reply(200, body))
    assert expected == ask(stage.url, method, *arguments)
    assert [("GET", path)] == [request[:2] for request in stage.requests]


def test_an_unwell_server_is_a_health(play: Callable[..., Stage], ask: Ask) -> None:
    """A 503 of /health is an answer, given at once."""
    stage = play(reply(503, {"status": "starting", "model_loaded": False, "timestamp": "2026-01-01T00:00:00Z"}))
    assert Health("starting", False, "2026-01-01T00:00:00Z") == ask(stage.url, "health")


def test_a_refusal_shows_the_servers_words(play: Callable[..., Stage], ask: Ask) -> None:
    """A 422 is not repeated; the error has status, code, request id and violations, and shows them."""
    violations = [
        {"path": "$.instances[0].age", "expected": "`float` in 0..130", "got": '"abc"'},
        {"path": "$.instances[0].plan", "expected": "`category`", "got": "null"},
    ]
    detail = {"code": "schema_violation", "message": "2 places.", "request_id": "0190-e", "violations": violations}
    stage = play(reply(422, {"error": detail}))
    with pytest.raises(ServerRefused) as caught:
        ask(stage.url, "predict", "churn", {"age": "abc"})
    refused = caught.value
    assert (refused.status, refused.server_code, refused.request_id) == (422, "schema_violation", "0190-e")
    assert [Violation(**violation) for violation in violations] == refused.violations
    assert str(refused) == (
        "422 schema_violation: 2 places. (request id 0190-e)\n"
        '  Expected `float` in 0..130, got "abc" - at `$.instances[0].age`\n'
        "  Expected `category`, got null - at `$.instances[0].plan`"
    )
    assert len(stage.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_did_not_run_is_asked_again(play: Callable[..., Stage], ask: Ask, status: int) -> None:
    """429 and 503 say that nothing ran, so the same prediction is sent again and answered."""
    stage = play(error(status, "not_ready", "Draining.", retry_after="0"), reply(200, ANSWER))
    assert ask(stage.url, "predict", "churn", {"age": 3}).version == 3
    first, second = stage.requests
    assert first == second


def test_repetitions_end(play: Callable[..., Stage], ask: Ask) -> None:
    """After `retries` repetitions the server's last word is the error."""
    stage = play(*[error(503, "not_ready", f"Draining {n}.") for n in range(3)])
    with pytest.raises(ServerRefused, match="Draining 1"):
        ask(stage.url, "predict", "churn", {"age": 3}, client={"retries": 1})
    assert len(stage.requests) == 2


def test_a_wait_longer_than_the_time_left_is_not_begun(play: Callable[..., Stage], ask: Ask) -> None:
    """Retry-After beyond `timeout_s` gives the refusal at once."""
    stage = play(error(503, "not_ready", "Draining.", retry_after="60"))
    with pytest.raises(ServerRefused, match="Draining"):
        ask(stage.url, "predict", "churn", {"age": 3}, client={"timeout_s": 5})


@pytest.mark.parametrize("status", [500, 504])
def test_an_error_after_running_is_not_repeated(play: Callable[..., Stage], ask: Ask, status: int) -> None:
    """A prediction whose outcome is in doubt is never sent twice."""
    stage = play(error(status, "model_failed", "It raised."))
    with pytest.raises(ServerRefused, match=f"{status} model_failed: It raised"):
        ask(stage.url, "predict", "churn", {"age": 3})


def test_a_refused_connection_is_unreachable(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the error names the address, after the repetitions."""
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match=f"No connection to {url}: .* Is the server running"):
            ask(url, "predict", "churn", {"age": 3}, client={"retries": 1})


def test_a_server_that_comes_up_late_is_reached(play: Callable[..., Stage], ask: Ask) -> None:
    """A connection that was never made is tried again; nobody listens at first, then the server does."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    stage_at: list[Stage] = []

    class LateStage(Stage):
        def __init__(self) -> None:
            self.scenes, self.requests, self.over = iter([reply(200, ANSWER)]), [], threading.Event()
            socketserver.ThreadingTCPServer.__init__(self, ("127.0.0.1", port), Player)

    def come_up() -> None:
        stage_at.append(LateStage())
        stage_at[0].handle_request()

    timer = threading.Timer(0.15, come_up)
    timer.start()
    try:
        assert ask(f"http://127.0.0.1:{port}", "predict", "churn", {"age": 3}, client={"retries": 8}).version == 3
    finally:
        timer.join()
        stage_at[0].server_close()


@pytest.mark.parametrize("scene", [hang_up, cut])
def test_a_prediction_cut_off_is_not_repeated(play: Callable[..., Stage], ask: Ask, scene: Scene) -> None:
    """When the connection ends after the request was sent, the error says that the prediction may have been made."""
    stage = play(scene, reply(200, ANSWER))
    with pytest.raises(ServerUnreachable, match=r"ended before the answer: .* may have made and recorded"):
        ask(stage.url, "predict", "churn", {"age": 3})
    assert len(stage.requests) == 1


@pytest.mark.parametrize("scene", [hang_up, cut])
def test_a_look_cut_off_is_repeated(play: Callable[..., Stage], ask: Ask, scene: Scene) -> None:
    """A GET changes nothing, so it is asked again."""
    stage = play(scene, reply(200, {"name": "churn", "ready": True}))
    assert ask(stage.url, "model", "churn").ready


@pytest.mark.parametrize("scene", [silent, dripping])
def test_the_time_bounds_the_whole_call(play: Callable[..., Stage], ask: Ask, scene: Scene) -> None:
    """A silent server, and one that drips its answer byte by byte, end in an error that names `timeout_s`."""
    stage = play(scene)
    with pytest.raises(ServerUnreachable, match=r"No whole answer from .* within 0\.2 s \(`timeout_s`\)"):
        ask(stage.url, "predict", "churn", {"age": 3}, client={"timeout_s": 0.2})
    assert len(stage.requests) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"\xff\xfe", b'{"model": 1}', b"[" * 100_000, b"null"])
def test_an_answer_that_is_none_is_a_client_error(play: Callable[..., Stage], ask: Ask, body: bytes) -> None:
    """A 200 whose body is not an answer (somebody else's server) says so and names the address."""
    stage = play(reply(200, body))
    with pytest.raises(
        ClientError, match=rf"Expected a Penstock server's answer .* at {stage.url}\. Check the address"
    ):
        ask(stage.url, "predict", "churn", {"age": 3})


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (reply(502, b"<html>Bad Gateway</html>"), "'<html>Bad Gateway</html>' in place of"),
        (reply(404, b""), "an empty body in place of"),
        (reply(400, b"\xff" * 10_000), "in place of"),
        (reply(302, b"", location="http://example.invalid/"), "an empty body in place of"),
    ],
)
def test_an_error_of_somebody_between_is_told(play: Callable[..., Stage], ask: Ask, scene: Scene, words: str) -> None:
    """An error whose body is not Penstock's shows its status and the beginning of the body; nothing is followed."""
    stage = play(scene)
    with pytest.raises(ServerRefused) as caught:
        ask(stage.url, "predict", "churn", {"age": 3})
    assert words in str(caught.value)
    assert (caught.value.server_code, len(str(caught.value)) < 600) == ("unknown", True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base_url": "127.0.0.1:8080"}, "`base_url`"),
        ({"base_url": "ftp://a"}, "`base_url`"),
        ({"base_url": "http://"}, "`base_url`"),
        ({"base_url": "http://a:99999999"}, "`base_url`"),
        ({"base_url": "http://a", "timeout_s": 0}, "`timeout_s`"),
        ({"base_url": "http://a", "timeout_s": float("nan")}, "`timeout_s`"),
        ({"base_url": "http://a", "retries": -1}, "`retries`"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_that_cannot_work_is_not_made(
    kind: Callable[..., object], arguments: dict[str, Any], words: str
) -> None:
    """Wrong arguments are refused when the client is made, by name."""
    with pytest.raises(ClientError, match=words):
        kind(**arguments)


def test_cancelling_ends_an_async_call(play: Callable[..., Stage]) -> None:
    """A cancelled task is cancelled, not repeated, and the client closes cleanly."""
    stage = play(silent)

    async def run() -> None:
        async with AsyncClient(stage.url) as client:
            task = asyncio.create_task(client.predict("churn", {"age": 3}))
            deadline_s = time.monotonic() + 5
            while not stage.requests and time.monotonic() < deadline_s:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert len(stage.requests) == 1


def test_one_client_serves_many_threads(play: Callable[..., Stage]) -> None:
    """Eight threads on one client each get the answer to their own rows."""
    count = 8
    stage = play(*[reply(200, ANSWER)] * count)
    answers: list[Answer] = []
    with Client(stage.url) as client:
        threads = [
            threading.Thread(target=lambda n=n: answers.append(client.predict("churn", {"n": n}))) for n in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sent = sorted(json.loads(body)["instances"][0]["n"] for _, _, _, body in stage.requests)
    assert (len(answers), sent) == (count, list(range(count)))


def test_the_key_is_not_shown() -> None:
    """Neither the client nor what it is made with shows the API key."""
    with Client("http://127.0.0.1:1", api_key="very-secret") as client:
        assert "very-secret" not in repr(client) + repr(vars(client))


def test_importing_the_client_is_light() -> None:
    """The client loads no frame, model or server library."""
    code = (
        "import sys, penstock.client; print(sorted({'pandas', 'sklearn', 'onnxruntime', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_answer_is_written_as_it_was_read() -> None:
    """An Answer encodes to the members that the wire has, without the ones that are not there."""
    answer = msgspec.convert(ANSWER, Answer)
    assert {name: ANSWER[name] for name in ANSWER if not name.startswith("added")} == json.loads(
        msgspec.json.encode(answer)
    )
