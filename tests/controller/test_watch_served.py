"""The watched directory of a real server: what is copied into it answers, and half of it never does."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from founding_folders import training_rows, write_folder
from loads import wait_for
from rows import IRIS_ROW
from running import running


def status(client: httpx.Client, model: str, row: object) -> int:
    """What a prediction answers."""
    return client.post(f"/v1/models/{model}/predict", json={"instances": [row]}).status_code


def test_what_is_copied_in_answers(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A bundle that is copied half by half answers once it is whole, and not before; a founding folder does, too."""
    root = tmp_path / "models"
    folder = write_folder(tmp_path / "folder", LogisticRegression(), StandardScaler())
    rows, _ = training_rows(1)
    [visit] = rows.to_dict("records")
    settings = {
        "watch__directory": root,
        "watch__allow_unsafe": "true",
        "watch__interval_s": 0.1,
        "control__port": 0,
    }
    with running([], tmp_path / "home", "--workers", "1", **settings) as server, server.client() as client:
        target = root / "iris" / "slow"
        target.mkdir(parents=True)
        for file in sorted(bundles["iris"].iterdir()):
            data = file.read_bytes()
            for part in (data[: len(data) // 2], data):
                assert 200 != status(client, "iris", IRIS_ROW)
                (target / file.name).write_bytes(part)
        wait_for(lambda: 200 == status(client, "iris", IRIS_ROW), "an answer of the bundle")
        shutil.copytree(folder, root / "visits" / "1")
        wait_for(lambda: 200 == status(client, "visits", visit), "an answer of the founding folder")
