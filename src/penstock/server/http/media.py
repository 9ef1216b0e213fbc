"""Which of a route's faces speaks to a caller: the one that reads what is sent and writes what is accepted. Pure.

Content-Type and Accept as RFC 9110 has them (8.3, 12.5.1); parameters other than `q` are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock.errors import CallFailure, NotAcceptable, UnsupportedMedia
from penstock.server.call import Face

ANY: Final = b"*/*"
"""As `Face.reads`: whatever the content type says, this face reads the body."""

_COMMON: Final = frozenset(
    {b"application/json", b"application/octet-stream", b"application/vnd.apache.arrow.stream"}
    | {b"application/x-www-form-urlencoded", b"application/xml", b"multipart/form-data"}
    | {b"text/csv", b"text/html", b"text/plain"}
)
"""Types that a refusal names; of others it says nothing: what a caller writes in a header may be anything."""


def choose(faces: Sequence[Face], content_type: bytes | None, accept: bytes | None) -> tuple[Face, CallFailure | None]:
    """The first face that reads `content_type` (absent: whatever the first reads) and writes what is accepted most.

    Where there is none, the face to refuse with, and the failure: UnsupportedMedia or NotAcceptable.
    """
    reads = faces[0].reads if content_type is None else media_type(content_type)
    fitting = [face for face in faces if face.reads in (reads, ANY)]
    if not fitting:
        return faces[0], _unread(faces, content_type or b"")
    if accept is None:
        return fitting[0], None
    best = max(fitting, key=lambda face: quality(accept, face.writes))  # the first of several that are equal
    if quality(accept, best.writes):
        return best, None
    return fitting[0], _unwritten(fitting)


def media_type(value: bytes) -> bytes:
    """A Content-Type without its parameters, in lower case."""
    return value.partition(b";")[0].strip().lower()


def quality(accept: bytes, media: bytes) -> float:
    """How much an Accept header wants `media`, from 0 (not at all) to 1; the most specific of its ranges decides."""
    kind = media.partition(b"/")[0] + b"/*"
    best, found = -1, 0.0
    for part in accept.split(b","):
        wanted, *parameters = part.split(b";")
        name = wanted.strip().lower()
        rank = 2 if name == media else 1 if name == kind else 0 if name == ANY else -1
        weight = _weight(parameters) if rank >= 0 else 0.0
        if rank > best or (rank == best and weight > found):
            best, found = rank, weight
    return found if best >= 0 or accept.strip() else 1.0  # an empty Accept wants nothing in particular


def _weight(parameters: Sequence[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"q":
            try:
                weight = float(value)
            except ValueError:
                return 1.0
            return weight if 0 <= weight <= 1 else 1.0
    return 1.0


def _unread(faces: Sequence[Face], content_type: bytes) -> UnsupportedMedia:
    read = _listed([face.reads for face in faces])
    return UnsupportedMedia(
        f"this route reads {read}, not {_named(content_type)}: send the header Content-Type: {faces[0].reads.decode()}"
    )


def _unwritten(faces: Sequence[Face]) -> NotAcceptable:
    written = _listed([face.writes for face in faces])
    return NotAcceptable(
        f"this route answers such a request with {written}, which the header Accept excludes: "
        f"leave it out or name one of them"
    )


def _listed(medias: Sequence[bytes]) -> str:
    return " or ".join(media.decode() for media in dict.fromkeys(medias))


def _named(content_type: bytes) -> str:
    kind = media_type(content_type)
    return kind.decode() if kind in _COMMON else "another type"
