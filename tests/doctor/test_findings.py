"""What the doctor finds, each with its mend: on facts made for it, and on a real installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.bundle.skew import Skew
from penstock.doctor.facts import Checked, Facts, Home, filesystem_of, look
from penstock.doctor.findings import findings_of
from penstock.doctor.requirements import Requirement, requirements_of
from penstock.settings import AuditSettings, NativeSettings, ServerSettings, Settings, SklearnSettings

STRICT = Settings(audit=AuditSettings(durability="strict"))
HOME = Home("/srv/penstock", True, True, 0o700, "ext4", 500 << 30, 900.0)
SOUND = Facts(
    python=(3, 11), system="Linux", libraries={"numpy": "2.4.6"}, requirements=[Requirement("numpy", ">=2.2,<3", None)],
    settings=STRICT, settings_fault=None, home=HOME, now_s=1000.0, bundles=[],
)  # fmt: skip


def changed(**changes: Any) -> Facts:
    return msgspec.structs.replace(SOUND, **changes)


def home(**changes: Any) -> Facts:
    return changed(home=msgspec.structs.replace(HOME, **changes))


def with_settings(**sections: Any) -> Facts:
    return changed(settings=msgspec.structs.replace(STRICT, **sections))


def bundle(**options: Any) -> Facts:
    return changed(bundles=[Checked("b", "native", 900.0, **options)])


def test_a_sound_installation_has_nothing_to_mend() -> None:
    """No finding at all."""
    assert [] == findings_of(SOUND)


@pytest.mark.parametrize(
    ("facts", "degree", "words"),
    [
        (changed(python=(3, 10)), "problem", "Python 3.10"),
        (changed(system="Windows"), "problem", "Windows"),
        (changed(system="Darwin"), "note", "macOS"),
        (changed(libraries={}), "problem", "numpy is not installed"),
        (changed(libraries={"numpy": "3.0.1"}), "problem", "numpy 3.0.1; penstock is tested with >=2.2,<3"),
        (
            changed(requirements=[Requirement("numpy", "<2", "pack")]),
            "weak",
            "numpy 2.4.6; penstock[pack] is tested with <2",
        ),
        (
            changed(libraries={"numpy": "2.4", "xgboost": "3.2", "xgboost-cpu": "3.2"}),
            "problem",
            "xgboost and xgboost-cpu are both installed",
        ),
        (changed(settings=None, settings_fault="Expected x"), "problem", "Expected x"),
        (with_settings(server=ServerSettings(host="0.0.0.0")), "problem", "there is no authentication"),
        (with_settings(server=ServerSettings(insecure=True)), "weak", "server.insecure"),
        (with_settings(server=ServerSettings(cors_origins=("http://a.example",))), "weak", "http://a.example"),
        (with_settings(audit=AuditSettings()), "note", "audit.durability is write"),
        (with_settings(audit=AuditSettings(durability="off")), "weak", "audit.durability is off"),
        (with_settings(sklearn=SklearnSettings(trusted=("a.B",))), "weak", "a.B"),
        (with_settings(native=NativeSettings(allow_version_skew=True)), "weak", "allow_version_skew"),
        (home(is_writable=False), "problem", "cannot be written"),
        (home(filesystem="nfs4"), "problem", "network filesystem (nfs4)"),
        (home(filesystem="fuse.sshfs"), "problem", "fuse.sshfs"),
        (home(mode=0o777), "weak", "every user may write there"),
        (home(mode=0o755), "weak", "every user may read the records"),
        (home(free_bytes=1 << 20), "problem", "records will soon not be written"),
        (home(free_bytes=1_200 << 20), "weak", "fewer than 10 segments"),
        (home(newest_s=2000.0), "problem", "the newest record was written 1,000 s in this clock's future"),
        (changed(bundles=[Checked("b", "onnx", 5000.0)]), "problem", "packed 4,000 s in this clock's future"),
        (bundle(fault="golden row 1: differs"), "problem", "golden row 1: differs"),
        (bundle(skews=[Skew("lightgbm", "4.7", None)]), "problem", "needs lightgbm, which is not installed"),
        (bundle(skews=[Skew("scikit-learn", "1.8.0", "1.9.1")]), "problem", "another minor version"),
        (bundle(skews=[Skew("scikit-learn", "1.9.0", "1.9.1")]), "note", "its golden rows decide"),
    ],
)  # fmt: skip
def test_each_fault_is_found_with_its_mend(facts: Facts, degree: str, words: str) -> None:
    """One finding, of the right degree, that says what is wrong and what to do."""
    [finding] = findings_of(facts)
    assert (degree, True) == (finding.degree, words in finding.what), finding
    assert finding.mend


def test_a_skew_that_is_allowed_is_weak() -> None:
    """With the setting, another minor version is no problem any more."""
    allowed = msgspec.structs.replace(STRICT, native=NativeSettings(allow_version_skew=True))
    facts = changed(settings=allowed, bundles=[Checked("b", "native", 0.0, [Skew("scikit-learn", "1.8", "1.9")])])
    assert {"weak"} == {finding.degree for finding in findings_of(facts)}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/srv/data/x", "nfs4"), ("/srv/other", "ext4"), ("/with space/x", "cifs"), ("/srv/database", "ext4")],
)
def test_filesystems(path: str, expected: str) -> None:
    """The longest mount point that holds the path decides."""
    mounts = "/dev/a / ext4 rw 0 0\nhost:/x /srv/data nfs4 rw 0 0\n//h/y /with\\040space cifs rw 0 0\nodd\n"
    assert expected == filesystem_of(Path(path), mounts)


def test_requirements_are_read() -> None:
    """Names, ranges and extras; those of developing, of this package and of other platforms are left out."""
    lines = ["numpy<3,>=2.2", "pandas<3,>=2.3; extra == 'sklearn'",
             'penstock[pack]; extra == "bench"', "ruff; extra == 'dev'",
             "uvloop>=0.22; sys_platform != 'win32'", "httptools"]  # fmt: skip
    found = requirements_of(lines)
    assert [("numpy", None), ("pandas", "sklearn"), ("httptools", None)] == [(r.library, r.extra) for r in found]
    assert (True, False, True) == (found[0].takes("2.4.6rc1"), found[0].takes("3.0"), found[2].takes("1"))
    assert (False, True) == (found[1].takes("2.2.9"), found[1].takes("2.3"))


def test_a_real_installation(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The command: sound bundles exit 0, one that was touched exits 1 and is named, in tables and in JSON."""
    (tmp_path / "home").mkdir(mode=0o700)
    touched = tmp_path / "touched"
    touched.mkdir()
    for file in bundles["iris"].iterdir():
        (touched / file.name).write_bytes(file.read_bytes())
    (touched / "golden.json").write_text("{}")
    line = [sys.executable, "-m", "penstock", "doctor", "--home", str(tmp_path / "home")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [*line, str(bundles["iris"]), str(touched), "--json"], capture_output=True, text=True, cwd=tmp_path, env=clean
    )
    answer = json.loads(done.stdout)
    assert (1, False) == (done.returncode, answer["ok"]), done.stderr
    [problem] = [found for found in answer["findings"] if found["degree"] == "problem"]
    assert ("golden.json" in problem["what"], str(touched) in problem["where"]) == (True, True)
    facts = look([bundles["iris"], bundles["growth"]], home=str(tmp_path / "home"))
    assert [None, None] == [checked.fault for checked in facts.bundles]
    assert ["scikit-learn"] == [skew.library for skew in facts.bundles[1].skews]
    assert facts.home is not None and facts.home.is_writable and abs(facts.now_s - time.time()) < 3600
