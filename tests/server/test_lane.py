"""The fast lane and the ASGI path answer alike: the same bytes to both, and the same answers from both."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from running import Answer, Running, read_answer, request, running

PATH = "/v1/models/iris/predict"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
GOOD = json.dumps({"instances": [ROW]}).encode()


@pytest.fixture(scope="module")
def servers(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """A server with the lane, and one without it."""
    home = tmp_path_factory.mktemp("lane")
    limits = {"server__max_body_bytes": 100_000, "server__max_rows": 50, "server__default_model": "iris"}
    both = [bundles["iris"], bundles["churn"]]
    with (
        running(both, home / "lane", **limits) as lane,
        running(both, home / "asgi", server__fast_lane=False, **limits) as asgi,
    ):
        yield lane, asgi


def told(server: Running, parts: list[bytes], answers: int) -> list[object]:
    """What a server answers to `parts`, sent one by one on one connection; "closed" where it ends it, "reset" where the
    kernel does, which may have thrown away answers: the server has ended it, and we were still sending.
    """
    left = bytearray()
    seen: list[object] = []
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.suppress(BrokenPipeError):  # what it answered before can be read
                for part in parts:
                    connection.sendall(part)
            for _ in range(answers):
                seen.append(comparable(read_answer(connection, left)))
        except ConnectionResetError:
            seen.append("reset")
        except ConnectionError:
            seen.append("closed")
    return seen


def comparable(answer: Answer) -> object:
    """An answer without what differs from call to call: ids, times, the date."""
    body = re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", b"ID", answer.body)
    body = re.sub(rb'"(latency_ms|timestamp)":("[^"]*"|[0-9.e-]+)', rb'"\1":0', body)
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    headers = {name: "ID" if name == "x-penstock-request-id" else value for name, value in headers.items()}
    return answer.status, {name: value for name, value in headers.items() if name != "content-length"}, body


def assert_alike(servers: tuple[Running, Running], parts: list[bytes], answers: int = 1) -> list[object]:
    lane, asgi = (told(server, parts, answers) for server in servers)
    known = min([len(seen) - 1 for seen in (lane, asgi) if "reset" in seen], default=answers)
    assert asgi[:known] == lane[:known]
    return lane


def post(body: bytes = GOOD, path: str = PATH, **headers: str) -> bytes:
    return request(path, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


CHUNKED = b"".join(
    (
        request(PATH, headers={"Transfer-Encoding": "chunked"}).replace(b"Content-Length: 0\r\n", b""),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    )
)
NO_HTTP = "odd request id"
CORPUS = {
    "good": post(),
    "version": post(path="/v1/models/iris/versions/1/predict"),
    "alias": post(path="/v1/models/iris/aliases/champion/predict"),
    "short": post(json.dumps({"features": ROW}).encode(), "/predict"),
    "short list": post(json.dumps({"features": [list(ROW.values())] * 2}).encode(), "/predict"),
    "batch": post(json.dumps({"features": [ROW]}).encode(), "/batch_predict"),
    "columns": post(json.dumps({"columns": {name: [value] for name, value in ROW.items()}}).encode()),
    "bad row": post(b'{"instances": [{"sepal_length": "x", "shoe": 1}]}'),
    "no rows": post(b'{"instances": []}'),
    "too many rows": post(json.dumps({"instances": [ROW] * 51}).encode()),
    "truncated": post(b'{"instances": ['),
    "not utf-8": post(b'{"instances": [{"sepal_length": "\xff"}]}'),
    "nan": post(b'{"instances": [{"sepal_length": NaN}]}'),
    "empty body": post(b""),
    "too large": post(b" " * 100_001),
    "larger than the lane": post(GOOD + b" " * 70_000),
    "at the lane's edge": post(GOOD + b" " * (65_536 - len(GOOD))),
    "unknown model": post(path="/v1/models/none/predict"),
    "unknown version": post(path="/v1/models/iris/versions/9/predict"),
    "odd version": post(path="/v1/models/iris/versions/x/predict"),
    "unknown path": post(path="/v1/models/iris/predict/more"),
    "escaped path": post(path="/v1/models/%69ris/predict"),
    "query": post(path=PATH + "?a=b"),
    "get": request(PATH, method="GET"),
    "text": post(Content_Type="text/plain"),
    "charset": post(Content_Type="application/json; charset=utf-8"),
    "packed": post(Content_Encoding="gzip"),
    "request id": post(X_Request_Id="mine-1"),
    NO_HTTP: post(X_Request_Id="\x01"),
    "deadline": post(X_Deadline_Ms="5000"),
    "no time": post(X_Deadline_Ms="0"),
    "odd deadline": post(X_Deadline_Ms="soon"),
    "close": post(Connection="close"),
    "origin": post(Origin="https://a.example"),
    "upgrade": post(Connection="Upgrade", Upgrade="h2c"),
    "expect": post(Expect="something"),
    "old": post().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunked": CHUNKED,
}


@pytest.mark.parametrize("name", CORPUS)
def test_both_ways_answer_alike(servers: tuple[Running, Running], name: str) -> None:
    """Status, headers and body are the same, and so is what follows on the connection."""
    first, *_ = assert_alike(servers, [CORPUS[name], CORPUS["good"]], answers=2)
    assert "closed" != first


def in_turn(server: Running, sent: list[bytes]) -> list[object]:
    """What a server answers to requests on one connection, each sent once the one before is answered."""
    left = bytearray()
    seen: list[object] = []
    with server.connect() as connection:
        try:
            for each in sent:
                connection.sendall(each)
                seen.append(comparable(read_answer(connection, left)))
        except ConnectionError:
            seen.append("closed")
    return seen


@pytest.mark.parametrize("name", CORPUS)
def test_a_head_that_is_known_is_answered_as_the_first_time(servers: tuple[Running, Running], name: str) -> None:
    """The same request again and again on one connection, between others, is answered alike by both ways."""
    sent = [CORPUS["good"], *[CORPUS[name]] * 3, CORPUS["good"], CORPUS[name]]
    lane, asgi = (in_turn(server, sent) for server in servers)
    assert asgi == lane
    assert "closed" in lane or lane[1] == lane[2] == lane[3] == lane[5]


def test_a_known_head_has_nothing_of_the_body(servers: tuple[Running, Running]) -> None:
    """Bodies of one length under one head, each answered for itself; a longer body is no known head's."""
    rows = [{**ROW, "petal_length": length} for length in (1.4, 4.7, 6.1, 1.4, 5.55)]
    sent = [post(json.dumps({"instances": [row]}).encode()) for row in rows]
    lane, asgi = (in_turn(server, [sent[0], *sent]) for server in servers)
    assert asgi == lane
    assert lane[1] == lane[4]
    assert len({repr(answer) for answer in lane}) == 3  # setosa, versicolor, virginica


def test_the_lane_is_on(servers: tuple[Running, Running]) -> None:
    """The two servers differ in what they are told, so that the comparison means something."""
    assert [True, False] == ["fast_lane" not in json.dumps(environment_of(server)) for server in servers]


def environment_of(server: Running) -> list[str]:
    environ = Path(f"/proc/{server.process.pid}/environ").read_bytes()
    return [entry.decode().lower() for entry in environ.split(b"\0") if entry.lower().startswith(b"penstock_")]


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.sampled_from(sorted(set(CORPUS) - {"close", "old", "too large", NO_HTTP})), min_size=1, max_size=5
    ),
    cuts=st.lists(st.integers(0, 4000), max_size=6),
)
def test_split_and_pipelined_requests_are_answered_alike(
    servers: tuple[Running, Running], names: list[str], cuts: list[int]
) -> None:
    """However requests are cut into packets or run together, both ways give the same answers in the same order."""
    sent = b"".join(CORPUS[name] for name in names)
    edges = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
    parts = [sent[low:high] for low, high in itertools.pairwise(edges)]
    assert_alike(servers, parts, answers=len(names))


@pytest.mark.parametrize("cut", [-20, -1, 0, 1, 30])
def test_what_is_no_http_after_a_request(servers: tuple[Running, Running], cut: int) -> None:
    """When it comes before the answer of the request, that says that it is the last; else it gets a 400 of its own."""
    sent = CORPUS["good"] + CORPUS[NO_HTTP]
    at = len(CORPUS["good"]) + cut
    ends = [[(200, "close"), None], [(200, None), (400, "close")]]
    for server in servers:
        seen = told(server, [sent[:at], sent[at:]], answers=2)
        assert [(each[0], each[1].get("connection")) if isinstance(each, tuple) else None for each in seen] in ends


def test_what_is_no_http_is_never_known(servers: tuple[Running, Running]) -> None:
    """A head that is refused after a request with a body as long is refused again, and not answered as that request."""
    for server in servers:
        for _ in range(3):
            good, refused = in_turn(server, [CORPUS["good"], CORPUS[NO_HTTP]])
            assert (200, 400) == (good[0], refused[0])  # type: ignore[index]


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_body_is_answered_alike(servers: tuple[Running, Running], body: bytes) -> None:
    """Whatever the body, both ways say the same."""
    assert_alike(servers, [post(body)])
