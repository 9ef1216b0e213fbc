"""Sets up the log lines of this process: on stderr, and in a file where the settings name one."""

from __future__ import annotations

import logging
from pathlib import Path

from penstock.errors import SettingsError
from penstock.settings import LogSettings
from penstock.telemetry.log_file import RotatedLines
from penstock.telemetry.log_lines import JsonLines, TextLines


def set_up_logs(settings: LogSettings, worker: int | None = None) -> None:
    """Send the log lines of this process, which is `worker`, where the settings say.

    Raises SettingsError when the file cannot be written.
    """
    stderr = logging.StreamHandler()
    stderr.setFormatter(JsonLines(worker) if settings.format == "json" else TextLines(worker))
    targets: list[logging.Handler] = [stderr]
    if settings.file is not None:
        targets.append(_file(settings, settings.file, worker))
    logging.basicConfig(level=settings.level.upper(), handlers=targets)


def _file(settings: LogSettings, path: str, worker: int | None) -> RotatedLines:
    try:
        file = RotatedLines(Path(path).absolute(), max_bytes=settings.max_bytes, backups=settings.backups)
    except OSError as error:
        raise SettingsError(
            f"Expected a file that can be written, got {path!r} - at `log.file`: {error.strerror}. "
            f"Make its directory, or give another path."
        ) from error
    file.setFormatter(JsonLines(worker))
    return file
