"""Log lines: JSON with fields, text with the worker, and bugs without their messages."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from penstock.telemetry.log_lines import FIELDS, JsonLines, TextLines, way_to


def record_of(message: str, *values: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("penstock.test").makeRecord(
        "penstock.test", logging.WARNING, "a.py", 1, message, values, None, extra={FIELDS: extra} if extra else None
    )


def decoded(line: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(line)
    return found


def test_a_json_line_has_its_fields() -> None:
    """Level, logger, worker, the given fields and the message are keys of one object on one line."""
    line = JsonLines(3).format(record_of("slow\n%s", "call", request_id="r-1", version=2))
    assert "\n" not in line
    found = decoded(line)
    assert found.pop("at").endswith("Z")
    expected = {"level": "warning", "logger": "penstock.test", "worker": 3, "request_id": "r-1", "version": 2}
    assert {**expected, "message": "slow\ncall"} == found


def test_a_process_that_is_no_worker_says_none() -> None:
    """The supervisor's lines have no worker."""
    assert {"at", "level", "logger", "message"} == decoded(JsonLines().format(record_of("up"))).keys()


def test_text_names_the_worker() -> None:
    """A line for people begins with time and level and names the worker."""
    assert TextLines(3).format(record_of("up")).endswith("WARNING penstock.test worker 3: up")


def test_a_bug_is_told_without_its_message() -> None:
    """The way to a bug has types, modules, lines and functions: no message, which may hold a row, and no path."""

    def read(secret: str) -> int:
        return int(secret)

    try:
        try:
            read("4111-1111")
        except ValueError as error:
            raise KeyError("4111-1111") from error
    except KeyError as bug:
        told = way_to(bug)
    assert told.startswith(f"KeyError at {__name__}:")
    assert ", after ValueError at " in told and told.endswith(" read")
    assert "4111" not in told and "/" not in told
