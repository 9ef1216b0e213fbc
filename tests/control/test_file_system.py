"""The kind of a file system, by the system's list of mounts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from penstock.control import file_system
from penstock.control.file_system import file_system_of, require_local
from penstock.control.sql_store import SqlStore
from penstock.errors import StateUnavailable

MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:30 / /srv rw,relatime shared:1 master:2 - nfs4 server:/export rw
24 23 0:31 / /srv/fast\040disk rw - xfs /dev/vdb rw
25 22 0:32 / /srv2 rw - fuse.sshfs host: rw
26 22 0:33 / /layers rw - fuse.fuse-overlayfs overlay rw
27 22 0:34 / /share rw - ext4 /dev/vdc rw
28 22 0:35 / /share rw - cifs //server/share rw
a line that is not one
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv/home", "nfs4"),
        ("/srv/fast disk/home", "xfs"),
        ("/srv2", "fuse.sshfs"),
        ("/srvother", "ext4"),
        ("/share/x", "cifs"),
    ],
)
def test_the_nearest_mount_counts(path: str, kind: str) -> None:
    """The deepest mount above a path says what it lies on, and of two at one place the later."""
    assert kind == file_system_of(Path(path), MOUNTS)


def test_no_list() -> None:
    """A text that does not say gives nothing."""
    assert "" == file_system_of(Path("/"), "")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A directory on a network's file system is refused, with the two ways out."""
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / / rw - {kind} x rw\n")
    monkeypatch.setattr(file_system, "_MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(StateUnavailable, match=rf"lies on {kind}, .*local disk.*state\.url"):
        require_local(tmp_path)
    with (
        contextlib.closing(SqlStore(None, home=tmp_path / "home")) as store,
        pytest.raises(StateUnavailable, match=kind),
    ):
        store.since(0)
    assert [] == list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("kind", ["ext4", "overlay", "tmpfs", "fuse.fuse-overlayfs"])
def test_a_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Local ones are taken, and whatever a system without such a list has."""
    monkeypatch.setattr(file_system, "_MOUNTS", tmp_path / "mountinfo")
    require_local(tmp_path)
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / / rw - {kind} x rw\n")
    require_local(tmp_path)
