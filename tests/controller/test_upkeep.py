"""Garbage collection of a home: versions by rule, then files and copies that nothing needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.bundle.bundle import Bundle
from penstock.control.changes import Removed
from penstock.controller.assemble import Plane
from penstock.errors import BundleRefused
from penstock.settings import ModelsSettings
from planes import ANA, plane_of, settings_of
from variants import variant


@pytest.fixture
def plane(tmp_path: Path, bundles: dict[str, Path]) -> Iterator[Plane]:
    """Four versions, of which 2 is champion and 1 was it before; everything old; nothing is kept for its age."""
    models = ModelsSettings(keep_last=1, keep_days=0, kept=0)
    settings = msgspec.structs.replace(settings_of(tmp_path / "home"), models=models)
    with plane_of(settings) as plane:
        for without in range(4):
            plane.control.publish(variant(bundles["iris"], tmp_path, without), ANA)
        plane.control.deploy("iris", 2, ANA)
        age(tmp_path / "home")
        yield plane


def age(home: Path) -> None:
    """Everything below was written two hours ago."""
    past = time.time() - 7200
    for path in (*(home / "repository").rglob("*"), *(home / "bundles").glob("*")):
        os.utime(path, (past, past))


def sealed(plane: Plane, number: int) -> str:
    return plane.control.state().model("iris").versions[number].published.seal


def test_what_nothing_needs_goes(plane: Plane, tmp_path: Path) -> None:
    """Version 3 is neither champion, nor the one before, nor the last: it goes, and what only it needed."""
    gone = sealed(plane, 3)
    copy = plane.repository.local(gone)
    age(tmp_path / "home")
    dry = plane.operations.collect_garbage(ANA, is_dry=True)
    assert ({"iris": [3]}, True, 3) == (dry.versions, dry.is_dry, len(dry.files))
    assert [1, 2, 3, 4] == plane.control.state().model("iris").present
    done = plane.operations.collect_garbage(ANA)
    assert (dry.versions, dry.files, dry.freed_bytes, False) == (
        done.versions,
        done.files,
        done.freed_bytes,
        done.is_dry,
    )
    assert done.freed_bytes > 0
    assert [1, 2, 4] == plane.control.state().model("iris").present
    assert isinstance(plane.control.events()[-1].change, Removed)
    assert not copy.exists()
    for number in (1, 2, 4):
        assert Bundle.open(plane.repository.local(sealed(plane, number)))
    with pytest.raises(BundleRefused):
        plane.repository.local(gone)
    again = plane.operations.collect_garbage(ANA)
    assert ({}, []) == (again.versions, again.files)


def test_a_publish_under_way_loses_nothing(plane: Plane, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Files that were stored just now, whose event is not there yet, are left alone, as are those that they share."""
    name, published = plane.repository.add(variant(bundles["iris"], tmp_path, 9))
    plane.operations.collect_garbage(ANA)
    assert "iris" == name
    assert Bundle.open(plane.repository.local(published.seal))


def test_scratch_of_crashes_goes(plane: Plane, tmp_path: Path) -> None:
    """What a crash left half-written in the repository or among the copies is removed once it is old."""
    draft, scratch = tmp_path / "home" / "repository" / "partial" / "x", tmp_path / "home" / "bundles" / ".x"
    draft.write_bytes(b"half")
    scratch.mkdir(parents=True)
    plane.operations.collect_garbage(ANA)
    assert (True, True) == (draft.exists(), scratch.exists())
    age(tmp_path / "home")
    plane.operations.collect_garbage(ANA)
    assert (False, False) == (draft.exists(), scratch.exists())
