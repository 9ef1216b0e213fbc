"""Facts judged: what is wrong or weak, and the mend. Pure; `facts.py` gathers what is judged here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.address import is_loopback
from penstock.doctor.facts import Checked, Facts, Home
from penstock.doctor.requirements import Requirement
from penstock.settings import Settings

Degree: TypeAlias = Literal["problem", "weak", "note"]

_OLDEST_PYTHON: Final = (3, 11)
_NETWORKED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "beegfs", "gpfs"}
)
_LEAST_FREE_BYTES: Final = 1 << 30
_ROOMY_SEGMENTS: Final = 10
_LATE_S: Final = 300.0


class Finding(msgspec.Struct, frozen=True):
    """One thing to mend. `problem`: it does not work, or answers may be lost; `weak`: it works, and should not be so
    in production; `note`: good to know.
    """

    degree: Degree
    where: str
    what: str
    mend: str


def findings_of(facts: Facts) -> list[Finding]:
    """Everything that is to be mended, the worst first."""
    found = [*_of_python(facts), *_of_libraries(facts), *_of_clock(facts)]
    if facts.settings_fault is not None:
        found.append(Finding("problem", "settings", facts.settings_fault, "Correct the settings"))
    if facts.settings is not None:
        found += _of_settings(facts.settings)
        found += _of_home(facts.home, facts.settings) if facts.home is not None else []
    for bundle in facts.bundles:
        found += _of_bundle(bundle, facts)
    order = {"problem": 0, "weak": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.degree])


def _of_python(facts: Facts) -> Iterator[Finding]:
    if facts.python < _OLDEST_PYTHON:
        here = ".".join(map(str, facts.python))
        yield Finding("problem", "python", f"Python {here}; Penstock needs 3.11 or newer", "Install a newer Python")
    if facts.system == "Windows":
        yield Finding("problem", "python", "the server does not run on Windows", "Serve on Linux; pack and call here")
    if facts.system == "Darwin":
        yield Finding("note", "python", "on macOS the server runs one worker", "Serve on Linux in production")


def _of_libraries(facts: Facts) -> Iterator[Finding]:
    if {"xgboost", "xgboost-cpu"} <= set(facts.libraries):
        mend = "pip uninstall xgboost xgboost-cpu, then install one of them"
        yield Finding(
            "problem", "libraries", "xgboost and xgboost-cpu are both installed: they overwrite each other", mend
        )
    for requirement in facts.requirements:
        yield from _of_requirement(requirement, facts.libraries.get(requirement.library))


def _of_requirement(requirement: Requirement, version: str | None) -> Iterator[Finding]:
    name, extra = requirement.library, requirement.extra
    package = "penstock" if extra is None else f"penstock[{extra}]"
    mend = f"pip install '{package}' in an environment of its own, with constraints.txt"
    if version is None:
        if extra is None:
            yield Finding("problem", "libraries", f"{name} is not installed, and everything needs it", mend)
    elif not requirement.takes(version):
        degree: Degree = "problem" if extra is None else "weak"
        what = f"{name} {version}; {package} is tested with {requirement.bounds}"
        yield Finding(degree, "libraries", what, mend)


def _of_settings(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if not is_loopback(server.host) and not server.insecure:
        what = f"server.host {server.host} is reachable by others, and there is no authentication: serve will refuse"
        yield Finding("problem", "settings", what, "Listen on 127.0.0.1 behind a proxy that authenticates")
    if server.insecure:
        what = f"server.insecure: whoever reaches {server.host}:{server.port} may call every model"
        yield Finding("weak", "settings", what, "Remove it, and listen on 127.0.0.1 behind a proxy that authenticates")
    for origin in server.cors_origins:
        if origin.startswith("http://"):
            what = f"server.cors_origins has {origin}, which anyone on the way can speak for"
            yield Finding("weak", "settings", what, "Name https origins only")
    yield from _of_durability(settings.audit.durability)
    if settings.sklearn.trusted:
        what = f"sklearn.trusted lets bundles load {', '.join(settings.sklearn.trusted[:3])}"
        yield Finding("weak", "settings", what, "Keep only types whose code you have read")
    if settings.native.allow_version_skew:
        what = "native.allow_version_skew: native bundles run on other versions of their library than at packing"
        yield Finding("weak", "settings", what, "Install the versions of packing, and remove it")


def _of_durability(durability: str) -> Iterator[Finding]:
    mend = "Set audit.durability = strict (or fsync) where every answer must be on record"
    if durability == "off":
        yield Finding("weak", "settings", "audit.durability is off: no answer is on record", mend)
    elif durability in ("async", "write"):
        what = f"audit.durability is {durability}: when a record cannot be written, the answer leaves without one"
        yield Finding("note", "settings", f"{what} (counted)", mend)


def _of_home(home: Home, settings: Settings) -> Iterator[Finding]:
    where = f"home {home.path}"
    if not home.is_writable:
        yield Finding("problem", where, "it cannot be written", "Give this user the directory, or set home")
    if home.filesystem in _NETWORKED or home.filesystem.startswith("fuse."):
        what = f"it is on a network filesystem ({home.filesystem}), where a write may be lost or late"
        yield Finding("problem", where, what, "Put home on a local disk")
    if home.is_there and home.mode & 0o002:
        yield Finding("weak", where, "every user may write there, the log included", f"chmod 700 {home.path}")
    elif home.is_there and home.mode & 0o004:
        what = "every user may read the records, which hold callers' rows"
        yield Finding("weak", where, what, f"chmod 700 {home.path}")
    free = f"{home.free_bytes / 1e9:.1f} GB are free"
    if home.free_bytes < _LEAST_FREE_BYTES:
        yield Finding("problem", where, f"{free}: records will soon not be written", "Free space, or move home")
    elif home.free_bytes < _ROOMY_SEGMENTS * settings.audit.segment_bytes:
        what = f"{free}: fewer than {_ROOMY_SEGMENTS} segments of the log"
        yield Finding("weak", where, what, "Free space, or move home")


def _of_clock(facts: Facts) -> Iterator[Finding]:
    newest = max([bundle.created_s for bundle in facts.bundles], default=0.0)
    mend = "Set the clock, by NTP: records are ordered by it"
    if newest > facts.now_s + _LATE_S:
        what = f"a bundle was packed {newest - facts.now_s:,.0f} s in this clock's future"
        yield Finding("problem", "clock", what, mend)
    if facts.home is not None and facts.home.newest_s > facts.now_s + _LATE_S:
        what = f"the newest record was written {facts.home.newest_s - facts.now_s:,.0f} s in this clock's future"
        yield Finding("problem", "clock", what, mend)


def _of_bundle(bundle: Checked, facts: Facts) -> Iterator[Finding]:
    where = f"bundle {bundle.path}"
    for skew in bundle.skews:
        if skew.here is None:
            what = f"it is native and needs {skew.library}, which is not installed"
            yield Finding("problem", where, what, f"pip install 'penstock[{skew.extra}]'")
        elif skew.is_refused:
            allowed = facts.settings is not None and facts.settings.native.allow_version_skew
            what = f"packed with {skew.library} {skew.packed}, {skew.here} is installed: another minor version"
            yield Finding(
                "weak" if allowed else "problem",
                where,
                what,
                f"pip install {skew.library}=={skew.packed}, or pack again",
            )
        elif skew.packed is not None and skew.packed != skew.here:
            what = f"packed with {skew.library} {skew.packed}, {skew.here} is installed; its golden rows decide"
            yield Finding(
                "note", where, what, f"pip install {skew.library}=={skew.packed} for the same to the last bit"
            )
    if bundle.fault is not None:
        yield Finding("problem", where, bundle.fault, "Copy the bundle again from where it was packed, or pack again")
