"""A log that cannot be written: a file size limit stands for the full disk."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.audit import verify
from running import running, segments

IRIS = "/v1/models/iris/predict"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CALLS = 60
LIMIT_BYTES = 12_000
LIMITED = (
    f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES})); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def metrics(client: httpx.Client) -> dict[str, float]:
    """The counters of the log."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {sample.name: sample.value for family in families for sample in family.samples if "_audit_" in sample.name}


@pytest.mark.parametrize("rule", ["serve", "strict"])
def test_a_full_disk(bundles: dict[str, Path], tmp_path: Path, rule: str) -> None:
    """`serve` goes on answering and counts what is not recorded; `strict` answers 503 with Retry-After instead.

    Either way what is in the log is whole and verifies, and each 200 of `strict` is in it.
    """
    prefix = (sys.executable, "-c", LIMITED)
    with running([bundles["iris"]], tmp_path, prefix=prefix, audit__on_failure=rule) as server:
        with server.client() as client:
            answers = [client.post(IRIS, json={"instances": [ROW]}) for _ in range(CALLS)]
            counted = metrics(client)
        written = server.records()
        assert "Traceback" not in server.text
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(written) < CALLS
    assert {
        "penstock_audit_records_total": len(written),
        "penstock_audit_dropped_total": CALLS - len(written),
    } == counted
    if rule == "serve":
        assert [] == refused
    else:
        assert CALLS - len(written) == len(refused)
        for answer in refused:
            error = answer.json()["error"]
            assert (503, "1", "record_failed") == (answer.status_code, answer.headers["retry-after"], error["code"])
            assert str(tmp_path) not in answer.text
        answered = {answer.json()["request_id"] for answer in answers if answer.status_code == 200}
        assert answered == {record.request_id for record in written}
    assert [(None, 0)] == [(report.broken, report.torn_bytes) for report in map(verify, segments(tmp_path))]
