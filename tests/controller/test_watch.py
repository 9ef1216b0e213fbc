"""The watched directory and the watched declared state, look by look; whole in `test_watch_served.py`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from founding_folders import write_folder
from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Order
from penstock.bundle.manifest import MANIFEST_FILE, SEAL_FILE
from penstock.control.answers import ApplyAnswer
from penstock.control.changes import Who
from penstock.control.control import By, Control
from penstock.control.repository import Repository
from penstock.control.sql_store import SqlStore
from penstock.control.state import State
from penstock.controller import arrivals
from penstock.controller.arrivals import Importing, Publishing, refuse_founding
from penstock.controller.seen import Seen
from penstock.controller.watch import WatchedConfig
from penstock.controller.watched import Watched, entries
from penstock.errors import MoveRefused, PackRefused, SettingsError, Unknown
from penstock.settings import WatchSettings
from planes import ANA, plane_of, settings_of
from variants import variant


class Open:
    """A gate that lets everything through."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        return [], []


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    store = SqlStore(None, home=tmp_path / "home")
    yield Control(store, Repository(None, home=tmp_path / "home"), Open())
    store.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models" / "iris").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def watched(control: Control, root: Path) -> Watched:
    return Watched(root, Publishing(control, lambda: None).take)


def versions(control: Control, name: str = "iris") -> list[int]:
    models = control.state().models
    return models[name].present if name in models else []


def looks(watched: Watched | WatchedConfig, times: int = 3) -> None:
    for _ in range(times):
        watched.look()


def test_a_bundle_is_published_once(control: Control, root: Path, watched: Watched, bundles: dict[str, Path]) -> None:
    """What is whole is published and, as the first, champion; the history says from where."""
    shutil.copytree(bundles["iris"], root / "iris" / "monday")
    looks(watched)
    assert [1] == versions(control)
    assert {"champion": 1} == control.state().model("iris").aliases
    [published, _] = control.events()
    assert (Who("watch", is_verified=True), "appeared as iris/monday in the watched directory") == (
        published.who,
        published.reason,
    )


def test_later_versions_wait_to_be_deployed(
    control: Control, root: Path, watched: Watched, bundles: dict[str, Path]
) -> None:
    """A second one, here as a file at the top, is a version and no champion."""
    shutil.copytree(bundles["iris"], root / "iris" / "monday")
    looks(watched)
    variant(bundles["iris"], root, 1, is_archive=True)
    looks(watched)
    assert ([1, 2], {"champion": 1}) == (versions(control), control.state().model("iris").aliases)


@pytest.mark.parametrize("is_sealed_first", [True, False])
def test_a_slow_copy_is_never_taken_up_in_part(
    control: Control,
    root: Path,
    watched: Watched,
    bundles: dict[str, Path],
    is_sealed_first: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """File by file and half by half, looked at after each: published with the last byte, and told of at most once."""
    target = root / "iris" / "slow"
    target.mkdir()
    files = sorted(bundles["iris"].iterdir(), key=lambda path: path.name in (MANIFEST_FILE, SEAL_FILE))
    for file in reversed(files) if is_sealed_first else files:
        data = file.read_bytes()
        for size in (0, len(data) // 2, len(data)):
            assert [] == versions(control)
            (target / file.name).write_bytes(data[:size])
            looks(watched)
    assert [1] == versions(control)
    left_alone = [record for record in caplog.records if "until it is complete" in record.message]
    assert 1 == len(left_alone)


def test_half_an_archive_is_left_alone(
    control: Control, root: Path, watched: Watched, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """A `.penstock` file is taken up once its end is there."""
    data = variant(bundles["iris"], tmp_path, is_archive=True).read_bytes()
    (root / "iris" / "new.penstock").write_bytes(data[: len(data) // 2])
    looks(watched)
    assert [] == versions(control)
    (root / "iris" / "new.penstock").write_bytes(data)
    looks(watched)
    assert [1] == versions(control)


def test_a_broken_bundle_is_told_once_and_taken_up_when_mended(
    control: Control, root: Path, watched: Watched, bundles: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A changed byte: one line with the file's name, however often it is looked at; mended, it is published."""
    target = root / "iris" / "broken"
    shutil.copytree(bundles["iris"], target)
    data = (target / "outputs.json").read_bytes()
    (target / "outputs.json").write_bytes(data[:-1] + b"?")
    looks(watched, 10)
    [line] = [record.message for record in caplog.records]
    assert "iris/broken is not taken up: outputs.json: the manifest says" in line
    assert [] == versions(control)
    (target / "outputs.json").write_bytes(data)
    looks(watched)
    assert [1] == versions(control)


def test_a_restart_publishes_nothing_anew(
    control: Control, root: Path, watched: Watched, bundles: dict[str, Path]
) -> None:
    """What was published before is known by its seal, also a version that was removed since."""
    for without in (0, 1):
        variant(bundles["iris"], root / "iris", without)
    looks(watched)
    control.remove("iris", 2, By(who=Who("ann")))
    again = Watched(root, Publishing(control, lambda: None).take)
    looks(again)
    assert [1] == versions(control)
    assert 4 == len(control.events())


def test_folders_say_which_model(
    control: Control, root: Path, watched: Watched, bundles: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A bundle in another model's folder, a folder of neither kind, and scratch of others are left alone."""
    shutil.copytree(bundles["iris"], root / "churn" / "monday")
    shutil.copytree(bundles["iris"], root / "iris" / ".monday.rsync")
    (root / "iris" / "notes").mkdir()
    (root / "iris" / "notes" / "readme.txt").write_text("x")
    looks(watched, 5)
    assert [] == versions(control)
    assert ["it is a bundle of 'iris' in the folder 'churn'", "neither a bundle"] == [
        next(words for words in ("it is a bundle of 'iris' in the folder 'churn'", "neither a bundle") if words in line)
        for line in (record.message for record in caplog.records)
    ]


def test_one_folder_that_cannot_be_read_holds_up_no_other(
    control: Control,
    root: Path,
    watched: Watched,
    bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A model's folder without permission is told once; the others are looked at. Odd names are made plain."""
    (root / "hidden").mkdir()
    shutil.copytree(bundles["iris"], root / "iris" / "mon\nday\udcff")
    iterdir = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path.name == "hidden":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    looks(watched, 5)
    assert "appeared as iris/mon?day? in the watched directory" == control.events()[0].reason
    assert 1 == len([record for record in caplog.records if "hidden cannot be watched" in record.message])


def test_a_store_that_is_away_is_waited_for(
    control: Control,
    root: Path,
    watched: Watched,
    bundles: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A repository that refuses is told once, and the bundle is published as soon as it takes it."""
    store = tmp_path / "home" / "repository"
    store.parent.mkdir(exist_ok=True)
    store.write_bytes(b"")
    shutil.copytree(bundles["iris"], root / "iris" / "monday")
    looks(watched, 5)
    assert 1 == len([record for record in caplog.records if "it is tried again" in record.message])
    store.unlink()
    looks(watched, 1)
    assert [1] == versions(control)


def test_a_directory_that_is_not_there_is_told_once(
    control: Control, tmp_path: Path, bundles: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A watched directory may appear later."""
    watched = Watched(tmp_path / "later", Publishing(control, lambda: None).take)
    looks(watched)
    assert 1 == len(caplog.records)
    shutil.copytree(bundles["iris"], tmp_path / "later" / "iris" / "1")
    looks(watched)
    assert [1] == versions(control)


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A founding folder."""
    return write_folder(tmp_path_factory.mktemp("founding") / "folder", LogisticRegression(), StandardScaler())


def test_founding_folders_need_to_be_allowed(
    control: Control, root: Path, watched: Watched, founding: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their pickles run code: without the setting they are left alone, and that is told once."""
    shutil.copytree(founding, root / "visits" / "1")
    refusing = Watched(root, refuse_founding)
    looks(watched, 5), looks(refusing, 5)
    assert [] == versions(control, "visits")
    assert 1 == len([record for record in caplog.records if "`watch.allow_unsafe` is off" in record.message])
    assert 1 == len(caplog.records)


def test_a_founding_folder_is_imported_when_it_is_whole(
    control: Control,
    root: Path,
    founding: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundles: dict[str, Path],
) -> None:
    """Copied file by file it is imported once, with the last; not again after a restart; no scratch is left."""
    monkeypatch.setattr(arrivals, "_REST_S", 0.0)
    imported: list[str] = []

    def import_one(order: Order, *_: object) -> Bundle:
        imported.append("one")
        return Bundle.open(variant(bundles["iris"], Path(order.out), name=order.name))

    monkeypatch.setattr(arrivals, "carry_out_apart", import_one)
    home = tmp_path / "home"

    def watching() -> Watched:
        return Watched(root, Importing(Publishing(control, lambda: None), Seen(home / "watched.json"), home).take)

    target, watched = root / "visits" / "1", watching()
    target.mkdir(parents=True)
    described = ("config.yaml", "evaluation.json")
    for file in sorted(founding.iterdir(), key=lambda path: path.name not in described):
        assert [] == imported
        shutil.copyfile(file, target / file.name)
        looks(watched)
    assert ([1], ["one"]) == (versions(control, "visits"), imported)
    looks(watching())
    assert ["one"] == imported
    assert [] == list((home / "bundles").glob(".import*"))


def test_a_broken_founding_folder_is_told_once(
    control: Control,
    root: Path,
    founding: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the importer refuses is told once, and tried again when the folder has changed."""
    monkeypatch.setattr(arrivals, "_REST_S", 0.0)
    tried: list[str] = []

    def refused(order: Order, *_: object) -> Bundle:
        tried.append(order.source)
        raise PackRefused("model.pkl", "it is cut short", "Dump it again")

    monkeypatch.setattr(arrivals, "carry_out_apart", refused)
    shutil.copytree(founding, root / "visits" / "1")
    importing = Importing(Publishing(control, lambda: None), Seen(tmp_path / "seen"), tmp_path)
    watched = Watched(root, importing.take)
    looks(watched, 10)
    assert (1, 1) == (len(tried), len(caplog.records))
    (root / "visits" / "1" / "model.pkl").touch()
    looks(watched)
    assert (2, 1) == (len(tried), len(caplog.records))


def test_without_a_scaler_it_must_be_said(root: Path, founding: Path, control: Control, tmp_path: Path) -> None:
    """A founding folder that lacks a usual file may be half of a copy, unless a file COMPLETE says that it is not."""
    shutil.copytree(founding, root / "visits" / "1", ignore=shutil.ignore_patterns("scaler.pkl"))
    importing = Importing(Publishing(control, lambda: None), Seen(tmp_path / "seen"), tmp_path)
    [entry] = entries(root, lambda path, error: None)
    with pytest.raises(arrivals.Unfinished, match=r"scaler\.pkl is missing; .* put a file COMPLETE into it"):
        importing.take(entry)
    (root / "visits" / "1" / "COMPLETE").touch()
    [entry] = entries(root, lambda path, error: None)
    assert not importing.take(entry)  # it has not rested for long enough


class Operations:
    """Takes declared states; refuses some."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.error: Exception | None = None

    def apply(self, declared: str, by: By, *, is_dry: bool = False) -> ApplyAnswer:
        if self.error is not None:
            raise self.error
        self.applied.append(declared)
        return ApplyAnswer(differences=[], is_dry=is_dry, is_applied=True)


def test_a_changed_file_is_applied(tmp_path: Path) -> None:
    """Once for each content, also after a restart; a change made while nobody was looking is not missed."""
    path, operations = tmp_path / "deployments.yaml", Operations()

    def watching() -> WatchedConfig:
        return WatchedConfig(path, operations, Seen(tmp_path / "watched.json"))

    path.write_text("one")
    looks(watching(), 5)
    assert ["one"] == operations.applied
    looks(watching())
    assert ["one"] == operations.applied
    path.write_text("two")
    looks(watching())
    looks(watching())
    assert ["one", "two"] == operations.applied


def test_a_declared_state_moves_aliases(bundles: dict[str, Path], tmp_path: Path) -> None:
    """On a real control plane: the file waits for a version that is not published yet, and then moves the alias."""
    path = tmp_path / "deployments.yaml"
    path.write_text("models: {iris: {aliases: {champion: 2}}}")
    watch = WatchSettings(config=str(path))
    with plane_of(msgspec.structs.replace(settings_of(tmp_path / "home"), watch=watch)) as plane:
        watched = WatchedConfig(path, plane.operations, Seen(tmp_path / "seen"))
        for without in range(2):
            looks(watched)
            plane.control.publish(variant(bundles["iris"], tmp_path, without), ANA)
        assert {"champion": 1} == plane.control.state().model("iris").aliases
        looks(watched)
        assert {"champion": 2} == plane.control.state().model("iris").aliases
        assert "deployments.yaml was changed" in {event.reason for event in plane.control.events()}


@pytest.mark.parametrize("error", [SettingsError("no YAML"), MoveRefused("x", ["it breaks callers"], may_force=True)])
def test_a_refused_content_is_told_once(tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with a content is told once, and it is not tried again until it changes."""
    path, operations = tmp_path / "deployments.yaml", Operations()
    operations.error = error
    path.write_text("one")
    watched = WatchedConfig(path, operations, Seen(tmp_path / "watched.json"))
    looks(watched, 5)
    operations.error = None
    looks(watched, 5)
    assert ([], 1) == (operations.applied, len(caplog.records))
    path.write_text("mended")
    looks(watched)
    assert ["mended"] == operations.applied


def test_what_may_come_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A version that is not published yet may still come: told once, and applied when it is there."""
    path, operations = tmp_path / "deployments.yaml", Operations()
    operations.error = Unknown("no version 3")
    path.write_text("one")
    watched = WatchedConfig(path, operations, Seen(tmp_path / "watched.json"))
    looks(watched, 5)
    assert 1 == len(caplog.records)
    operations.error = None
    looks(watched, 1)
    assert ["one"] == operations.applied


def test_a_lost_memory_costs_work_only(tmp_path: Path) -> None:
    """A file of what was seen that cannot be read counts as none."""
    (tmp_path / "seen").write_text("{")
    seen = Seen(tmp_path / "seen")
    assert not seen.has("a", "b")
    seen.note("a", "b")
    assert seen.has("a", "b") and Seen(tmp_path / "seen").has("a", "b")
