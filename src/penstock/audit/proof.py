"""The proof of a whole log: every segment and every sealed file, and that they follow each other without a gap."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from penstock.audit.chain import ChainReport, broken_links, verify
from penstock.audit.erase import ERASURES_FILE, Erasures, unexplained
from penstock.audit.extra import require_audit
from penstock.audit.issued import unwritten
from penstock.audit.pseudonyms import open_pseudonyms
from penstock.audit.sealed import PARQUET, REWRITTEN, SEALED, SealedSegment, Snapshot, name_of, relative, snapshot
from penstock.audit.segment import digest_of

if TYPE_CHECKING:
    from penstock.audit.sealed_chain import SealedChain

_CHAIN: Final = ("penstock.audit.sealed_chain", "chain_of")  # with pyarrow, which nothing else here needs


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a log has. `problems` is empty if it is whole; of the others none is one.

    `dropped` records could not be written, `lost` ones went with a killed process (and the log says so), `gone` ones
    were removed by retention, `torn_bytes` were never acknowledged.
    """

    segments: int
    sealed: int
    records: int
    dropped: int
    lost: int
    gone: int
    torn_bytes: int
    problems: list[str]


def prove(directory: Path, step: Callable[[str], None] = lambda what: None) -> Proof:
    """Read all below `directory` (`<home>/audit`); `step` is told of each file before. Raises SegmentError.

    Of a sealed segment all of whose files are there the chain is computed anew up to its head; of one that has lost
    some to retention the checksums of the others speak. Needs the extra `audit` where anything is sealed: MissingExtra.
    """
    parquet = sorted((directory / SEALED).rglob(f"*{PARQUET}"))  # first: what is sealed since is no stray
    taken = snapshot(directory)
    reports: list[ChainReport] = []
    for path in taken.live:
        step(path.name)
        if path.exists():  # else it was sealed meanwhile, and is whole
            reports.append(verify(path))
    problems = [f"{report.path.name}: {report.broken}" for report in reports if report.broken is not None]
    erasures = _erasures(directory)
    if taken.sealed:
        require_audit("proving what is sealed")
    if any(report.erased for report in reports):
        problems += unexplained(directory, reports, open_pseudonyms(directory.parent))
    for entry in taken.sealed:
        step(entry.name)
        problems += _changed(directory, entry, erasures)
    problems += _strays(taken, parquet)
    reports = [*(_report_of(directory, entry) for entry in taken.sealed), *reports]
    problems += broken_links(reports)
    waiting = [each for each in unwritten(directory, reports) if not each.is_alive]
    return Proof(
        segments=len(reports),
        sealed=len(taken.sealed),
        records=sum(report.records for report in reports),
        dropped=sum(report.dropped for report in reports) + sum(each.dropped for each in waiting),
        lost=sum(report.lost for report in reports) + sum(each.records for each in waiting),
        gone=sum(file.records for entry in taken.sealed for file in entry.files if file.gone is not None),
        torn_bytes=sum(report.torn_bytes for report in reports),
        problems=problems,
    )


def _strays(taken: Snapshot, parquet: Iterable[Path]) -> Iterator[str]:
    """Sealed files of segments of which there is nothing else: one sentence for each."""
    live = {name_of(relative(taken.directory, path)) for path in taken.live}
    explained = live | {entry.name for entry in taken.sealed}
    for path in parquet:
        if path.stem.partition(REWRITTEN)[0] not in explained:
            yield f"{relative(taken.directory, path)}: Expected an entry of the index for it, it is missing: restore it"


def _changed(directory: Path, entry: SealedSegment, erasures: Mapping[str, frozenset[int]]) -> Iterator[str]:
    """What is not as the index says of a sealed segment: one sentence for each file."""
    if sum(file.records for file in entry.files) != entry.records:
        yield f"{entry.name}: Expected {entry.records} records in its files, the index counts others: it was changed"
    whole = 0
    for file in entry.files:
        if file.gone is not None:
            continue
        try:
            digest = digest_of(directory / file.path)
        except FileNotFoundError:
            yield f"{file.path}: Expected {file.records} sealed records, the file is missing: restore it from a backup"
            continue
        if digest != file.sha256:
            yield f"{file.path}: Expected SHA-256 {file.sha256}, got {digest}: it was changed; restore it from a backup"
            continue
        whole += 1
    if whole == len(entry.files):
        chain: SealedChain = getattr(importlib.import_module(_CHAIN[0]), _CHAIN[1])(directory, entry)
        if chain.broken is not None:
            yield f"{entry.name}: {chain.broken}"
        unsaid = chain.erased - erasures.get(entry.name, frozenset())
        if unsaid:
            yield f"{entry.name}: {len(unsaid)} payloads are gone, and no erasure is noted"


def _erasures(directory: Path) -> dict[str, frozenset[int]]:
    """By segment the numbers of the records whose payload was erased, before it was sealed or after."""
    found: dict[str, frozenset[int]] = {}
    if (directory / ERASURES_FILE).exists():
        for event in Erasures(directory, open_pseudonyms(directory.parent)).entries():
            is_sealed = event.file.startswith(f"{SEALED}/")
            name = Path(event.file).stem.partition(REWRITTEN)[0] if is_sealed else name_of(event.file)
            found[name] = found.get(name, frozenset()) | frozenset(event.seqs)
    return found


def _report_of(directory: Path, entry: SealedSegment) -> ChainReport:
    return ChainReport(
        path=directory / entry.segment,
        header=entry.header,
        records=entry.records,
        first=entry.first,
        last=entry.last,
        dropped=entry.dropped,
        lost=entry.lost,
        erased=0,
        next=entry.next,
        head=entry.head,
        good_bytes=entry.size_bytes,
        torn_bytes=0,
        broken=None,
    )
