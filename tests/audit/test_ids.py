"""Request ids: UUIDv7 in order, never twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import RequestIds


def test_ids_are_uuids_of_version_7_with_the_time() -> None:
    """An id parses as an RFC 9562 UUID of version 7 whose first 48 bits are the clock's milliseconds."""
    ids = RequestIds(clock_ns=lambda: 1_795_175_545_123_999_999)
    made = [ids.next() for _ in range(100)]
    parsed = [uuid.UUID(text) for text in made]
    assert made == [str(value) for value in parsed]
    assert {(7, uuid.RFC_4122, 1_795_175_545_123)} == {(v.version, v.variant, v.int >> 80) for v in parsed}


@given(st.lists(st.integers(0, 2**47), min_size=2, max_size=50))
def test_ids_ascend_whatever_the_clock_does(times_ms: list[int]) -> None:
    """Ids of one process ascend strictly, also when the clock stands still or jumps back by years."""
    readings: Iterator[int] = iter([ms * 1_000_000 for ms in times_ms])
    ids = RequestIds(clock_ns=lambda: next(readings))
    made = [ids.next() for _ in times_ms]
    assert sorted(set(made)) == made


def test_a_standing_clock_never_runs_out_of_ids() -> None:
    """When the counter of a millisecond is used up, the millisecond is advanced and the order holds."""
    ids = RequestIds(clock_ns=lambda: 5_000_000)
    before = ids.next()
    ids._node = (1 << 48) - 1
    after = ids.next()
    expected_ms = (5, 6)
    assert expected_ms == (uuid.UUID(before).int >> 80, uuid.UUID(after).int >> 80)
    assert before < after


def test_a_forked_child_makes_other_ids() -> None:
    """After a fork, parent and child of the same state and clock make different ids."""
    now_ns = time.time_ns()
    ids = RequestIds(clock_ns=lambda: now_ns)
    ids.next()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, "".join(ids.next() for _ in range(100)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    theirs = {text[at : at + 36] for at in range(0, len(text), 36)}
    mine = {ids.next() for _ in range(100)}
    assert (100, 100, set()) == (len(theirs), len(mine), mine & theirs)


def test_processes_of_one_moment_make_other_ids() -> None:
    """Two processes whose clocks show the same instant share no id."""
    code = """
from penstock.audit import RequestIds
ids = RequestIds(clock_ns=lambda: 7**20)
print(*(ids.next() for _ in range(99)))
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True) for _ in range(2)]
    one, other = (set(run.stdout.split()) for run in runs)
    assert (99, 99, set()) == (len(one), len(other), one & other)
