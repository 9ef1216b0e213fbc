"""A pytest fixture: servers of your bundles, on free ports, stopped with the test session.

In a `conftest.py`: `pytest_plugins = ["penstock.testing.fixture"]`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.server import Running, running

Serve = Callable[..., Running]


@pytest.fixture(scope="session")
def penstock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`penstock_server(bundle, …, **settings)` is a server of these bundles; asked again for the same, the same one.

    Its log is in a folder of the test session; settings are as in the environment: `server__max_rows=10`.
    """
    known: dict[tuple[object, ...], Running] = {}
    with contextlib.ExitStack() as stack:

        def serve(*bundles: str | Path, **settings: Any) -> Running:
            paths = tuple(Path(bundle).absolute() for bundle in bundles)
            key = (paths, *sorted(settings.items()))
            if key not in known:
                home = tmp_path_factory.mktemp("penstock")
                known[key] = stack.enter_context(running(paths, home, **settings))
            return known[key]

        yield serve
