"""The whole way of a rollout as an operator types it, beside a real server under load."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk, Said
from governed import Governed, governed
from loads import wait_for
from running import environment
from strangers import Strangers
from variants import variant

REFUSED, WRONG = 1, 2
PLAN = """
steps: [50, 100]
step_s: 0.3
replay: {rows: 50}
shadow: {pairs: 50}
approve: true
"""
LONG = "{steps: [50], step_s: 600, replay: null, shadow: null}"
LOADED = re.compile(r"<script|<img|\bsrc=|\bhref=|url\(|@import|<iframe|<object")


@pytest.fixture(scope="module")
def serving(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Two workers that serve `amount` under load, of which three versions that answer alike are published."""
    out = tmp_path_factory.mktemp("versions")
    with governed(tmp_path_factory.mktemp("serving") / "home", audit__durability="write") as made:
        for without in range(3):
            made.publish(variant(bundles["amount"], out, without))
        wait_for(lambda: 1 == made.served("amount"), "the champion")
        with Strangers(made.server, 4, breath_s=0.005) as load:
            load.wait_for(200)
            yield made
        assert ({200}, []) == (set(load.statuses), load.lost)


@pytest.fixture
def desk(serving: Governed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An operator's desk at the server's home, with two plans."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "long.yaml").write_text(LONG)
    return Desk(serving.home)


def words(said: Said) -> str:
    """What was printed, on one line."""
    return " ".join(said.out.split())


def test_from_start_to_champion(desk: Desk, tmp_path: Path) -> None:
    """Replay, shadow, steps, a hold, an approval: each command shows the ladder, and the history has every reason."""
    started = desk.ok("rollout", "start", "amount", "2", "--plan", "plan.yaml", "--reason", "autumn retraining")
    assert "[replay] → shadow → 50 % → 100 % → champion" in started.out
    assert "held by" in words(desk.ok("rollout", "hold", "amount", "--reason", "release freeze"))
    told = desk.ok("rollout", "status", "amount", "--json").json
    assert ("running", 2, 1) == (told["rollout"]["status"], told["rollout"]["version"], told["rollout"]["champion"])
    assert told["rollout"]["held_by"].endswith(": release freeze")
    desk.ok("rollout", "resume", "amount", "--reason", "the freeze is over")

    def held() -> list[str]:
        found: list[str] = desk.ok("rollout", "status", "amount", "--json").json["rollout"]["held"]
        return found

    wait_for(lambda: ["approval"] == held(), "everything but the approval")
    shown = words(desk.ok("rollout", "status", "amount"))
    assert "replay ✓ → shadow ✓ → 50 % ✓ → [100 %] → champion" in shown
    assert "hold: everything is proven; a person is to approve the last step" in shown
    assert re.search(r"error hard 0 / [\d,]+ 0 / [\d,]+ .* / 75 proven", shown), shown

    line = [sys.executable, "-m", "penstock", "rollout", "status", "amount", "--watch", "--home", str(desk.home)]
    watch = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment({}))
    assert watch.stdout is not None and watch.stdout.readline().startswith("amount-2-")
    desk.ok("rollout", "approve", "amount", "--reason", "seen by two of us")
    seen, _ = watch.communicate(timeout=60)
    assert (0, True) == (watch.returncode, seen.splitlines()[-4:] != [] and "→ champion ✓" in seen)

    page = tmp_path / "report.html"
    assert "promoted" in desk.ok("rollout", "status", "amount", "--html", str(page)).out
    for text in (page.read_text(), next((desk.home / "rollouts").glob("amount-2-*.html")).read_text()):
        assert "Content-Security-Policy" in text and "default-src 'none'" in text
        assert [] == LOADED.findall(text)
        for what in ("autumn retraining", "release freeze", "the freeze is over", "seen by two of us"):
            assert what in text or what == "autumn retraining"
    history = words(desk.ok("history", "amount"))
    for what in ("autumn retraining", "release freeze", "the freeze is over", "seen by two of us"):
        assert what in history, history
    assert 2 == desk.ok("model", "amount", "--json").json["aliases"]["champion"]


def test_aborted_refused_forced_promoted(desk: Desk) -> None:
    """What was aborted is refused again, unless forced with a reason; exit codes say which is which."""
    desk.ok("rollout", "start", "amount", "3", "--plan", "long.yaml")
    again = desk("rollout", "start", "amount", "3", "--plan", "long.yaml")
    assert (REFUSED, True) == (again.code, "`penstock rollout abort amount` ends it" in " ".join(again.err.split()))
    assert "aborted: wrong data" in words(desk.ok("rollout", "abort", "amount", "--reason", "wrong data"))
    assert REFUSED == desk("rollout", "status", "amount").code
    for verb in ("hold", "resume", "approve", "abort", "promote"):
        late = desk("rollout", verb, "amount", "--reason", "too late")
        assert (REFUSED, True) == (late.code, "no rollout under way; the last one, of version 3, was aborted" in
                                   " ".join(late.err.split())), late  # fmt: skip
    refused = desk("rollout", "start", "amount", "3", "--plan", "long.yaml")
    assert REFUSED == refused.code
    assert "rolled back before" in refused.err and "wrong data" in refused.err
    assert "--force with a --reason overrules it" in refused.err
    assert WRONG == desk("rollout", "start", "amount", "3", "--plan", "long.yaml", "--force").code
    desk.ok("rollout", "start", "amount", "3", "--plan", "long.yaml", "--force", "--reason", "the data are right now")
    assert "promoted: urgent" in words(desk.ok("rollout", "promote", "amount", "--reason", "urgent"))
    assert 3 == desk.ok("model", "amount", "--json").json["aliases"]["champion"]
    history = words(desk.ok("history", "amount"))
    for what in ("wrong data", "the data are right now", "urgent"):
        assert what in history


def test_what_is_said_of_mistakes(desk: Desk, tmp_path: Path) -> None:
    """No such version or model, the champion itself, a plan that cannot be, no reason: what is wrong is named."""
    champion = desk.ok("model", "amount", "--json").json["aliases"]["champion"]
    assert (REFUSED, True) == _refused(desk("rollout", "start", "amount", str(champion)), "champion already")
    assert (REFUSED, True) == _refused(desk("rollout", "start", "amount", "9"), "9")
    assert (REFUSED, True) == _refused(desk("rollout", "start", "tulips", "1"), "tulips")
    assert (REFUSED, True) == _refused(desk("rollout", "status", "tulips"), "tulips")
    (tmp_path / "falling.yaml").write_text("steps: [50, 5]")
    falling = desk("rollout", "start", "amount", "1", "--plan", "falling.yaml")
    assert (WRONG, True) == _refused(falling, "Expected `steps` in percent that rise up to 100, got [50.0, 5.0]")
    assert (WRONG, True) == _refused(desk("rollout", "start", "amount", "1", "--plan", "none.yaml"), "none.yaml")
    assert WRONG == desk("rollout", "abort", "amount", "--reason", " ").code
    assert WRONG == desk("rollout", "abort", "amount").code


def _refused(said: Said, what: str) -> tuple[int, bool]:
    return said.code, what in " ".join(said.err.split())
