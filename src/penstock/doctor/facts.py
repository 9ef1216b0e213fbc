"""The facts that `doctor` judges: this Python, its libraries, the settings, the home directory, the clock, bundles."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.provenance import installed
from penstock.bundle.skew import Skew, skews
from penstock.doctor.requirements import Requirement, own_requirements
from penstock.errors import PenstockError, SettingsError
from penstock.runtime.model import Model
from penstock.settings import Settings, from_environment


class Home(msgspec.Struct, frozen=True):
    """The home directory, or the nearest parent that exists; `newest_s` is the youngest file's time, of the log."""

    path: str
    is_there: bool
    is_writable: bool
    mode: int
    filesystem: str
    free_bytes: int
    newest_s: float


class Checked(msgspec.Struct, frozen=True):
    """A bundle that was opened; `fault` is why it cannot be opened or loaded, None when its golden rows answer."""

    path: str
    flavour: str | None = None
    created_s: float = 0.0
    skews: list[Skew] = []
    fault: str | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot; `settings_fault` is set instead of `settings` when they cannot be read."""

    python: tuple[int, int]
    system: str
    libraries: dict[str, str]
    requirements: list[Requirement]
    settings: Settings | None
    settings_fault: str | None
    home: Home | None
    now_s: float
    bundles: list[Checked]


def look(bundles: Sequence[Path], *, home: str | None = None, file: Path | None = None) -> Facts:
    """The facts of this installation and of `bundles`, each loaded and asked its golden rows. Changes nothing."""
    settings, fault = None, None
    try:
        settings = from_environment(flags={"home": home}, file=file).settings
    except SettingsError as error:
        fault = str(error)
    wanted = own_requirements()
    names = [*(requirement.library for requirement in wanted), "xgboost", "xgboost-cpu"]
    return Facts(
        python=(int(platform.python_version_tuple()[0]), int(platform.python_version_tuple()[1])),
        system=platform.system(),
        libraries=installed(list(dict.fromkeys(names))),
        requirements=wanted,
        settings=settings,
        settings_fault=fault,
        home=None if settings is None else _home(Path(settings.home)),
        now_s=time.time(),
        bundles=[_checked(path, settings or Settings()) for path in bundles],
    )


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the filesystem that holds `path`, by the lines of /proc/mounts; "" when none does."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        place = parts[1].replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), parts[2]
    return kind


def _home(wanted: Path) -> Home:
    there = wanted.resolve()
    while not there.exists():
        there = there.parent
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        mounts = ""
    times = [file.stat().st_mtime for file in wanted.glob("audit/worker-*/*.jsonl")] if wanted.is_dir() else []
    return Home(
        path=str(wanted),
        is_there=wanted.is_dir(),
        is_writable=os.access(there, os.W_OK | os.X_OK) and there.is_dir(),
        mode=there.stat().st_mode & 0o7777,
        filesystem=filesystem_of(there, mounts),
        free_bytes=shutil.disk_usage(there).free,
        newest_s=max(times, default=0.0),
    )


def _checked(path: Path, settings: Settings) -> Checked:
    needed: list[Skew] = []
    try:
        bundle = Bundle.open(path)
        needed = skews(bundle)
        flavour, made_s = bundle.flavour, datetime.fromisoformat(bundle.manifest.created_at).timestamp()
    except (PenstockError, OSError, ValueError) as error:
        return Checked(str(path), fault=str(error))
    fault = None
    if not any(skew.here is None for skew in needed):
        try:
            Model.load(bundle, trusted=settings.sklearn.trusted, allow_version_skew=True)
        except PenstockError as error:
            fault = str(error)
    return Checked(str(path), flavour, made_s, needed, fault)
