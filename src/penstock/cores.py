"""How many cores this process may use: by its affinity and by the quotas of its control groups."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

from penstock.errors import SettingsError


def cores(*, cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that the scheduler gives this process, at least 1. A quota of 1.5 cores counts as 2.

    Control groups of version 2 (`cpu.max`, here and in every group above) and 1 (`cpu.cfs_quota_us`): docs.kernel.org.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _groups(cgroups, own)]
    return max(1, math.ceil(min([float(count), *[quota for quota in quotas if quota is not None]])))


def workers_of(wanted: int | None) -> int:
    """The workers that `server.workers` means here: None is one a core, or none where there can be no supervisor.

    Raises SettingsError for workers where the system has no sockets that keep the bounds of messages (macOS, Windows).
    """
    is_able = hasattr(socket, "AF_UNIX") and hasattr(socket, "SOCK_SEQPACKET") and hasattr(os, "sched_getaffinity")
    if wanted is None:
        return cores() if is_able else 0
    if wanted and not is_able:
        raise SettingsError(
            f"server.workers is {wanted}, and this system lacks what a supervisor needs (Linux has it): "
            "set server.workers = 0, or leave it out, and one process serves"
        )
    return wanted


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """The folders of this process' control groups and of those above them, as far as they can be seen from here."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    folders = [cgroups, cgroups / "cpu"]
    for _, kinds, path in lines:
        top = cgroups if not kinds else cgroups / kinds if "cpu" in kinds.split(",") else None
        parts = Path(path.lstrip("/")).parts
        if top is not None and ".." not in parts:
            folders += [top.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float | None:
    """The cores that a control group may use; None for no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None
