"""The parent's side of the child process: starts it, passes its progress on, ends it, turns its end into an error."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Failed, Line, Order, Packed, Progress, Step
from penstock.errors import BundleRefused, PackRefused, PenstockError, SchemaError

_CHILD: Final = "penstock.bundle.importers.child"
_TAIL_BYTES: Final = 2000
_LONGEST_LINE_BYTES: Final = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """What the child may take: address space, and time from its start to its end."""

    memory_bytes: int = 16 << 30
    time_s: float = 1800.0


def carry_out_apart(order: Order, limits: Limits, progress: Progress) -> Bundle:
    """The bundle of an order whose source may run code: read, converted, proven and sealed in a child process.

    The child gets no environment variables but what Python needs, no input and no inherited files. Raises PackRefused
    (SchemaError, ...) as the importer did, or with the last lines that the child printed when it died or took longer
    than its limits allow.
    """
    with tempfile.TemporaryFile() as printed:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb", buffering=0) as lines:
            try:
                process = _start(order, limits, writer, printed)
            finally:
                os.close(writer)
            try:
                last = _follow(lines, time.monotonic() + limits.time_s, progress)
                process.wait(timeout=limits.time_s)
            except (TimeoutError, subprocess.TimeoutExpired):
                raise _died(order, f"it took longer than {limits.time_s:g} s", printed) from None
            finally:
                _end(process)
        if isinstance(last, Packed):
            return Bundle.open(Path(last.path))
        if isinstance(last, Failed):
            raise _error_of(last, order, printed)
        raise _died(order, _how(process.returncode), printed)


def _start(order: Order, limits: Limits, writer: int, printed: IO[bytes]) -> subprocess.Popen[bytes]:
    task = msgspec.json.encode({"order": order, "memory_bytes": limits.memory_bytes})
    # Credentials live in environment variables: code from a pickle shall not see them. Modules are found as here.
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", _CHILD, str(writer)],
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(writer,),
        start_new_session=True,
    )
    if process.stdin is not None:
        with process.stdin as stdin:
            stdin.write(task)
    return process


def _follow(lines: IO[bytes], deadline: float, progress: Progress) -> Line | None:
    """Reads the child's lines to their end; the last of them. Raises TimeoutError."""
    last: Line | None = None
    for line in _lines(lines, deadline):
        last = line
        if isinstance(line, Step):
            progress(line.text)
    return last


def _lines(source: IO[bytes], deadline: float) -> Iterator[Line]:
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        held = b""
        while len(held) < _LONGEST_LINE_BYTES:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = source.read(65536)
            if not part:
                return
            *whole, held = (held + part).split(b"\n")
            for line in whole:
                try:
                    yield msgspec.json.decode(line, type=Line)
                except msgspec.DecodeError:  # the code in the pickle can write here too
                    continue


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the child and whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how(code: int) -> str:
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name} (no memory left, or a crash)"
    return f"it ended with exit code {code}, and no bundle"


def _error_of(failed: Failed, order: Order, printed: IO[bytes]) -> Exception:
    if failed.parts is not None:
        return PackRefused(*failed.parts)
    if failed.is_unforeseen:
        return _died(order, f"{failed.kind}: {failed.message}", printed)
    kinds: dict[str, type[Exception]] = {
        "SchemaError": SchemaError,
        "BundleRefused": BundleRefused,
        "FileNotFoundError": FileNotFoundError,
    }
    return kinds.get(failed.kind, PenstockError)(failed.message)


def _died(order: Order, how: str, printed: IO[bytes]) -> PackRefused:
    printed.seek(0, os.SEEK_END)
    printed.seek(max(0, printed.tell() - _TAIL_BYTES))
    tail = printed.read().decode("utf-8", "replace").strip()
    said = f"; it printed last:\n{tail}\n" if tail else ""
    return PackRefused(
        Path(order.source).name,
        f"the process that read it did not finish: {how}{said}",
        "Read it once by hand in Python, or raise --memory-gib and --time-limit-s",
    )
