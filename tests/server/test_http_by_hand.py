"""HTTP by sockets: what clients, proxies and bad lines do to a connection. The server goes on, whatever it was."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Running, read_answer, request, running

IRIS = "/v1/models/iris/predict"
BODY = b'{"instances":[{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}]}'


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([bundles["iris"], bundles["growth"]], tmp_path_factory.mktemp("by-hand")) as process:
        yield process


@pytest.fixture(autouse=True)
def _it_goes_on(server: Running) -> Iterator[None]:
    """After whatever was sent, a call on a new connection is answered."""
    yield
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY))
        assert 200 == read_answer(connection).status


def test_a_body_that_comes_byte_by_byte(server: Running) -> None:
    """A body in pieces of one byte is put together."""
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(IRIS, BODY):
            connection.sendall(bytes([byte]))
        assert 200 == read_answer(connection).status


def test_chunks_of_one_byte(server: Running) -> None:
    """A chunked body in chunks of one byte, with an extension and a trailer, is put together."""
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in BODY) + b"0\r\nX-Trailer: 1\r\n\r\n"
    head = f"POST {IRIS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode() + chunks)
        assert 200 == read_answer(connection).status


def test_pipelined_requests(server: Running) -> None:
    """Requests sent together are answered in their order."""
    asked = [request(IRIS, BODY, headers={"X-Request-Id": str(number)}) for number in range(30)]
    asked[7] = request(IRIS, b"{", headers={"X-Request-Id": "7"})
    asked[11] = request("/health", method="GET", headers={"X-Request-Id": "11"})
    left = bytearray()
    with server.connect() as connection:
        connection.sendall(b"".join(asked))
        answers = [read_answer(connection, left) for _ in asked]
    assert [400 if number == 7 else 200 for number in range(30)] == [answer.status for answer in answers]
    echoed = [answer.headers.get("x-request-id") for answer in answers]
    assert [None if number == 11 else str(number) for number in range(30)] == echoed


def test_expect_100_continue(server: Running) -> None:
    """A caller that waits for 100 Continue gets it, and after its body the answer."""
    with server.connect() as connection:
        whole = request(IRIS, BODY, headers={"Expect": "100-continue"})
        connection.sendall(whole[: -len(BODY)])
        left = bytearray()
        assert 100 == read_answer(connection, left).status
        connection.sendall(BODY)
        assert 200 == read_answer(connection, left).status


def test_expect_100_continue_with_a_body_that_is_too_large(server: Running) -> None:
    """A caller that waits for 100 Continue with too large a body gets 413 instead and need not send it."""
    with server.connect() as connection:
        connection.sendall(request(IRIS, headers={"Expect": "100-continue", "Content-Length": "99999999999999999999"}))
        assert read_answer(connection).status in (400, 413)
        connection.sendall(b"")
    with server.connect() as connection:
        connection.sendall(request(IRIS, headers={"Expect": "100-continue", "Content-Length": "99999999999"}))
        assert 413 == read_answer(connection).status


def test_an_offer_to_upgrade(server: Running) -> None:
    """An offer of h2c (Java's client makes one) is ignored: the call is answered, and so is the next."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    left = bytearray()
    with server.connect() as connection:
        for pieces in (1, 3):
            whole = request(IRIS, BODY, headers=offer)
            for piece in range(pieces):
                size = len(whole) // pieces + 1
                connection.sendall(whole[piece * size : (piece + 1) * size])
            assert 200 == read_answer(connection, left).status
        connection.sendall(request("/health", method="GET", headers=offer) + request(IRIS, BODY))
        assert [200, 200] == [read_answer(connection, left).status for _ in range(2)]


def test_a_half_closed_connection(server: Running) -> None:
    """A caller that closes its sending side after the request gets its answer, if any, and nobody is harmed."""
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY))
        assert 200 == read_answer(connection).status
        connection.shutdown(socket.SHUT_WR)
        assert b"" == connection.recv(1)


def test_a_caller_gone_in_the_middle_of_its_body(server: Running) -> None:
    """A call whose body never became whole is not asked: it leaves no record and no complaint."""
    before = len(server.records())
    for is_reset in (False, True):
        with server.connect() as connection:
            connection.sendall(request(IRIS, BODY)[:-5])
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY))
        assert 200 == read_answer(connection).status
    assert before + 1 == len(server.records())
    assert "Exception" not in server.text


def test_a_caller_gone_before_its_answer(server: Running) -> None:
    """A caller that hangs up after a whole request harms nobody, not even with a slow model."""
    for body, path in [(BODY, IRIS), (b'{"columns":{"x":[5.0,6.0]}}', "/v1/models/growth/predict")] * 5:
        with server.connect() as connection:
            connection.sendall(request(path, body))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with server.connect() as connection:
        connection.sendall(request("/v1/models/growth/predict", b'{"columns":{"x":[5.0]}}'))
        assert 200 == read_answer(connection).status
    assert "Exception" not in server.text


def test_a_request_that_does_not_come(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A request that is not whole within the deadline ends its connection; a whole one may be followed by another."""
    whole = request(IRIS, BODY)
    with running([bundles["iris"]], tmp_path, server__deadline_ms=700, server__keep_alive_s=60) as server:
        stalled = [server.connect() for _ in range(4)]
        stalled[1].sendall(whole[:20])
        stalled[2].sendall(whole[:-5])
        stalled[3].sendall(whole + whole[:-5])
        with server.connect() as other:
            other.sendall(whole)
            assert 200 == read_answer(other).status
            assert 200 == read_answer(stalled[3]).status
            for connection in stalled:
                assert b"" == connection.recv(1)
                connection.close()
            other.sendall(whole)
            assert 200 == read_answer(other).status
        assert "Exception" not in server.text
        assert 3 == len(server.records())


def test_http_1_0(server: Running) -> None:
    """An HTTP/1.0 caller is answered, and its connection ends."""
    head = f"POST {IRIS} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    with server.connect() as connection:
        connection.sendall(head + BODY)
        assert 200 == read_answer(connection).status
        assert b"" == connection.recv(1)


def test_head(server: Running) -> None:
    """HEAD gets the headers of GET and no body."""
    with server.connect() as connection:
        connection.sendall(b"HEAD /v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        whole = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = whole.partition(b"\r\n\r\n")
    assert (b"HTTP/1.1 200 OK", b"") == (head.split(b"\r\n")[0], body)
    assert b"content-type: application/json" in head


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_http(server: Running, data: bytes) -> None:
    """Bytes that are no HTTP request are 400 with our error body, and the connection ends."""
    with server.connect() as connection:
        connection.sendall(data)
        answer = read_answer(connection)
    assert (400, "unreadable") == (answer.status, answer.json["error"]["code"])


def test_noise_after_whole_requests(server: Running) -> None:
    """Whole requests before bytes that are no HTTP are answered, then the connection ends."""
    left = bytearray()
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY) * 3 + b"\x00\x01\r\n\r\n")
        answers = [read_answer(connection, left) for _ in range(3)]
        assert (b"", b"") == (bytes(left), connection.recv(1))
    assert ([200] * 3, "close") == ([answer.status for answer in answers], answers[2].headers["connection"])


def test_a_broken_chunk(server: Running) -> None:
    """A chunked body that breaks in its middle is 400, and its call is not asked."""
    before = len(server.records())
    head = f"POST {IRIS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with server.connect() as connection:
        connection.sendall(head + b"5\r\n" + BODY[:5] + b"\r\n")
        connection.sendall(b"zz\r\n")
        assert 400 == read_answer(connection).status
        assert b"" == connection.recv(1)
    assert before == len(server.records())


def test_random_bytes_on_connections(server: Running) -> None:
    """Whatever bytes come, mutated requests and noise, the server answers the next caller."""
    chance = random.Random(7)
    good = request(IRIS, BODY) * 2
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[place] = chance.randrange(256)
                case 1:
                    del data[place : place + chance.randint(1, 40)]
                case _:
                    data[place:place] = chance.randbytes(chance.randint(1, 20))
        with server.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            try:
                whole = b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                continue
        assert b"HTTP/1.1 500" not in whole
    assert server.process.poll() is None
    assert "Exception" not in server.text
