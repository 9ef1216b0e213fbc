"""`/metrics` of a real server, read by Prometheus' own parser, beside its document and its alerts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from loads import wait_for
from rows import IRIS_ROW
from running import Running, running

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\| (.+) \|")
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers with everything on that has metrics of its own."""
    settings = {"telemetry__otlp_endpoint": "http://127.0.0.1:9", "cache__entries": 10}
    with running([bundles["iris"]], tmp_path_factory.mktemp("page"), "--workers", "2", **settings) as started:
        with started.client() as client:
            for row in (IRIS_ROW, IRIS_ROW, {}):
                client.post("/v1/models/iris/predict", json={"instances": [row]})
            client.post("/v1/models/none/predict", json={"instances": [IRIS_ROW]})
        wait_for(lambda: sum_of(started, "model_requests_total") == 4)  # workers tell their sums now and then
        yield started


def families(server: Running) -> dict[str, Metric]:
    with server.client() as client:
        return {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}


def test_the_document_has_every_metric(server: Running) -> None:
    """Names, types and meanings in docs/metrics.md are those of the page, and so are the labels of what has samples."""
    rows = [ROW.fullmatch(line) for line in (ROOT / "docs/metrics.md").read_text().splitlines()]
    documented = {row[1]: (row[2], row[4]) for row in rows if row}
    labels = {row[1]: set(filter(None, row[3].replace(" ", "").split(","))) for row in rows if row}
    page = families(server)
    suffix = {"counter": "_total"}
    assert documented == {
        name + suffix.get(family.type, ""): (family.type, family.documentation) for name, family in page.items()
    }
    for name, family in page.items():
        for sample in family.samples:
            assert labels[name + suffix.get(family.type, "")] == sample.labels.keys() - {"le"}, sample


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"])
def test_the_page_is_prometheus_text(server: Running, accept: str) -> None:
    """Whatever a scraper prefers it gets text 0.0.4, said so, one block a metric, ending with a newline."""
    with server.client() as client:
        answer = client.get("/metrics", headers={"accept": accept})
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    assert answer.text.endswith("\n")
    names = re.findall(r"^# TYPE (\w+) ", answer.text, re.MULTILINE)
    assert len(set(names)) == len(names)
    histogram = families(server)["model_request_duration_seconds"].samples
    bounds = {sample.labels["le"] for sample in histogram if sample.name.endswith("_bucket")}
    assert "+Inf" in bounds and len(bounds) > 10


def test_outcomes_are_told_apart(server: Running) -> None:
    """Answers and refusals are counted by status and code, and calls of unknown models under no model's name."""
    calls = {
        (sample.labels["model"], sample.labels["status"], sample.labels["code"]): sample.value
        for sample in families(server)["model_requests"].samples
        if sample.name == "model_requests_total"
    }
    expected = {("iris", "success", "ok"): 2, ("iris", "rejected", "schema_violation"): 1}
    assert {**expected, ("", "rejected", "not_found"): 1} == calls


def test_a_dead_worker_leaves_no_gauges(server: Running) -> None:
    """After a worker died its counts stay, while loaded models and start times are those of the living."""
    started_before_s = time.time()
    workers = subprocess.run(["pgrep", "-P", str(server.process.pid), "-f", "workers.worker"], capture_output=True)
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    wait_for(lambda: sum_of(server, "penstock_worker_restarts_total") == 1)
    wait_for(lambda: sum_of(server, "model_loaded") == 2)
    samples = families(server)["process_start_time_seconds"].samples
    assert 2 == len(samples)
    assert max(sample.value for sample in samples) < started_before_s + DEADLINE_S
    assert 4 == sum_of(server, "model_requests_total")


def test_a_version_that_no_longer_loads_is_counted(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A worker that is to replace another and cannot load a version says so in the metrics; the old one serves on, and
    no other is started beside it.
    """
    bundle = Path(shutil.copytree(bundles["iris"], tmp_path / "iris-1"))
    with running([bundle], tmp_path / "home", "--workers", "1") as server:
        (bundle / "model.onnx").write_bytes(b"not a model")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: sum_of(server, "model_load_failures_total") == 1)
        [sample] = families(server)["model_load_failures"].samples
        assert {"model": "iris", "version": "1"} == sample.labels
        wait_for(lambda: "worker 0 is not replaced" in server.text)
        with server.client() as client:
            assert 200 == client.post("/v1/models/iris/predict", json={"instances": [IRIS_ROW]}).status_code
        assert 0 == sum_of(server, "penstock_worker_restarts_total")
        assert "another starts in" not in server.text


def sum_of(server: Running, name: str) -> float:
    samples = (sample for family in families(server).values() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name)


def test_alerts_name_metrics_that_exist(server: Running) -> None:
    """Every metric in an alert is one of the page."""
    text = (ROOT / "ops/alerts.yaml").read_text()
    asked = set(re.findall(r"\b((?:penstock|model|process)_\w+)\b(?=\{|\[| >)", text))
    assert len(asked) >= 8
    known = {sample.name for family in families(server).values() for sample in family.samples}
    declared = {f"{name}_total" for name, family in families(server).items() if family.type == "counter"}
    assert set() == asked - known - declared


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (apt-get install prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_alerts_fire_when_they_should(words: tuple[str, ...]) -> None:
    """Prometheus takes the rules, and its rule tests pass: silence over a healthy server, alerts over a failing one."""
    done = subprocess.run(["promtool", *words], cwd=ROOT / "ops", capture_output=True, text=True)
    assert (0, True) == (done.returncode, "SUCCESS" in done.stdout), done.stdout + done.stderr
