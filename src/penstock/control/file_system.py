"""On what kind of file system a directory lies: SQLite's locks and shared memory do not hold on those of a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from penstock.errors import StateUnavailable

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OF_A_NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
_LOCAL_FUSE: Final = frozenset({"fuse.fuse-overlayfs"})  # the layers of a container without root


def require_local(directory: Path) -> None:
    """Raise StateUnavailable if `directory` lies on a file system of a network, as far as the system says."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # not Linux
    kind = file_system_of(directory, mounts)
    if kind in _OF_A_NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        raise StateUnavailable(
            f"{directory} lies on {kind}, where SQLite's locks do not hold: put the home on a local disk, or the state "
            "in PostgreSQL (`state.url`)"
        )


def file_system_of(path: Path, mounts: str) -> str:
    """The kind of the file system that `path` lies on, by the text of /proc/self/mountinfo; "" if that does not say.

    The form is of proc(5): the fifth field is where it is mounted, the first after " - " its kind.
    """
    found, depth = "", -1
    resolved = path.resolve()
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= depth:  # the last one mounted there is seen
            found, depth = after.split(" ")[0], len(point.parts)
    return found
