"""Control planes to test on: real state and repository, the load of a version taken for granted, a real HTTP server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uvicorn
from fastapi import FastAPI

from penstock.bundle.bundle import Bundle
from penstock.bundle.golden import Golden
from penstock.bundle.manifest import GOLDEN_FILE, MANIFEST_FILE, SEAL_FILE
from penstock.bundle.write import Identity, sealed, write_bundle
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller import assemble
from penstock.controller.api import uvicorn_config
from penstock.controller.assemble import Plane, control_plane
from penstock.settings import ControlSettings, Settings

ANA = By(who=Who("ana@quay"))


def settings_of(home: Path, **control: object) -> Settings:
    """Settings of a home, with some of the section `control`."""
    return Settings(home=str(home), control=msgspec.convert(control, ControlSettings))


@contextlib.contextmanager
def plane_of(settings: Settings) -> Iterator[Plane]:
    """A control plane on which every version loads, without a process that tries it."""
    with pytest.MonkeyPatch.context() as patch, control_plane(settings) as plane:
        patch.setattr(assemble, "failure_of", lambda path, settings: None)
        yield plane


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The URL at which a real server answers by `app`, as the controller runs it."""
    server = uvicorn.Server(uvicorn_config(app))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def variant(bundle: Path, out: Path, golden_rows: int, *, is_archive: bool = False) -> Path:
    """Another version of the same model: of its golden rows only so many are left."""
    whole = Bundle.open(bundle)
    golden = Golden(
        whole.golden.rows[:golden_rows], {name: all_[:golden_rows] for name, all_ in whole.golden.answers.items()}
    )
    files = {name: data for name, data in whole.files.items() if name not in (MANIFEST_FILE, SEAL_FILE)}
    files[GOLDEN_FILE] = msgspec.json.encode(golden)
    told = whole.manifest
    identity = Identity(told.name, told.flavour, told.loader, told.model_file)
    return write_bundle(sealed(identity, files), out, told.name, is_archive=is_archive)
