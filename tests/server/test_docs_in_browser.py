"""The page at /docs in a real browser, with its policy in force: what it offers to send is sent and answered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import Running, running

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

WATCH = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", event => window.refusals.push(event.violatedDirective));
"""

SEND = """
new Promise(done => {
  const form = document.querySelector('.try[data-path="%s"]'), shown = form.querySelector("pre");
  new MutationObserver(() => { if (shown.textContent.length > 1) done(shown.textContent); })
    .observe(shown, { childList: true, characterData: true, subtree: true });
  form.querySelector("button").click();
})
"""


class Browser:
    """A headless Chromium, spoken to by the DevTools protocol over a pipe (messages end with a zero byte)."""

    def __init__(self, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        flags = (
            "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --remote-debugging-pipe"
        )
        line = f'exec "{CHROMIUM}" {flags} --user-data-dir="{profile}" about:blank 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", line], pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._left = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of one command; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            got = self._next()
            if got.get("id") == self._number:
                assert "error" not in got, got
                return dict(got["result"])
            self.events.append(got)

    def wait(self, method: str) -> None:
        """Wait for an event, unless it has come already."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._from, 65536)
            assert part, "the browser ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))

    def close(self) -> None:
        os.close(self._to)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._from)


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([bundles["iris"], bundles["churn"]], tmp_path_factory.mktemp("docs")) as process:
        yield process


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    found = Browser(tmp_path / "profile")
    try:
        yield found
    finally:
        found.close()


def test_the_send_button(server: Running, browser: Browser) -> None:
    """The button of each model sends its example and shows the answer; the policy refuses nothing of the page."""
    target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
    session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    browser.ask("Page.enable", session)
    browser.ask("Page.addScriptToEvaluateOnNewDocument", session, source=WATCH)
    browser.events.clear()
    browser.ask("Page.navigate", session, url=f"{server.url}/docs")
    browser.wait("Page.loadEventFired")

    def value(expression: str) -> Any:
        result = browser.ask("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

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
