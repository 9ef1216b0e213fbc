"""The repository of bundles: on a directory, on filesystems of fsspec's, and on an S3 server."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec
import pytest

from loads import wait_for
from penstock.bundle.bundle import Bundle
from penstock.control.changes import Lineage, Published
from penstock.control.files import GRACE_S
from penstock.control.remote_files import RemoteFiles
from penstock.control.repository import Repository
from penstock.errors import BundleRefused, MissingExtra, RepositoryUnavailable, SettingsError
from s3 import S3, s3_server
from variants import variant

KINDS = ("directory", "file", "memory", "s3")
NEAR = pytest.mark.parametrize("url", KINDS[:-1], indirect=True)
PUBLISHING = """
import sys
from pathlib import Path
from penstock.control.repository import Repository
for number in range(10**6):
    Repository(f"{sys.argv[1]}/{number}", home=Path(sys.argv[1])).add(Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture
def s3_bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty repository of each kind; `file` is fsspec's own local filesystem, which is no object store."""
    if request.param == "s3":
        yield request.getfixturevalue("s3_bucket")
        return
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
    yield {
        "directory": str(tmp_path / "store"),
        "file": f"local://{tmp_path / 'store'}",
        "memory": "memory://penstock/bundles",
    }[request.param]


@pytest.fixture
def repository(url: str, tmp_path: Path) -> Repository:
    return Repository(url, home=tmp_path / "home")


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def names_in(repository: Repository) -> list[str]:
    """Everything in the store."""
    store = repository._files
    return sorted(name for folder in ("bundles", "files", "partial") for name in store.sizes(folder))


def blob_of(bundle: Path, file: str) -> str:
    digest = Bundle.open(bundle).manifest.files[file].sha256.removeprefix("sha256:")
    return f"files/{digest[:2]}/{digest}"


def test_what_is_added_comes_back_byte_for_byte(repository: Repository, bundles: dict[str, Path]) -> None:
    """A bundle lies on this machine as it was sealed, fetched by the digest of its manifest."""
    name, published = repository.add(bundles["iris"])
    assert ("iris", 0, "onnx") == (name, published.version, published.flavour)
    assert files_of(bundles["iris"]) == files_of(repository.local(published.seal))


@NEAR
def test_adding_twice_changes_nothing(repository: Repository, bundles: dict[str, Path], tmp_path: Path) -> None:
    """The same bundle, as a directory and as an archive of the same seal, is stored once."""
    first = repository.add(bundles["iris"])
    names = names_in(repository)
    assert first == repository.add(bundles["iris"])
    assert names == names_in(repository)


@NEAR
def test_versions_share_their_files(repository: Repository, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Another version of the same model adds what differs: its golden rows and its list."""
    repository.add(bundles["iris"])
    before = set(names_in(repository))
    repository.add(variant(bundles["iris"], tmp_path, 1))
    assert 2 == len(set(names_in(repository)) - before)


def test_a_changed_byte_in_the_repository_is_named(repository: Repository, bundles: dict[str, Path]) -> None:
    """A file that is not what was published is never given out; the message names it, and says what to do."""
    _, published = repository.add(bundles["iris"])
    blob = blob_of(bundles["iris"], "outputs.json")
    data = repository._files.read(blob)
    assert data is not None
    repository._files.write(blob, data[:-1] + b"?")
    with pytest.raises(BundleRefused, match=r"outputs\.json: the manifest says .* publish the bundle again"):
        repository.local(published.seal)


def test_a_lost_file_is_named(repository: Repository, bundles: dict[str, Path]) -> None:
    """A file that is gone from the repository is named, and publishing the bundle again mends it."""
    _, published = repository.add(bundles["iris"])
    repository._files.remove(blob_of(bundles["iris"], "outputs.json"))
    with pytest.raises(BundleRefused, match=r"outputs\.json: the repository has lost"):
        repository.local(published.seal)
    repository.add(bundles["iris"])
    assert files_of(bundles["iris"]) == files_of(repository.local(published.seal))


@NEAR
def test_an_unknown_seal_is_refused(repository: Repository) -> None:
    """What was never published is not there; what is no digest never becomes a path."""
    with pytest.raises(BundleRefused, match="the repository has no bundle"):
        repository.local("sha256:" + "0" * 64)
    with pytest.raises(BundleRefused, match="is no digest"):
        repository.local("sha256:../../etc/passwd")


@NEAR
def test_a_half_written_file_is_written_again(repository: Repository, bundles: dict[str, Path]) -> None:
    """A file of another size than stated is none: the next publish replaces it."""
    repository._files.write(blob_of(bundles["iris"], "model.onnx"), b"half")
    _, published = repository.add(bundles["iris"])
    assert files_of(bundles["iris"]) == files_of(repository.local(published.seal))


@pytest.mark.parametrize("url", ["directory", "file", "s3"], indirect=True)  # fsspec's memory is no place for threads
def test_two_writers_at_once(url: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Several publishers and readers of the same bundle all end with the same, and leave nothing else."""
    several = [Repository(url, home=tmp_path / f"home-{one}") for one in range(4)]
    seals: list[str] = []

    def add(repository: Repository) -> None:
        _, published = repository.add(bundles["iris"])
        repository.local(published.seal)
        seals.append(published.seal)

    threads = [threading.Thread(target=add, args=(one,)) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 == len(seals) and 1 == len(set(seals))
    alone = Repository(None, home=tmp_path / "alone")
    alone.add(bundles["iris"])
    assert names_in(alone) == names_in(several[0])


def test_garbage_is_what_nothing_refers_to(
    repository: Repository, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old files that no given bundle needs are named and removed; shared ones, and what others need, stay."""
    _, old = repository.add(bundles["iris"])
    _, new = repository.add(variant(bundles["iris"], tmp_path, 1))
    repository.local(old.seal), repository.local(new.seal)
    assert [] == repository.leftovers({new.seal})
    age(repository, tmp_path / "home", monkeypatch)
    found = repository.leftovers({new.seal})
    assert 3 == len(found)  # the golden rows, the list, and the copy
    repository.discard(found)
    assert [] == repository.leftovers({new.seal})
    assert repository.local(new.seal).is_dir()
    with pytest.raises(BundleRefused):
        repository.local(old.seal)


def test_a_publish_takes_up_what_was_garbage(
    repository: Repository, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is found to be garbage and is published again before it is removed stays."""
    _, published = repository.add(bundles["iris"])
    age(repository, tmp_path / "home", monkeypatch)
    found = repository.leftovers(())
    monkeypatch.undo()
    repository.add(bundles["iris"])
    repository.discard(found)
    assert files_of(bundles["iris"]) == files_of(repository.local(published.seal))


@NEAR
def test_garbage_is_not_collected_where_a_bundle_is_lost(repository: Repository, bundles: dict[str, Path]) -> None:
    """What a version needs must be known before anything is called garbage."""
    with pytest.raises(BundleRefused, match="the repository has no bundle"):
        repository.leftovers({"sha256:" + "0" * 64})


def age(repository: Repository, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything that is there older than the grace: files by their times, others by what the store says."""
    past = time.time() - 2 * GRACE_S
    store = repository._files
    if isinstance(store, RemoteFiles):
        said = RemoteFiles.age_s
        monkeypatch.setattr(
            RemoteFiles,
            "age_s",
            lambda self, name: None if (age_s := said(self, name)) is None else age_s + 2 * GRACE_S,
        )
    else:
        for name in names_in(repository):
            os.utime(store._root / name, (past, past))
    for path in (home / "bundles").glob("*"):
        os.utime(path, (past, past))


def test_a_published_version_says_what_its_bundle_says(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Size, flavour, metrics (the measured ones before the stated), evaluation set and lineage are of the bundle."""
    evaluation = (
        b'{"metrics": {"roc_auc": 0.9}, "stated": {"roc_auc": 0.8, "profit": 12.5}, "evaluation_set": "sha256:e"}'
    )
    provenance = {
        "packed_by": "ann@desk",
        "model_class": "x",
        "sample_rows": 1,
        "sample_digest": "sha256:s",
        "git_commit": "abc+",
        "mlflow_run": "run1",
        "dvc": {"md5": "d41d8", "path": "data.csv"},
    }
    path = variant(
        bundles["iris"], tmp_path, evaluation__json=evaluation, provenance__json=msgspec.json.encode(provenance)
    )
    bundle = Bundle.open(path)
    _, published = Repository(None, home=tmp_path / "home").add(path)
    assert (
        Published(
            version=0,
            digest=bundle.manifest.content_digest,
            seal=published.seal,
            size_bytes=sum(len(data) for data in bundle.files.values()),
            flavour="onnx",
            metrics={"roc_auc": 0.9, "profit": 12.5},
            evaluation_set="sha256:e",
            lineage=Lineage(
                packed_by="ann@desk",
                created_at=bundle.manifest.created_at,
                git_commit="abc+",
                mlflow_run="run1",
                dvc_md5="d41d8",
                dvc_path="data.csv",
            ),
        )
        == published
    )


def test_an_archive_is_added_as_its_directory_is(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A `.penstock` file is stored by its files, and lies on this machine as a directory."""
    path = variant(bundles["iris"], tmp_path, is_archive=True)
    repository = Repository(None, home=tmp_path / "home")
    _, published = repository.add(path)
    assert Bundle.open(path).files == Bundle.open(repository.local(published.seal)).files


def test_copies_are_links_where_they_can_be(bundles: dict[str, Path], tmp_path: Path) -> None:
    """On one filesystem a copy costs no room, and cannot be written to by accident."""
    repository = Repository(None, home=tmp_path / "home")
    _, published = repository.add(bundles["iris"])
    model = repository.local(published.seal) / "model.onnx"
    assert (2, 0o444) == (model.stat().st_nlink, model.stat().st_mode & 0o777)


def test_a_changed_copy_is_replaced(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A copy that is not what it was is fetched again, in this process and in the next."""
    home = tmp_path / "home"
    for repository in (once := Repository(None, home=home), once, Repository(None, home=home)):
        _, published = repository.add(bundles["iris"])
        model = repository.local(published.seal) / "model.onnx"
        data = model.read_bytes()
        model.unlink()
        model.write_bytes(data[:-1] + b"?")
        assert data == (repository.local(published.seal) / "model.onnx").read_bytes()


def test_a_copy_outlives_the_repository(bundles: dict[str, Path], tmp_path: Path) -> None:
    """With the store away, what lies here already can be loaded, after a restart, too."""
    store = tmp_path / "store"
    _, published = Repository(str(store), home=tmp_path / "home").add(bundles["iris"])
    Repository(str(store), home=tmp_path / "home").local(published.seal)
    store.rename(tmp_path / "away")
    assert Repository(str(store), home=tmp_path / "home").local(published.seal).is_dir()


def test_a_changed_bundle_is_not_added(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Nothing is stored of a bundle with a changed byte."""
    path = variant(bundles["iris"], tmp_path)
    (path / "golden.json").write_bytes(b"{}")
    repository = Repository(None, home=tmp_path / "home")
    with pytest.raises(BundleRefused, match="golden.json"):
        repository.add(path)
    assert [] == names_in(repository)


def test_a_full_disk_leaves_nothing_behind(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room, the error says so, no half file is there, and it works once there is room."""
    repository = Repository(None, home=tmp_path / "home")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as room:
        room.setattr(os, "fsync", full)
        with pytest.raises(RepositoryUnavailable, match=r"cannot write files/.*No space left on device"):
            repository.add(bundles["iris"])
    assert [] == names_in(repository)
    _, published = repository.add(bundles["iris"])
    with monkeypatch.context() as room:
        room.setattr(Path, "write_bytes", lambda path, data: full(0))
        with pytest.raises(RepositoryUnavailable, match=r"cannot be put into .*No space left on device"):
            repository.local(published.seal)
    assert [] == list((tmp_path / "home" / "bundles").iterdir())
    assert repository.local(published.seal).is_dir()


def test_a_store_that_cannot_be_reached_is_told(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A store that refuses is named, with what it was asked for."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RepositoryUnavailable, match=r"file cannot .*Not a directory.*repository\.url"):
        Repository(str(tmp_path / "file"), home=tmp_path / "home").add(bundles["iris"])


def test_urls_that_cannot_be_used() -> None:
    """A protocol that nobody knows is a wrong setting; one whose library is missing names what to install."""
    with pytest.raises(SettingsError, match=r"got 'nosuch://x' - at `repository.url`"):
        Repository("nosuch://x", home=Path("home"))


def test_s3_unreachable(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    """An S3 server that does not answer is RepositoryUnavailable, in seconds."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RepositoryUnavailable, match=r"the repository s3://.* cannot"):
        Repository(s3_bucket, home=tmp_path / "home").add(bundles["iris"])


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs an s3:// repository says which extra has it."""

    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingExtra, match=r"penstock\[s3\]"):
        Repository("s3://bucket", home=Path("home"))


def test_a_killed_publish_leaves_no_half_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    """kill -9 while files are written: each that has its name is whole, and the next publish goes on from there."""
    with subprocess.Popen([sys.executable, "-c", PUBLISHING, str(tmp_path), str(bundles["churn"])]) as process:
        wait_for(lambda: (tmp_path / "2").exists(), "a third repository")
        process.kill()
    for path in tmp_path.glob("*/files/*/*"):
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
    last = max(int(path.name) for path in tmp_path.iterdir())
    repository = Repository(str(tmp_path / str(last)), home=tmp_path / "home")
    _, published = repository.add(bundles["churn"])
    assert files_of(bundles["churn"]) == files_of(repository.local(published.seal))
