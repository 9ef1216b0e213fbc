"""What a request says, read within limits: its body, who asks and why, and a bundle that is put into a file."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import unquote_to_bytes

import anyio.to_thread
import msgspec
from fastapi import Request
from msgspec import Meta
from starlette.requests import ClientDisconnect

from penstock.bundle.source import ARCHIVE_SUFFIX
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.messages import BUNDLE_MEDIA, JSON_MEDIA, WHO_HEADER, Why
from penstock.errors import (
    CallerGone,
    Conflict,
    Overloaded,
    RepositoryUnavailable,
    TooLarge,
    Unreadable,
    UnsupportedMedia,
)
from penstock.server.http.media import media_type

T = TypeVar("T")

MAX_JSON_BYTES: Final = 4 << 20
PATIENCE_S: Final = 60.0
"""How long a body may pause."""

UPLOADS: Final = 4
_WRITE_BYTES: Final = 1 << 20
_ETAG: Final = re.compile(r'"(\d{1,16})"')
_NAME_CHARS: Final = 128
_Moment = Annotated[datetime, Meta(tz=True)]


async def json_body(request: Request, kind: type[T]) -> T:
    """The JSON body as `kind`; none counts as `{}`. Raises Unreadable, TooLarge, UnsupportedMedia, CallerGone."""
    require_media(request, JSON_MEDIA)
    data = bytearray()
    async for part in parts_of(request, MAX_JSON_BYTES):
        data += part
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the body is not what this route reads: {error}") from error


def require_media(request: Request, media: str) -> None:
    """Raise UnsupportedMedia unless the body is of type `media` and comes unpacked.

    Also where there is none: a web page of another origin cannot send such a type without being asked first.
    """
    said = request.headers.get("content-type", "")
    if media_type(said.encode("latin-1")) != media.encode():
        raise UnsupportedMedia(
            f"Expected the header Content-Type: {media}, got {said[:80]!r}: this route reads nothing else"
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("Expected a body that is not packed: leave the header Content-Encoding out")


async def parts_of(request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body, part by part. Raises TooLarge, Unreadable where it does not go on, CallerGone where it ends."""
    too_large = TooLarge(f"the body is larger than {limit_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        raise too_large
    size_bytes = 0
    stream = request.stream()
    async with contextlib.aclosing(stream):
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    part = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise Unreadable(f"the body has not gone on for {PATIENCE_S:.0f} s, and is not whole") from error
            except ClientDisconnect as error:
                raise CallerGone("the caller hung up before the body was whole") from error
            size_bytes += len(part)
            if size_bytes > limit_bytes:
                raise too_large
            yield part


class Uploads:
    """Bundles on their way in: files of a folder of the home that are gone once they were looked at."""

    def __init__(self, home: Path, limit_bytes: int) -> None:
        """Remove what an earlier process has left; only the holder of the home's lock makes one."""
        self._folder = home / "transit"
        self._limit_bytes = limit_bytes
        self._under_way = 0
        for left in self._folder.glob(f"*{ARCHIVE_SUFFIX}"):
            left.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Path]:
        """The body as a `.penstock` file while the block runs.

        Raises as `parts_of` does, RepositoryUnavailable, and Overloaded: each may take `max_bundle_bytes` of the disk.
        """
        require_media(request, BUNDLE_MEDIA)
        if self._under_way >= UPLOADS:
            raise Overloaded(
                f"{UPLOADS} bundles are on their way in, as many as may be: try again when one has arrived"
            )
        self._under_way += 1
        try:
            path = await anyio.to_thread.run_sync(self._made)
            try:
                await self._write(request, path)
                yield path
            finally:
                path.unlink(missing_ok=True)
        finally:
            self._under_way -= 1

    def _made(self) -> Path:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self._folder, prefix="sent-", suffix=ARCHIVE_SUFFIX, delete=False
            ) as file:
                return Path(file.name)
        except OSError as error:
            raise _no_room(error) from error

    async def _write(self, request: Request, path: Path) -> None:
        waiting = bytearray()
        try:
            with path.open("wb") as file:
                async for part in parts_of(request, self._limit_bytes):
                    waiting += part
                    if len(waiting) >= _WRITE_BYTES:
                        await anyio.to_thread.run_sync(file.write, bytes(waiting))
                        waiting.clear()
                await anyio.to_thread.run_sync(file.write, bytes(waiting))
        except OSError as error:
            raise _no_room(error) from error


def by_of(request: Request, why: Why) -> By:
    """Who asks for a change, and why. Raises Unreadable for headers that say nothing readable, and Conflict."""
    expected = request.headers.get("if-match", "*").strip()
    found = _ETAG.fullmatch(expected)
    if expected != "*" and found is None:
        raise Unreadable(f'Expected a revision as in "17" or *, got {expected[:80]!r} - at the header If-Match')
    revision = None if found is None else int(found[1])
    if None not in (revision, why.if_revision) and revision != why.if_revision:
        raise Conflict(f"the header If-Match says revision {revision}, if_revision {why.if_revision}: leave one out")
    return By(
        who=who_of(request),
        reason=why.reason or None,
        if_revision=revision if why.if_revision is None else why.if_revision,
        is_forced=why.force,
    )


def who_of(request: Request) -> Who:
    """Who says that they ask: percent-encoded UTF-8, which nobody has verified. Raises Unreadable."""
    said = request.headers.get(WHO_HEADER)
    if said is None:
        return Who(f"anonymous@{request.client.host if request.client else 'unknown'}")
    try:
        name = unquote_to_bytes(said.encode("latin-1")).decode()
    except UnicodeDecodeError:
        name = ""
    if not 1 <= len(name) <= _NAME_CHARS or not name.isprintable():
        raise Unreadable(
            f"Expected 1 to {_NAME_CHARS} printable characters, percent-encoded UTF-8 - at the header {WHO_HEADER}"
        )
    return Who(name)


def moment_of(text: str | None) -> datetime | None:
    """The moment that a query names, as RFC 3339 has it, with an offset. Raises Unreadable."""
    if text is None:
        return None
    try:
        return msgspec.convert(text, _Moment)
    except msgspec.ValidationError as error:
        raise Unreadable(
            f"Expected a time as in 2026-11-20T18:30:00Z (`+` is written %2B in a query), got {text[:80]!r} - at `at`"
        ) from error


def _no_room(error: OSError) -> RepositoryUnavailable:
    return RepositoryUnavailable(f"the bundle cannot be taken in, on the controller's disk: {error.strerror}")
