"""Which face speaks: Content-Type and Accept, as RFC 9110 has them."""

from __future__ import annotations

import msgspec
import pytest

from penstock.errors import NotAcceptable, NotFound, UnsupportedMedia
from penstock.server.failures import refusal_body
from penstock.server.http.media import ANY, choose, quality
from penstock.server.protocols import Own

JSON, ARROW = b"application/json", b"application/vnd.apache.arrow.stream"


class Talking(Own):
    """A face of any media types."""

    def __init__(self, reads: bytes, writes: bytes) -> None:
        self.reads, self.writes = reads, writes


FACES = (Talking(JSON, JSON), Talking(JSON, ARROW), Talking(ARROW, ARROW), Talking(ARROW, JSON))


@pytest.mark.parametrize(
    ("content_type", "accept", "chosen"),
    [
        (None, None, 0),
        (JSON, None, 0),
        (b"Application/JSON; charset=utf-8", b"*/*", 0),
        (JSON, ARROW, 1),
        (JSON, b"application/json;q=0.5, application/vnd.apache.arrow.stream", 1),
        (JSON, b"application/json;q=0, */*", 1),
        (JSON, b"application/*", 0),
        (JSON, b"text/html, */*;q=0.1", 0),
        (ARROW, None, 2),
        (ARROW, b"application/json", 3),
        (ARROW, b"", 2),
    ],
)
def test_the_face_that_reads_and_writes_what_is_asked_is_taken(
    content_type: bytes | None, accept: bytes | None, chosen: int
) -> None:
    """The type that is sent and the type that is accepted are chosen independently; the first face is the default."""
    assert (FACES[chosen], None) == choose(FACES, content_type, accept)


def test_what_no_face_reads_is_refused() -> None:
    """The refusal names what the route reads and what came."""
    face, failure = choose(FACES, b"text/plain", None)
    assert face is FACES[0]
    assert isinstance(failure, UnsupportedMedia)
    assert (
        "this route reads application/json or application/vnd.apache.arrow.stream, not text/plain: "
        "send the header Content-Type: application/json" == str(failure)
    )


@pytest.mark.parametrize("accept", [b"text/html", b"application/json;q=0, application/*;q=0", b"*/*;q=0"])
def test_an_accept_that_excludes_every_answer_is_refused(accept: bytes) -> None:
    """No range, or a weight of 0, means that the caller would not take the answer."""
    face, failure = choose(FACES, JSON, accept)
    assert face is FACES[0]
    assert isinstance(failure, NotAcceptable)
    assert "which the header Accept excludes" in str(failure)


def test_a_face_for_any_type_reads_every_type() -> None:
    """Protocols whose callers name no type, or a wrong one, read what comes."""
    assert (FACES[0], None) == choose((FACES[0], Talking(ANY, JSON)), JSON, None)
    other = Talking(ANY, JSON)
    assert (other, None) == choose((FACES[0], other), b"application/x-www-form-urlencoded", None)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"application/json", 1.0),
        (b"application/json;q=0.25", 0.25),
        (b"*/*;q=0.5, application/*;q=0.75", 0.75),
        (b"*/*, application/json;q=0", 0.0),
        (b"application/json;q=abc", 1.0),
        (b"application/json;q=7", 1.0),
        (b"application/json;charset=utf-8;Q=0.5", 0.5),
        (b"text/html", 0.0),
        (b",,", 0.0),
        (b" ", 1.0),
    ],
)
def test_the_most_specific_range_decides(accept: bytes, expected: float) -> None:
    """A range that names the type beats its kind, which beats everything; what is no weight is a weight of 1."""
    assert expected == quality(accept, JSON)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v2", {"error"}),
        ("/v2/models/nobody/infer", {"error"}),
        ("/v2/models/\n/infer", {"error"}),
        ("/v1/models/churn/versions/3", {"error"}),
        ("/v1/models/churn:predict", {"error"}),
        ("/v1/models/churn/versions/3:predict", {"error"}),
        ("/v1/models/churn/metadata", {"error"}),
        ("/invocations", {"error_code", "message"}),
    ],
)
def test_an_error_is_of_the_protocol_that_its_path_belongs_to(path: str, keys: set[str]) -> None:
    """Also where no face is known, the body is what clients of the protocol read."""
    body = msgspec.json.decode(refusal_body(path, NotFound("no such path"), None))
    assert keys == set(body)
    assert "no such path" in body.values()


def test_our_own_paths_have_our_own_error_body() -> None:
    """Every other path has the body of our own API."""
    body = msgspec.json.decode(refusal_body("/v1/models/churn/predicts", NotFound("no such path"), None))
    assert {"error": {"code": "not_found", "message": "no such path"}} == body
