"""Bundles on disk: what is written opens again, and what was touched is refused by name."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.bundle.bundle import Bundle
from penstock.bundle.golden import Golden
from penstock.bundle.manifest import seal_of
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.source import write_archive
from penstock.bundle.write import Identity, sealed, write_bundle
from penstock.errors import BundleRefused
from penstock.schema import Field, Schema
from penstock.schema.yaml_form import schema_to_yaml

IDENTITY = Identity("churn", "onnx", "onnx", "model.onnx")
SCHEMA = Schema(fields=(Field(name="age", type="int"), Field(name="年龄", type="float", nullable=True)))


def parts(model: bytes = b"a model", **more: bytes) -> dict[str, bytes]:
    return {
        "model.onnx": model,
        "schema.yaml": schema_to_yaml(SCHEMA).encode(),
        "outputs.json": msgspec.json.encode(OutputSpec(kind="regression")),
        "golden.json": msgspec.json.encode(Golden([{"age": 3, "年龄": None}], {"value": [1.5]})),
        **more,
    }


@pytest.fixture(params=[False, True], ids=["directory", "archive"])
def is_archive(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def written(tmp_path: Path, files: dict[str, bytes], *, is_archive: bool = False) -> Path:
    return write_bundle(sealed(IDENTITY, files), tmp_path, "churn", is_archive=is_archive)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    model=st.binary(max_size=300),
    more=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}\.json", fullmatch=True), st.binary(max_size=50)),
)
def test_a_bundle_round_trips(tmp_path: Path, is_archive: bool, model: bytes, more: dict[str, bytes]) -> None:
    """Whatever bytes its files have, an opened bundle gives back exactly those, and what they say."""
    files = {**more, **parts(model)}
    bundle = Bundle.open(written(tmp_path, files, is_archive=is_archive))
    assert files == bundle.files
    assert (SCHEMA, OutputSpec(kind="regression"), model) == (bundle.schema, bundle.outputs, bundle.model_bytes)


def test_the_content_digest_ignores_what_decides_nothing(tmp_path: Path) -> None:
    """Another description keeps the digest; another model, schema or golden row does not."""
    one = Bundle.open(written(tmp_path, parts()))
    described = Bundle.open(written(tmp_path, parts(**{"evaluation.json": b"{}"})))
    other = Bundle.open(written(tmp_path, parts(b"another model")))
    assert one.manifest.content_digest == described.manifest.content_digest
    assert one.manifest.content_digest != other.manifest.content_digest


def test_bundles_are_numbered(tmp_path: Path, is_archive: bool) -> None:
    """Each bundle of a name takes the next free number, and nothing half-written stays."""
    for _ in range(3):
        written(tmp_path, parts(), is_archive=is_archive)
    suffix = ".penstock" if is_archive else ""
    assert [f"churn-{n}{suffix}" for n in (1, 2, 3)] == sorted(path.name for path in tmp_path.iterdir())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target.parent.parent / "elsewhere")
    path.symlink_to(target.parent.parent / "elsewhere")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["model.onnx", "schema.yaml", "outputs.json", "golden.json", "manifest.json"])
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (flip, "changed"),
        (Path.unlink, "is missing"),
        (replace_by_link, "not a plain file"),
        (replace_by_folder, "not a plain file"),
        (replace_by_pipe, "not a plain file"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "larger than|changed"),
        (lambda path: path.write_bytes(b""), "changed|malformed|truncated|the seal"),
    ],
    ids=["flipped", "removed", "link", "folder", "pipe", "longer", "empty"],
)
def test_a_touched_file_is_refused_by_name(tmp_path: Path, name: str, harm: Callable[[Path], None], says: str) -> None:
    """Every way of touching a file ends in a refusal that names it."""
    path = written(tmp_path, parts())
    harm(path / name)
    with pytest.raises(BundleRefused, match=says) as caught:
        Bundle.open(path)
    assert name in str(caught.value)


def test_an_extra_file_is_refused_by_name(tmp_path: Path) -> None:
    """Nothing may lie in a bundle that its manifest does not list."""
    path = written(tmp_path, parts())
    (path / "notes.txt").write_text("hello")
    with pytest.raises(BundleRefused, match="notes.txt: the manifest does not list this file"):
        Bundle.open(path)


def test_a_rewritten_manifest_needs_its_seal(tmp_path: Path) -> None:
    """A consistent manifest with an old seal is refused; the seal names both digests."""
    path = written(tmp_path, parts())
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"churn"', b'"fraud"'))
    with pytest.raises(BundleRefused, match="it was changed"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"format": 1', b'"format": 2', "format 2, this Penstock reads format 1: upgrade"),
        (b'"name": "churn"', b'"name": "../up"', "cannot name a model"),
        (b'"model_file": "model.onnx"', b'"model_file": "model.pkl"', "model.pkl is not listed"),
        (b'"loader": "onnx"', b'"loader": "other"', "content digest"),
        (b'"schema.yaml"', b'"../a.yaml"', "is no name for a file"),
        (b'"flavour": "onnx"', b'"flavour": "joblib"', "manifest.json"),
    ],
)
def test_a_resealed_manifest_is_still_checked(tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
    """A manifest with a valid seal that says what no bundle may say is refused."""
    path = written(tmp_path, parts())
    manifest = (path / "manifest.json").read_bytes().replace(old, new)
    (path / "manifest.json").write_bytes(manifest)
    (path / "seal.json").write_bytes(seal_of(manifest))
    with pytest.raises(BundleRefused, match=says):
        Bundle.open(path)


def archive_with(tmp_path: Path, name: str, data: bytes, *, mode: int = stat.S_IFREG | 0o644) -> Path:
    path = tmp_path / "evil.penstock"
    write_archive(sealed(IDENTITY, parts()), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, data)
    return path


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/b.json", "..", "sub/"])
def test_a_path_that_leads_out_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    """No entry of an archive may have a folder, an absolute path or `..` in its name."""
    with pytest.raises(BundleRefused, match="leads out of the bundle"):
        Bundle.open(archive_with(tmp_path, name, b"x"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    """An entry whose mode says symbolic link is refused by name."""
    path = archive_with(tmp_path, "link.json", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    with pytest.raises(BundleRefused, match="link.json: not a plain file"):
        Bundle.open(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_entry_is_refused(tmp_path: Path) -> None:
    """Two entries of one name are two truths."""
    with pytest.raises(BundleRefused, match="same name"):
        Bundle.open(archive_with(tmp_path, "schema.yaml", b"fields: []"))


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    """An entry that inflates beyond its stated size is cut off and refused."""
    files = sealed(IDENTITY, parts())
    path = tmp_path / "bomb.penstock"
    write_archive({**files, "model.onnx": bytes(50_000_000)}, path)
    assert path.stat().st_size < 200_000
    with pytest.raises(BundleRefused, match="model.onnx: larger than the 7 bytes"):
        Bundle.open(path)


def test_a_manifest_that_states_a_monster_is_refused(tmp_path: Path) -> None:
    """The stated sizes together are bounded before anything is read."""
    path = written(tmp_path, parts())
    manifest = (path / "manifest.json").read_bytes().replace(b'"size_bytes": 7\n', b'"size_bytes": 99000000000\n')
    (path / "manifest.json").write_bytes(manifest)
    (path / "seal.json").write_bytes(seal_of(manifest))
    with pytest.raises(BundleRefused, match="99000.* bytes in all"):
        Bundle.open(path)


@pytest.mark.parametrize("what", ["missing", "text.txt", "noise.penstock"])
def test_what_is_no_bundle_says_so(tmp_path: Path, what: str) -> None:
    """A wrong path is told apart from a broken bundle."""
    path = tmp_path / what
    if what != "missing":
        path.write_bytes(b"not a bundle")
    with pytest.raises(BundleRefused, match="nothing at this path|a bundle is a directory|not a .penstock file"):
        Bundle.open(path)
