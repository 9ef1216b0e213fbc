"""How many cores there are to use: the affinity, and the quotas of all control groups above."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.cores import cores, workers_of

HERE = len(os.sched_getaffinity(0))


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own"
    path.write_text(text)
    return path


def test_without_control_groups(tmp_path: Path) -> None:
    """Where nothing is said of quotas, the affinity counts."""
    assert HERE == cores(cgroups=tmp_path / "none", own=tmp_path / "none")


QUOTAS = [
    ("50000 100000", "max", 1),
    ("max", "100000 100000", 1),
    ("max", "max", HERE),
    ("99900000 100000", "max", HERE),
]


@pytest.mark.parametrize(("here", "above", "expected"), QUOTAS)
def test_version_2(tmp_path: Path, here: str, above: str, expected: int) -> None:
    """The least quota of the own group and those above it counts, rounded up, and never more than the affinity."""
    group = tmp_path / "system.slice" / "penstock.service"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{here}\n" if here != "max" else "max 100000\n")
    (group.parent / "cpu.max").write_text(f"{above}\n" if above != "max" else "max 100000\n")
    assert expected == cores(cgroups=tmp_path, own=own(tmp_path, "0::/system.slice/penstock.service\n"))


def test_version_1(tmp_path: Path) -> None:
    """The older layout has quota and period in files of their own; -1 is none."""
    group = tmp_path / "cpu,cpuacct" / "docker" / "x"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    lines = own(tmp_path, "7:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    assert 1 == cores(cgroups=tmp_path, own=lines)
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert HERE == cores(cgroups=tmp_path, own=lines)


def test_the_workers_that_a_setting_means() -> None:
    """None is one a core; what is said is taken as said."""
    assert (cores(), 0, 3) == (workers_of(None), workers_of(0), workers_of(3))
