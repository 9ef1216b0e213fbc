"""A real browser, for the pages at /docs: headless Chromium, where there is one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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

    def page(self, url: str) -> Callable[[str], Any]:
        """A page, whole; gives what tells the value of an expression there, a promise's once it is settled."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable", session)
        self.ask("Page.addScriptToEvaluateOnNewDocument", session, source=WATCH)
        self.events.clear()
        self.ask("Page.navigate", session, url=url)
        self.wait("Page.loadEventFired")

        def value(expression: str) -> Any:
            result = self.ask("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
            assert "exceptionDetails" not in result, result
            return result["result"].get("value")

        return value

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


@contextlib.contextmanager
def browser_at(profile: Path) -> Iterator[Browser]:
    """A browser while the block runs; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    found = Browser(profile)
    try:
        yield found
    finally:
        found.close()
