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
