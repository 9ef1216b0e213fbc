"""The commands done by a controller elsewhere: the control API's client, with the errors that the controller raised."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from penstock.assignment import Experiment
from penstock.audit.erase import Wanted
from penstock.bundle.manifest import manifest_of
from penstock.bundle.source import ARCHIVE_SUFFIX
from penstock.control.answers import (
    ApplyAnswer,
    EraseAnswer,
    ExperimentAnswer,
    GarbageAnswer,
    HistoryAnswer,
    ModelAnswer,
    MoveAnswer,
    PublishAnswer,
    RolloutAnswer,
    SealAnswer,
    WeighAnswer,
)
from penstock.control.control import By
from penstock.control.rollout_decisions import Verb
from penstock.controller.failures import error_of
from penstock.controller.messages import (
    BUNDLE_MEDIA,
    JSON_MEDIA,
    WHO_HEADER,
    ApplyBody,
    EraseBody,
    GarbageBody,
    ModelsAnswer,
    MoveBody,
    Removal,
    RolloutBody,
    WeighBody,
    Why,
)
from penstock.errors import BundleRefused, ControlError
from penstock.rollout.declared import Plan

T = TypeVar("T")

CONNECT_S: Final = 5.0
LOOK_S: Final = 30.0
CHANGE_S: Final = 7500.0
"""How long a change may take to answer: longer than the greatest `control.try_s` and `control.apply_s` together."""

_RETRIES: Final = 2  # of making the connection, which asks for nothing yet
# A machine that is gone without a word is noticed within a minute, not after CHANGE_S.
_KEPT_ALIVE: Final = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]


class RemoteOperations:
    """`Operations` of the controller at `url`. Thread-safe. Raises ControlError also where none answers."""

    def __init__(self, url: str, *, look_s: float = LOOK_S, change_s: float = CHANGE_S) -> None:
        self._url = url.rstrip("/")
        self._look_s, self._change_s = look_s, change_s
        try:
            # No proxy: between this command and its controller there is none.
            transport = httpx.HTTPTransport(retries=_RETRIES, socket_options=_KEPT_ALIVE, trust_env=False)
            self._client = httpx.Client(base_url=self._url, transport=transport, trust_env=False)
        except httpx.InvalidURL as error:
            raise ControlError(f"{url!r} is no URL of a controller: {error}") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def publish(self, bundle: Path, by: By, alias: str | None = None) -> PublishAnswer:
        """Send a bundle, a directory or a `.penstock` file, and make it the next version of its model."""
        name = manifest_of(bundle).name
        query = {**_query(by), **({} if alias is None else {"alias": alias})}
        with _archived(bundle) as path, path.open("rb") as file:
            headers = {**_headers(by), "content-type": BUNDLE_MEDIA}
            return self._change(
                "POST", _path(name, "versions"), PublishAnswer, content=file, headers=headers, params=query
            )

    def move(self, model: str, alias: str, version: int | None, by: By) -> MoveAnswer:
        """Give an alias to a version, or take it away, and wait until the workers there have applied it."""
        path = _path(model, "aliases", alias)
        if version is None:
            return self._change("DELETE", path, MoveAnswer, headers=_headers(by), params=_query(by))
        return self._change("PUT", path, MoveAnswer, **_json(by, MoveBody(version=version, **_why(by))))

    def rollback(self, model: str, by: By) -> MoveAnswer:
        """Make the champion before this one the champion again, and wait as `move` does."""
        return self._change("POST", _path(model, "rollback"), MoveAnswer, **_json(by, Why(**_why(by))))

    def weigh(self, model: str, experiment: Experiment | None, by: By) -> WeighAnswer:
        """Begin an experiment of a model, change the weights of its arms, or end it (None); wait as `move` does."""
        body = WeighBody(experiment=experiment, **_why(by))
        return self._change("PUT", _path(model, "experiment"), WeighAnswer, **_json(by, body))

    def experiment(self, model: str) -> ExperimentAnswer:
        """How the last experiment of a model stands."""
        return self._look(_path(model, "experiment"), ExperimentAnswer)

    def start_rollout(self, model: str, version: int, plan: Plan, by: By) -> RolloutAnswer:
        """Begin a rollout of a version: replay, shadow, steps, champion, as far as the evidence lets it."""
        body = RolloutBody(version=version, plan=plan, **_why(by))
        return self._change("POST", _path(model, "rollout"), RolloutAnswer, **_json(by, body))

    def rollout(self, model: str) -> RolloutAnswer:
        """How the last rollout of a model stands."""
        return self._look(_path(model, "rollout"), RolloutAnswer)

    def tell_rollout(self, model: str, verb: Verb, by: By) -> RolloutAnswer:
        """What a person says of the rollout that is under way; `by.reason` stands in the history."""
        return self._change("POST", _path(model, "rollout", verb), RolloutAnswer, **_json(by, Why(**_why(by))))

    def remove(self, model: str, version: int, by: By) -> None:
        """Remove a version that nothing refers to."""
        path = _path(model, "versions", str(version))
        self._change("DELETE", path, Removal, headers=_headers(by), params=_query(by))

    def models(self) -> list[ModelAnswer]:
        """All models, by name."""
        return self._look("/v1/models", ModelsAnswer).models

    def model(self, name: str) -> ModelAnswer:
        """One model."""
        return self._look(_path(name), ModelAnswer)

    def history(self, model: str, at: datetime | None = None) -> HistoryAnswer:
        """What happened to a model, and with `at` what it was then."""
        return self._look(_path(model, "history"), HistoryAnswer, {} if at is None else {"at": at.isoformat()})

    def apply(self, declared: str, by: By, *, is_dry: bool = False) -> ApplyAnswer:
        """Make the state what the YAML text `declared` says, or with `is_dry` only say what would change."""
        body = ApplyBody(declared=declared, dry_run=is_dry, **_why(by))
        return self._change("POST", "/v1/apply", ApplyAnswer, **_json(by, body))

    def collect_garbage(self, by: By, *, is_dry: bool = False) -> GarbageAnswer:
        """Remove versions by rule, and files that nothing refers to."""
        return self._change("POST", "/v1/gc", GarbageAnswer, **_json(by, GarbageBody(dry_run=is_dry, **_why(by))))

    def seal(self, by: By) -> SealAnswer:
        """Seal the segments of the log that no worker writes, and remove what retention lets go."""
        return self._change("POST", "/v1/audit/seal", SealAnswer, **_json(by, Why(**_why(by))))

    def erase(self, wanted: Wanted, by: By) -> EraseAnswer:
        """Take payloads of records out of the log for good, by request id or by key; the chain still proves itself."""
        why = {**_why(by), "reason": by.reason or ""}
        body = EraseBody(request_ids=sorted(wanted.request_ids), keys=sorted(wanted.keys), **why)
        return self._change("POST", "/v1/audit/erase", EraseAnswer, **_json(by, body))

    def back_up(self, directory: Path) -> None:
        """Fetch a copy of the state, the bundles and the log into a new directory on this machine."""
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ControlError(
                f"Expected nothing at {directory}, where the backup is to be made: name another directory"
            )
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as partial:
                whole = Path(partial) / "backup"
                self._unpacked(whole)
                whole.rename(directory)
        except OSError as error:
            raise ControlError(f"the backup cannot be written to {directory}: {error.strerror}") from error

    def _unpacked(self, directory: Path) -> None:
        request = self._client.build_request(
            "POST", "/v1/backup", content=b"{}", headers={"content-type": JSON_MEDIA}, timeout=_timeout(self._change_s)
        )
        with self._sent(request, is_change=False) as response:
            if response.status_code != 200:
                raise error_of(response.read(), response.status_code, self._url)
            try:
                with tarfile.open(fileobj=_Stream(response.iter_bytes()), mode="r|") as archive:
                    _unpack(archive, directory)
            except tarfile.TarError as error:
                raise ControlError(f"the backup from {self._url} did not arrive whole: {error}") from error

    def _look(self, path: str, kind: type[T], query: dict[str, str] | None = None) -> T:
        request = self._client.build_request("GET", path, params=query, timeout=_timeout(self._look_s))
        return self._answer(request, kind, is_change=False)

    def _change(self, method: str, path: str, kind: type[T], **what: Any) -> T:
        request = self._client.build_request(method, path, timeout=_timeout(self._change_s), **what)
        return self._answer(request, kind, is_change=True)

    def _answer(self, request: httpx.Request, kind: type[T], *, is_change: bool) -> T:
        with self._sent(request, is_change=is_change) as response:
            body = response.read()
        if response.status_code != 200:
            raise error_of(body, response.status_code, self._url)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlError(
                f"{self._url} does not answer as a controller of this Penstock does ({error}): check the address and "
                "the version there"
            ) from error

    @contextlib.contextmanager
    def _sent(self, request: httpx.Request, *, is_change: bool) -> Iterator[httpx.Response]:
        """The answer, unread. Raises ControlError if there is none, or not a whole one."""
        doubt = "; the change may have been made: look at the history" if is_change else ""
        try:
            response = self._client.send(request, stream=True)
            with contextlib.closing(response):
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise ControlError(f"no controller answers at {self._url} ({error}): is the server running?") from error
        except httpx.TimeoutException as error:
            raise ControlError(f"the controller at {self._url} has not answered in time{doubt}") from error
        except httpx.HTTPError as error:
            raise ControlError(f"the connection to {self._url} ended before the answer ({error}){doubt}") from error


class _Stream(io.RawIOBase):
    """The parts of an answer as a file that is read once, from its beginning."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As RawIOBase has it."""
        while not self._left:
            try:
                self._left = memoryview(next(self._parts))
            except StopIteration:
                return 0
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


@contextlib.contextmanager
def _archived(bundle: Path) -> Iterator[Path]:
    """`bundle` as one file, unless it is one. What it holds is looked at over there."""
    if not bundle.is_dir():
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        path = Path(folder) / f"bundle{ARCHIVE_SUFFIX}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for entry in sorted(bundle.iterdir()):
                if entry.is_symlink() or not entry.is_file():
                    raise BundleRefused(f"{entry.name}: not a plain file")
                archive.write(entry, entry.name)
        yield path


def _path(model: str, *parts: str) -> str:
    # `quote` leaves dots, and a name of dots alone would be folded away on the way.
    return "/".join(["/v1/models", *(quote(part, safe="").replace(".", "%2E") for part in (model, *parts))])


def _headers(by: By) -> dict[str, str]:
    return {WHO_HEADER: quote(by.who.name, safe="@")} | (
        {} if by.if_revision is None else {"if-match": f'"{by.if_revision}"'}
    )


def _why(by: By) -> dict[str, Any]:
    return {"reason": by.reason, "force": by.is_forced}


def _query(by: By) -> dict[str, str]:
    return ({} if by.reason is None else {"reason": by.reason}) | ({"force": "true"} if by.is_forced else {})


def _json(by: By, body: Why) -> dict[str, Any]:
    return {"content": msgspec.json.encode(body), "headers": {**_headers(by), "content-type": JSON_MEDIA}}


def _timeout(answer_s: float) -> httpx.Timeout:
    return httpx.Timeout(answer_s, connect=CONNECT_S)


def _unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Files and folders of an archive, for their owner alone. Raises TarError for anything else, and for other places.

    By hand: the safe filters of `tarfile` are not in Python 3.11.2, which Debian 12 has.
    """
    directory.mkdir(mode=0o700)
    for member in archive:
        path = PurePosixPath(member.name)
        data = archive.extractfile(member) if member.isreg() else None
        if path.is_absolute() or ".." in path.parts or (data is None and not member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is no file or folder of a backup")
        target = directory / path
        (target if data is None else target.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        if data is not None:
            with open(target, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                shutil.copyfileobj(data, file)
