"""The page at /docs in a real browser, with its policy in force: what it offers to send is sent and answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import SEND, Browser, browser_at
from running import Running, running


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([bundles["iris"], bundles["churn"]], tmp_path_factory.mktemp("docs")) as process:
        yield process


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with browser_at(tmp_path / "profile") as found:
        yield found


def test_the_send_button(server: Running, browser: Browser) -> None:
    """The button of each model sends its example and shows the answer; the policy refuses nothing of the page."""
    value = browser.page(f"{server.url}/docs")
    for name in ("iris", "churn"):
        shown = value(SEND % f"/v1/models/{name}/predict")
        assert shown.startswith("200 OK")
        request_id = json.loads(shown.partition("\n\n")[2])["request_id"]
        assert (name, "prediction") == (server.record(request_id).model, server.record(request_id).kind)
    assert server.url in value("document.querySelector('.origin').textContent")
    assert [] == value("window.refusals")
    assert "rgba(0, 0, 0, 0)" != value("getComputedStyle(document.querySelector('button')).backgroundColor")
    value("document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert (None, ["script-src-elem"]) == (value("window.ran"), value("window.refusals"))
