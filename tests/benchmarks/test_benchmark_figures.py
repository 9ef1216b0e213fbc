"""What the benchmarks make of raw figures: wrk's and ab's text, slopes, bars, due times, parts of a document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def in_benchmarks(code: str) -> str:
    """What `code` prints among the benchmarks' modules, whose short names must not meet those of the tests."""
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.strip()


WRK = """Running 1s test @ http://127.0.0.1:1/
  Latency Distribution
     50%  640.00us
     99%    1.25ms
  2011 requests in 1.00s, 1.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 7
Requests/sec:   2010.50
"""
AB = """Complete requests:      20000
Failed requests:        2
Non-2xx responses:      5
Requests per second:    9000.10 [#/sec] (mean)
  50%      5
  95%      8
  99%     11
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"import wrk; print(wrk.figures_of('''{WRK}'''))",
         "Figures(per_second=2010.5, p50_ms=0.64, p99_ms=1.25, failed=11, answered=2011)"),
        (f"import load; print(load.load_of('''{AB}'''))",
         "Load(answered=20000, failed=7, per_second=9000.1, p50_ms=5.0, p95_ms=8.0, p99_ms=11.0)"),
        ("import soak; print(soak.slope_kib_min([(0, 10), (30, 11), (60, 12)]))", "2.0"),
        ("import report; print(report.ratios([2, 9, 8], [1, 3, 0]))", "Spread(middle=2.5, low=2.0, high=3.0)"),
        ("from report import *; print([Bar('b', Spread(2, 1, 9), 3, '×', most=most).is_met for most in (True, False)])",
         "[True, False]"),
        ("from openloop import *; from openloop import _times; print(_times(Order(1, b'', 4, 1, 'even')))",
         "[0.0, 0.25, 0.5, 0.75]"),
        ("from openloop import _is_whole as w; h = b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n'; "
         "print(w(h[:9]), w(h), w(h + b'{}'))", "False False True"),
    ],
)  # fmt: skip
def test_raw_figures_are_read_as_they_are(code: str, expected: str) -> None:
    """Text of wrk and ab, slopes, ratios, bars, due times and whole replies become the figures that they say."""
    assert expected == in_benchmarks(code)


def test_a_command_writes_its_own_part_of_a_document(tmp_path: Path) -> None:
    """Written twice, a part is replaced, and what others wrote before and after it stays."""
    document = tmp_path / "d.md"
    document.write_text("# Before\n")
    code = (
        "from pathlib import Path; from report import write_part as w; "
        f"p = Path({str(document)!r}); w(p, 'a', 'one'); w(p, 'b', 'other'); w(p, 'a', 'two'); print(p.read_text())"
    )
    lines = [line for line in in_benchmarks(code).splitlines() if line and not line.startswith("<!--")]
    assert ["# Before", "two", "other"] == lines
