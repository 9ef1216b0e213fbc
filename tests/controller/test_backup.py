"""Backup of a home in use, and restore: the same history, the same bundles, a log that verifies."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from penstock.audit import verify
from penstock.audit.segment import FORMAT, Header, SegmentWriter
from penstock.bundle.bundle import Bundle
from penstock.controller.assemble import Plane
from penstock.controller.backup import back_up, read_backup
from penstock.controller.lock import locked
from penstock.controller.restore import restore
from penstock.errors import BundleRefused, ControlError
from penstock.routing import NOTHING, read_wanted, write_wanted
from penstock.settings import Settings
from planes import ANA, plane_of, settings_of
from variants import variant


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "home")


@pytest.fixture
def plane(settings: Settings) -> Iterator[Plane]:
    with plane_of(settings) as plane:
        yield plane


def take(plane: Plane, settings: Settings, directory: Path) -> Path:
    """A backup of the plane's home at `directory`."""
    back_up(directory, Path(settings.home), plane.store, plane.repository)
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


class Writing:
    """A thread that goes on with something until the block ends."""

    def __init__(self, step: object) -> None:
        self._step = step
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.steps = 0

    def _run(self) -> None:
        assert callable(self._step)
        while not self._is_over.is_set():
            self._step(self.steps)
            self.steps += 1

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def segment(home: Path) -> SegmentWriter:
    """A segment of worker 0 that is being written."""
    (home / "audit" / "worker-0").mkdir(parents=True)
    header = Header(
        format=FORMAT,
        worker=0,
        run="run",
        index=0,
        started=datetime.now(UTC),
        pid=1,
        host="here",
        penstock="0",
        first=1,
    )
    return SegmentWriter(home / "audit" / "worker-0" / "000.jsonl", header)


def test_a_backup_under_load_is_of_one_moment(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """While aliases move, versions come and records are written: what is restored is a whole beginning of it all."""
    home = Path(settings.home)
    for without in range(2):
        plane.operations.publish(variant(bundles["iris"], tmp_path, without), ANA)
    log = segment(home)

    def move(step: int) -> None:
        plane.control.move("iris", "candidate", 1 + step % 2, ANA)
        if step % 10 == 0:
            plane.control.publish(variant(bundles["iris"], tmp_path, 2 + step // 10), ANA)

    def write(step: int) -> None:
        covered = b'{"seq":%d,"padding":"%s"' % (step + 1, b"x" * 5000)
        log.write([covered + b"}\n"], [covered], first=step + 1, last=step + 1)

    with Writing(move), Writing(write):
        backups = [take(plane, settings, tmp_path / f"backup-{number}") for number in range(2)]
    log.close()
    events = plane.control.events()
    for number, backup in enumerate(backups):
        elsewhere = settings_of(tmp_path / f"restored-{number}")
        done = restore(backup, elsewhere)
        with plane_of(elsewhere) as restored:
            assert events[: done.revision] == restored.control.events()
            for version in restored.control.state().model("iris").versions.values():
                assert Bundle.open(restored.repository.local(version.published.seal))
        report = verify(Path(elsewhere.home) / "audit" / "worker-0" / "000.jsonl")
        assert (None, 0) == (report.broken, report.torn_bytes)
    assert verify(home / "audit" / "worker-0" / "000.jsonl").is_intact


def test_what_was_served_is_served_again(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """The restored `routing.json` is the same table, from bundles that lie in the new home."""
    plane.operations.publish(bundles["iris"], ANA)
    before = plane.convergence.decide()
    elsewhere = settings_of(tmp_path / "restored")
    restore(take(plane, settings, tmp_path / "backup"), elsewhere)
    after = read_wanted(Path(elsewhere.home))
    assert (before.table, before.revision) == (after.table, after.revision)
    assert after.path("iris", 1).is_relative_to(Path(elsewhere.home))
    assert Bundle.open(before.path("iris", 1)).files == Bundle.open(after.path("iris", 1)).files


def test_a_backup_shares_no_file_with_the_home(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Its files are copies: what happens to the repository's does not happen to them."""
    plane.operations.publish(bundles["iris"], ANA)
    backup = take(plane, settings, tmp_path / "backup")
    assert {1} == {path.stat().st_nlink for path in backup.rglob("*") if path.is_file()}


def test_what_was_removed_meanwhile_is_not_served(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """A `routing.json` that names a version which the backup has not is left to the next controller."""
    plane.operations.publish(bundles["iris"], ANA)
    wanted = plane.convergence.decide()
    gone = msgspec.structs.replace(wanted, paths={"iris": {1: str(tmp_path / ("0" * 64))}})
    write_wanted(Path(settings.home), gone)
    elsewhere = settings_of(tmp_path / "restored")
    restore(take(plane, settings, tmp_path / "backup"), elsewhere)
    assert NOTHING == read_wanted(Path(elsewhere.home))


def test_a_restored_home_goes_on(plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path) -> None:
    """The next version has the next number, and a backup of the restored home is the same again."""
    plane.operations.publish(bundles["iris"], ANA)
    elsewhere = settings_of(tmp_path / "restored")
    restore(take(plane, settings, tmp_path / "backup"), elsewhere)
    with plane_of(elsewhere) as restored:
        again = take(restored, elsewhere, tmp_path / "again")
        assert tree(tmp_path / "backup" / "bundles") == tree(again / "bundles")
        assert 2 == restored.operations.publish(variant(bundles["iris"], tmp_path, 1), ANA).version


def test_removed_versions_are_history_only(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """The bundle of a removed version is not in the backup; its events are."""
    for without in range(2):
        plane.operations.publish(variant(bundles["iris"], tmp_path, without), ANA)
    plane.control.remove("iris", 2, ANA)
    backup = take(plane, settings, tmp_path / "backup")
    assert 1 == len(list((backup / "bundles").iterdir()))
    assert read_backup(backup).revision == plane.control.state().revision


def test_a_torn_tail_is_cut_and_evidence_is_kept(
    plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Of a write that a crash cut short nothing is copied; a segment that was tampered with is copied as it is."""
    home = Path(settings.home)
    log = segment(home)
    log.write([b'{"seq":1}\n'], [b'{"seq":1'], first=1, last=1)
    log.close()
    path = home / "audit" / "worker-0" / "000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":2}\n{"com')
    (path.parent / "001.jsonl").write_bytes(whole.replace(b'"seq":1', b'"seq":9'))
    backup = take(plane, settings, tmp_path / "backup")
    copies = tree(backup / "audit" / "worker-0")
    assert {"000.jsonl": whole, "001.jsonl": whole.replace(b'"seq":1', b'"seq":9')} == copies


def test_a_backup_needs_a_new_directory(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    """Nothing is overwritten, and a failure leaves nothing."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(ControlError, match="a backup is made in a new directory"):
        take(plane, settings, tmp_path / "taken")
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match=r"no backup at .*(Not a directory|File exists)"):
        take(plane, settings, tmp_path / "file" / "backup")


def test_a_lost_bundle_is_told(plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path) -> None:
    """A version whose files the repository has lost cannot be backed up: that is said, and nothing is left."""
    plane.control.publish(bundles["iris"], ANA)
    shutil.rmtree(Path(settings.home) / "repository" / "files")
    with pytest.raises(BundleRefused, match="the repository has lost"):
        take(plane, settings, tmp_path / "backup")
    assert ["home"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture
def backup(plane: Plane, settings: Settings, bundles: dict[str, Path], tmp_path: Path) -> Path:
    plane.operations.publish(bundles["iris"], ANA)
    return take(plane, settings, tmp_path / "backup")


def test_a_changed_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    """A changed, missing or additional file is named, and the home stays as empty as it was."""
    elsewhere = settings_of(tmp_path / "restored")
    listed = msgspec.json.decode((backup / "backup.json").read_bytes())
    name = next(name for name in listed["files"] if name.endswith("outputs.json"))
    data = (backup / name).read_bytes()
    (backup / name).write_bytes(data + b" ")
    with pytest.raises(ControlError, match=r"outputs\.json is not what was backed up"):
        restore(backup, elsewhere)
    (backup / name).unlink()
    with pytest.raises(ControlError, match=r"outputs\.json is missing"):
        restore(backup, elsewhere)
    (backup / name).write_bytes(data)
    (backup / "more").touch()
    with pytest.raises(ControlError, match="more is not listed"):
        restore(backup, elsewhere)
    assert not Path(elsewhere.home).exists()
    with pytest.raises(ControlError, match="expected a backup"):
        restore(tmp_path, elsewhere)


def test_only_an_empty_home_is_restored_into(backup: Path, settings: Settings, tmp_path: Path) -> None:
    """A home with anything in it is refused by what is there; one that is held, by that."""
    with pytest.raises(ControlError, match=r"expected an empty home .*bundles"):
        restore(backup, settings)
    elsewhere = settings_of(tmp_path / "restored")
    with locked(Path(elsewhere.home)), pytest.raises(ControlError, match="holds the home"):
        restore(backup, elsewhere)
    restore(backup, elsewhere)  # its lock's file is there already


def test_a_restore_that_fails_leaves_the_home_empty(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full half-way nothing of it is left, and it can be restored later."""
    elsewhere = settings_of(tmp_path / "restored")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as room:
        room.setattr(shutil, "copyfile", full)
        with pytest.raises(ControlError, match=r"nothing was restored into .*No space left"):
            restore(backup, elsewhere)
    assert ["control.lock"] == [path.name for path in Path(elsewhere.home).iterdir()]
    restore(backup, elsewhere)
