"""The pytest fixture: a server of a bundle, as `docs/testing.md` shows it."""

from __future__ import annotations

from pathlib import Path

import penstock
from penstock.testing.fixture import Serve, penstock_server  # noqa: F401  # a fixture is found by its name
from rows import IRIS_ROW


def test_the_fixture_serves_a_bundle(penstock_server: Serve, bundles: dict[str, Path]) -> None:  # noqa: F811
    """A server on a free port with a log of its own; asked again for the same, it is the same one."""
    server = penstock_server(bundles["iris"], server__max_rows=2)
    with penstock.Client(server.url) as client:
        answer = client.predict("iris", IRIS_ROW)
    assert answer.request_id == server.records()[-1].request_id
    assert server is penstock_server(bundles["iris"], server__max_rows=2)
