"""The follower: whatever writers, rotations, kills, sealing and restarts do, every committed record comes once."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.audit import AuditLog, Record, recover
from penstock.audit.follow import Follower, Lag, Reader
from penstock.audit.position import Position
from penstock.audit.readers import Readers
from penstock.audit.retention import Bounds, Retention, retain
from penstock.audit.seal import Sealer
from penstock.audit.sealed_lines import sealed_lines
from penstock.errors import SegmentError
from records import write

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)
Id = tuple[str, int]


class Scene:
    """Workers that write to logs below a directory, and a reader of them that can be started again."""

    def __init__(self, home: Path, segment_bytes: int = 1200) -> None:
        self.audit = home / "audit"
        self.audit.mkdir()
        self.written: list[Id] = []
        self.seen: list[Id] = []
        self._segment_bytes = segment_bytes
        self.runner = asyncio.Runner()
        self._logs: dict[int, AuditLog] = {}
        self._saved: tuple[int, Position] = (0, Position())
        self._numbers = itertools.count()
        self.start()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: object) -> None:
        for log in self._logs.values():
            log.close()
        self.runner.close()

    def write(self, worker: int, records: int = 1, size: int = 1) -> None:
        """One tick of a worker, which is started if need be."""
        log = self._logs.get(worker)
        if log is None:
            log = AuditLog(self.audit, worker=worker, segment_bytes=self._segment_bytes, clock=AT.timestamp)
            self._logs[worker] = log
            log.open(self.runner.get_loop())
        for _ in range(records):
            number = next(self._numbers)
            at = AT + timedelta(seconds=number)
            row = [{"text": "x" * size}]
            record = Record(kind="prediction", request_id=f"id-{number}", at=at, model="m", version=1, input=row)
            self.written.append((log.run, log.append(msgspec.structs.replace(record, digest="d"))))
        log.flush()

    def kill(self, worker: int, torn: bytes = b"") -> None:
        """End a worker with `torn` of a write at the end of its segment."""
        log = self._logs.pop(worker, None)
        if log is not None:
            path = log.path
            log.close()
            with path.open("ab") as file:
                file.write(torn)

    def stop(self) -> None:
        """End all workers."""
        for worker in list(self._logs):
            self.kill(worker)

    def start(self) -> None:
        """A follower anew, at the position that was saved with what had been seen."""
        seen, position = self._saved
        del self.seen[seen:]
        self.follower = Follower(self.audit, sealed_lines=sealed_lines, fresh_s=0.0)
        self.reader = self.follower.reader(Position.from_json(position.as_json()))

    def save(self) -> None:
        self._saved = len(self.seen), self.reader.position
        Readers(self.audit).save("test", self.reader.position)

    def read(self, batches: int = 1_000_000) -> None:
        self.seen += ids_of(self.reader, batches)

    def seal(self, *, is_waiting: bool = True) -> None:
        passed = Readers(self.audit).has_passed if is_waiting else lambda segment: True
        Sealer(self.audit, is_passed=passed).seal()

    def segments(self) -> list[Path]:
        return sorted(self.audit.glob("worker-*/*.jsonl"))


def ids_of(reader: Reader, batches: int = 1_000_000) -> list[Id]:
    """The names of the records that a reader gives in so many batches, or until there are no more."""
    found: list[Id] = []
    for _ in range(batches):
        batch = reader.read()
        if batch is None:
            break
        found += [(batch.run, record.seq) for record in batch.records]
    return found


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(1, 4), st.sampled_from([1, 500])),
    st.tuples(st.just("kill"), st.integers(0, 2), st.sampled_from([b"", b'{"seq":9,', b'{"seq":99}\n{"commit":{"fi'])),
    st.tuples(st.just("read"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["save", "start", "recover", "seal", "stop"])),
)


@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=40), is_waiting=st.booleans())
def test_any_interleaving(steps: list[tuple[object, ...]], is_waiting: bool) -> None:
    """Every committed record comes exactly once, if one counts from the saved positions, and in order within a run."""
    with tempfile.TemporaryDirectory() as home, Scene(Path(home)) as scene:
        for name, *options in steps:
            if name == "recover":
                recover(scene.audit)
            elif name == "seal":
                scene.seal(is_waiting=is_waiting)
            else:
                getattr(scene, str(name))(*options)
        scene.start()
        scene.read()
        assert Counter(scene.written) == Counter(scene.seen)
        for run in {run for run, _ in scene.seen}:
            numbers = [seq for each, seq in scene.seen if each == run]
            assert sorted(numbers) == numbers


def test_decoded_once_for_all(tmp_path: Path) -> None:
    """Readers at the same place share what is decoded; one that comes later decodes again, and gets everything."""
    with Scene(tmp_path, 1 << 30) as scene:
        readers = [scene.follower.reader() for _ in range(3)]
        found: list[list[Id]] = [[], [], []]
        for _ in range(5):
            scene.write(0, 10)
            for reader, seen in zip(readers, found, strict=True):
                seen += ids_of(reader)
        assert [scene.written] * 3 == found
        assert 50 == scene.follower.decoded
        assert scene.written == ids_of(scene.follower.reader())


def test_memory_is_bounded(tmp_path: Path) -> None:
    """However much there is to read, a batch ends after some 256 KiB, and only so many are kept."""
    with Scene(tmp_path, 1 << 30) as scene:
        for _ in range(30):
            scene.write(0, 4, 20_000)
        sizes = [len(scene.reader.read().records) for _ in range(5)]  # type: ignore[union-attr]
        assert max(sizes) <= 24
        scene.write(0, 1, 2_000_000)
        assert len(scene.written) - sum(sizes) == len(ids_of(scene.reader))


def test_runs_go_in_the_order_of_time(tmp_path: Path) -> None:
    """Of several runs the one that is furthest back is read first."""
    with Scene(tmp_path, 1 << 30) as scene:
        for _ in range(4):
            scene.write(0, 300, 1000)
            scene.write(1, 300, 1000)
        runs = [batch.run for batch in iter(scene.reader.read, None)]
        assert len(list(itertools.groupby(runs))) >= 5


def test_a_torn_tail_that_is_written_over(tmp_path: Path) -> None:
    """Half a write is waited for, whatever it becomes: the rest of it, or another write."""
    with Scene(tmp_path, 1 << 30) as scene:
        scene.write(0, 2)
        [path] = scene.segments()
        whole = path.read_bytes()
        scene.write(0, 2)
        full = path.read_bytes()
        for cut in range(len(whole), len(full), 37):
            reader = Follower(scene.audit).reader()
            path.write_bytes(full[:cut])
            assert scene.written[:2] == ids_of(reader)
            path.write_bytes(full)
            assert scene.written[2:] == ids_of(reader)


def test_a_broken_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A write whose bytes were changed is left out, and told; what follows is read."""
    with Scene(tmp_path, 1 << 30) as scene:
        for _ in range(3):
            scene.write(0)
        [path] = scene.segments()
        path.write_bytes(path.read_bytes().replace(b"id-1", b"id-7"))
        assert scene.written[:1] == ids_of(scene.reader)
        assert scene.written[2:] == ids_of(scene.reader)
        assert 1 == scene.follower.broken
        assert "is not what its commit line says; it is left out" in caplog.text


def test_sealed_before_it_was_read(tmp_path: Path) -> None:
    """A reader in the middle of a segment goes on in the Parquet files, batch by batch, once that is all there is."""
    with Scene(tmp_path, 1 << 30) as scene:
        for _ in range(6):
            scene.write(0, 200, 1000)
        scene.read(1)
        scene.stop()
        scene.seal(is_waiting=False)
        assert [] == scene.segments()
        scene.save()
        scene.start()
        scene.read(1)
        assert len(scene.seen) < len(scene.written)
        scene.read()
        assert scene.written == scene.seen
        assert Lag(0, 0.0) == scene.reader.lag()


def test_sealed_without_what_reads_it(tmp_path: Path) -> None:
    """A follower that has nothing to read Parquet with says so."""
    with Scene(tmp_path) as scene:
        scene.write(0)
        scene.stop()
        scene.seal()
        with pytest.raises(SegmentError, match="read it with `sealed_lines`"):
            Follower(scene.audit).reader().read()


def test_records_that_retention_took(tmp_path: Path) -> None:
    """What is gone is passed by, and its run forgotten; a run that comes later is read."""
    with Scene(tmp_path) as scene:
        scene.write(0, 3)
        scene.stop()
        scene.read()
        scene.seal(is_waiting=False)
        retain(scene.audit, Retention(bounds=Bounds(days=0)), AT + timedelta(days=2))
        scene.write(0, 2)
        scene.read()
        assert scene.written == scene.seen
        assert [scene.written[-1][0]] == list(scene.reader.position.marks)


def test_from_the_end(tmp_path: Path) -> None:
    """A reader may begin with what comes next, of runs that are there and of new ones."""
    with Scene(tmp_path) as scene:
        scene.write(0, 5, 500)
        reader = scene.follower.reader(scene.follower.end())
        assert [] == ids_of(reader)
        scene.write(0, 2)
        scene.write(1, 1)
        assert sorted(scene.written[5:]) == sorted(ids_of(reader))


def test_since_a_moment(tmp_path: Path) -> None:
    """Whoever begins at a moment gets all that came since, and passes what nothing was written to since, unread."""
    with Scene(tmp_path, 1 << 30) as scene:
        scene.write(0, 3)
        [path] = scene.segments()
        os.utime(path, (time.time() - 100, time.time() - 100))
        scene.write(1, 2)
        now = datetime.now(UTC)
        scene.write(1, 2)
        scene.write(2, 2)
        assert sorted(scene.written[3:]) == sorted(ids_of(scene.follower.reader(scene.follower.since(now))))
        scene.stop()
        scene.seal(is_waiting=False)
        later = max(now, AT) + timedelta(days=1)
        scene.follower.decoded = 0
        assert [] == ids_of(scene.follower.reader(scene.follower.since(later)))
        assert 0 == scene.follower.decoded


def test_lag(tmp_path: Path) -> None:
    """How far a reader is behind: numbers of records, and the seconds since the last that it has."""
    with Scene(tmp_path) as scene:
        follower = Follower(scene.audit, fresh_s=0.0, clock=lambda: AT.timestamp() + 100)
        reader = follower.reader()
        assert Lag(0, 0.0) == reader.lag()
        scene.write(0, 5)
        ids_of(reader)
        scene.write(0, 3)
        assert Lag(3, 96.0) == reader.lag()
        ids_of(reader)
        assert Lag(0, 0.0) == reader.lag()


def test_sealing_waits_for_registered_readers(tmp_path: Path) -> None:
    """A segment is kept until all have passed it, or have had their time; who is forgotten is not waited for."""
    with Scene(tmp_path) as scene:
        scene.write(0, 3)
        scene.stop()
        [path] = scene.segments()
        segment = path.relative_to(scene.audit).as_posix()
        readers = Readers(scene.audit)
        assert readers.has_passed(segment)
        readers.save("slow", Position())
        end = scene.follower.end()
        readers.save("quick", end)
        assert ["quick", "slow"] == readers.names
        assert not readers.has_passed(segment)
        scene.seal()
        assert [path] == scene.segments()
        scene.read()
        assert scene.written == scene.seen
        assert Readers(scene.audit, held_s=0.0, clock=lambda: path.stat().st_mtime + 1).has_passed(segment)
        readers.save("slow", scene.reader.position)
        assert readers.has_passed(segment)
        readers.save("slow", Position())
        readers.forget("slow")
        assert (None, end) == (readers.position("slow"), readers.position("quick"))
        scene.seal()
        assert [] == scene.segments()
        assert readers.has_passed(segment)


def test_positions_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is none of ours is told, and a name that is no file's is refused."""
    readers = Readers(tmp_path)
    readers.save("a", Position())
    (tmp_path / "readers" / "a.json").write_bytes(b"{")
    with pytest.raises(SegmentError, match="Expected the position of a reader at"):
        readers.position("a")
    write(tmp_path, [])
    [segment] = tmp_path.glob("worker-0/*.jsonl")
    assert not readers.has_passed(segment.relative_to(tmp_path).as_posix())
    with pytest.raises(ValueError, match="Expected a name"):
        readers.save("../a", Position())
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(SegmentError, match="Expected to save the position of a"):
        Readers(tmp_path / "plain").save("a", Position())


def test_batches_as_they_come(tmp_path: Path) -> None:
    """Awaited, a reader gives what is there and what comes later."""

    async def main(scene: Scene) -> list[Id]:
        found: list[Id] = []
        async for batch in scene.reader.batches():
            found += [(batch.run, record.seq) for record in batch.records]
            if len(found) == 4:
                return found
            scene.write(0, 2)
        return found

    with Scene(tmp_path) as scene:
        scene.write(0, 2)
        assert scene.runner.run(main(scene)) == scene.written


def test_random_places(tmp_path: Path) -> None:
    """From every position that a reader ever had another goes on without a gap."""
    chance = random.Random(7)
    with Scene(tmp_path) as scene:
        for _ in range(60):
            scene.write(chance.randrange(3), chance.randint(1, 5), chance.choice([1, 300]))
        reader, seen = scene.follower.reader(), list[Id]()
        places: list[tuple[int, Position]] = []
        while True:
            places.append((len(seen), reader.position))
            found = ids_of(reader, 1)
            if not found:
                break
            seen += found
        assert sorted(scene.written) == sorted(seen)
        for count, place in places:
            rest = ids_of(Follower(scene.audit).reader(place))
            assert sorted(seen[count:]) == sorted(rest)
        assert 0o600 == scene.segments()[0].stat().st_mode & 0o777
