"""Log lines: text for people, or one JSON object a line with its fields. Formatting only; `logs.py` sets them up."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

FIELDS = "penstock"
"""The name under `extra=` for a mapping of fields: `extra={FIELDS: {"request_id": …}}`."""


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, worker, the fields, message."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._worker,
            **_fields(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode(errors="backslashreplace")


class TextLines(logging.Formatter):
    """One line for a person; the fields that it names are in its message."""

    def __init__(self, worker: int | None = None) -> None:
        by = "" if worker is None else f" worker {worker}"
        super().__init__(f"%(asctime)s %(levelname)s %(name)s{by}: %(message)s")


def way_to(bug: BaseException) -> str:
    """Where an exception came from: its type and the frames by module, without its message.

    A message may hold a value of a row, and a file's path the name of a user; neither belongs into a log.
    """
    frames = [
        f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(bug.__traceback__)
    ]
    before = bug.__cause__ or (None if bug.__suppress_context__ else bug.__context__)
    after = "" if before is None else f", after {way_to(before)}"
    return f"{type(bug).__name__} at {' > '.join(frames) or '?'}{after}"


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, FIELDS, None)
    return fields if isinstance(fields, Mapping) else {}
