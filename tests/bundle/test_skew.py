"""The environment rule: a native bundle wants the minor version of its library, a compiled one its golden rows only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import penstock
from penstock.bundle.bundle import Bundle
from penstock.bundle.provenance import Environment
from penstock.bundle.skew import Skew, libraries_of, minor, skews
from penstock.bundle.write import Identity, sealed, write_bundle
from penstock.errors import BundleRefused

_OLD = "1.2.3"


def aged(path: Path, out: Path, version: str) -> Path:
    """A copy of a bundle that says it was packed with that version of scikit-learn, sealed again."""
    bundle = Bundle.open(path)
    environment = bundle.part("environment.json", Environment)
    assert environment is not None
    libraries = environment.libraries | {"scikit-learn": version}
    files = bundle.files | {
        "environment.json": msgspec.json.encode(msgspec.structs.replace(environment, libraries=libraries))
    }
    told = bundle.manifest
    identity = Identity(told.name, told.flavour, told.loader, told.model_file)
    return write_bundle(sealed(identity, files), out, told.name, is_archive=False)


def test_a_native_bundle_of_another_minor_version_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The message names the library, both versions and the setting; with the setting, the golden rows decide."""
    old = aged(bundles["growth"], tmp_path, _OLD)
    with pytest.raises(BundleRefused, match=r"scikit-learn 1\.2\.3; .* native\.allow_version_skew"):
        penstock.open(old)
    model = penstock.open(old, allow_version_skew=True)
    assert penstock.open(bundles["growth"]).predict({"x": 5.1}) == model.predict({"x": 5.1})


def test_another_patch_version_is_taken(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Only the first two numbers count."""
    [skew] = skews(Bundle.open(bundles["growth"]))
    assert skew.here is not None
    assert "growth" == penstock.open(aged(bundles["growth"], tmp_path, ".".join((*minor(skew.here), "999")))).name


def test_a_compiled_bundle_does_not_ask(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Its golden rows alone decide."""
    assert () == libraries_of(Bundle.open(bundles["iris"]))
    assert "iris" == penstock.open(aged(bundles["iris"], tmp_path, _OLD)).name


@pytest.mark.parametrize(
    ("packed", "here", "expected"),
    [("1.9.1", "1.9.0", False), ("1.9.1", "1.10.0", True), ("1.9.1", "2.9.1", True), (None, "1.9", False),
     ("1.9", None, False)],
)  # fmt: skip
def test_what_counts_as_another_version(packed: str | None, here: str | None, expected: bool) -> None:
    """The major and the minor number; what is not known refuses nothing here."""
    assert expected == Skew("scikit-learn", packed, here).is_refused
