"""Spans of calls, taken by a real collector's end of OTLP from a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loads import wait_for
from running import Running, running

trace_service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs penstock[otel]"
)

PATH = "/v1/models/iris/predict"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DEADLINE_S = 20.0
NOBODY = "http://127.0.0.1:9"


class Collector:
    """What an OTLP collector has received: spans by trace id, and the resources that they came with."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: dict[str, list[Any]] = {}
        self.resources: list[dict[str, Any]] = []
        self.paths: set[str] = set()

    def take(self, path: str, body: bytes) -> None:
        asked = trace_service.ExportTraceServiceRequest()
        asked.ParseFromString(body)
        self.paths.add(path)
        for group in asked.resource_spans:
            self.resources.append(attributes(group.resource))
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.trace_id.hex(), []).append(span)


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a span or resource as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        taken = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield taken
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(
    bundles: dict[str, Path], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("spans")
    settings = {"telemetry__otlp_endpoint": collector.url, "telemetry__sample": 0}
    with running([bundles["iris"]], home, "--workers", "1", **settings) as started:
        yield started


def ask(server: Running, row: dict[str, Any], trace: str, *, flags: str = "01", path: str = PATH) -> Any:
    body = {"features": row} if path == "/predict" else {"instances": [row, row]}
    with server.client() as client:
        return client.post(path, json=body, headers={"traceparent": f"00-{trace}-{PARENT}-{flags}"})


def spans_of(collector: Collector, trace: str, count: int) -> dict[str, Any]:
    """The spans of a trace by name, once there are so many."""
    wait_for(lambda: len(collector.spans.get(trace, [])) >= count)
    return {span.name: span for span in collector.spans[trace]}


def test_a_call_is_a_span_of_the_callers_trace(
    server: Running, collector: Collector, iris_row: dict[str, float]
) -> None:
    """A SERVER span below the caller's own, with queue, run and record as its parts, in that order and within it."""
    before_ns = time.time_ns()
    answer = ask(server, iris_row, TRACE).json()
    spans = spans_of(collector, TRACE, 4)
    root = spans.pop(f"POST {PATH.replace('iris', '{model}')}")
    assert (2, PARENT, 0) == (root.kind, root.parent_span_id.hex(), root.status.code)
    assert {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}/predict",
        "http.response.status_code": 200,
        "penstock.request_id": answer["request_id"],
        "penstock.protocol": "penstock",
        "penstock.code": "ok",
        "penstock.model": "iris",
        "penstock.version": 1,
        "penstock.digest": answer["digest"],
        "penstock.rows": 2,
        "penstock.batch_rows": 2,
    } == attributes(root)
    assert {"queue", "run", "record"} == spans.keys()
    assert {root.span_id} == {span.parent_span_id for span in spans.values()}
    times = [root.start_time_unix_nano]
    for name in ("queue", "run", "record"):
        times += [spans[name].start_time_unix_nano, spans[name].end_time_unix_nano]
    times.append(root.end_time_unix_nano)
    assert sorted(times) == times
    assert before_ns < times[0] and times[-1] < time.time_ns()


def test_the_resource_says_whose_spans_they_are(
    server: Running, collector: Collector, iris_row: dict[str, float]
) -> None:
    """Service, version and worker come with the spans, to the path of OTLP over HTTP."""
    trace = "1" * 32
    ask(server, iris_row, trace)
    spans_of(collector, trace, 4)
    assert {"/v1/traces"} == collector.paths
    assert {("penstock", 0)} == {(found["service.name"], found["penstock.worker"]) for found in collector.resources}


def test_a_refusal_has_spans_too(server: Running, collector: Collector, iris_row: dict[str, float]) -> None:
    """What broke the schema is the caller's fault: status 422 and its code, but no error of the span; nothing ran."""
    trace = "2" * 32
    assert 422 == ask(server, {**iris_row, "sepal_length": "long"}, trace, path="/predict").status_code
    spans = spans_of(collector, trace, 2)
    assert {"POST /predict", "record"} == spans.keys()
    root = attributes(spans["POST /predict"])
    assert (422, "schema_violation") == (root["http.response.status_code"], root["penstock.code"])
    assert 0 == spans["POST /predict"].status.code


def test_the_sampled_flag_is_obeyed(server: Running, collector: Collector, iris_row: dict[str, float]) -> None:
    """The spans of an unsampled call are not sent, nor, at a share of 0, those of one without a trace; others are."""
    ask(server, iris_row, "3" * 32, flags="00")
    with server.client() as client:
        client.post(PATH, json={"instances": [iris_row]})
        client.post(PATH, json={"instances": [iris_row]}, headers={"traceparent": "00-nonsense-01"})
    known = set(collector.spans)
    ask(server, iris_row, "4" * 32)
    spans_of(collector, "4" * 32, 4)
    assert {"4" * 32} == set(collector.spans) - known


def test_the_record_keeps_the_trace(server: Running, iris_row: dict[str, float]) -> None:
    """Answered or refused, sampled or not, the record names the caller's trace; without one it has no such field."""
    answered = ask(server, iris_row, "5" * 32, flags="00")
    refused = ask(server, {**iris_row, "sepal_length": "long"}, "6" * 32, path="/predict")
    with server.client() as client:
        plain = client.post(PATH, json={"instances": [iris_row]}).json()["request_id"]
    ids = [answered.json()["request_id"], refused.headers["x-penstock-request-id"], plain]
    assert ["5" * 32, "6" * 32, None] == [server.record(request_id).trace_id for request_id in ids]


def test_exported_spans_are_counted(server: Running, collector: Collector, iris_row: dict[str, float]) -> None:
    """The metrics say how many spans the collector has taken."""
    ask(server, iris_row, "7" * 32)
    spans_of(collector, "7" * 32, 4)
    total = sum(len(spans) for spans in collector.spans.values())
    wait_for(lambda: counted(server).get("exported") == total)
    assert {"exported": total, "failed": 0, "dropped": 0} == counted(server)


def counted(server: Running) -> dict[str, float]:
    """Spans by what became of them."""
    with server.client() as client:
        text = client.get("/metrics").text
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "penstock_spans_total"
    }


def test_a_dead_collector_fails_no_call(bundles: dict[str, Path], tmp_path: Path, iris_row: dict[str, float]) -> None:
    """Nobody listens: every call is answered, the loss is counted, one line says so, and the server stops."""
    settings = {"telemetry__otlp_endpoint": NOBODY, "telemetry__sample": 1}
    with running([bundles["iris"]], tmp_path, "--workers", "1", **settings) as server:
        with server.client() as client:
            answers = [client.post(PATH, json={"instances": [iris_row]}).status_code for _ in range(200)]
        assert {200} == set(answers)
        wait_for(lambda: counted(server)["failed"] > 0)
        assert 0 == counted(server)["exported"]
        assert 0 == server.stop()
    assert 1 == server.text.count(f"{NOBODY}/v1/traces took none")
    assert "Traceback" not in server.text
