"""Sealing in the controller: by itself, on order, beside a backup; and the log over the control API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from governed import Governed, governed
from loads import wait_for
from penstock.audit import Wanted
from penstock.audit.proof import prove
from penstock.audit.sealed import read_index
from penstock.controller import sealing
from penstock.controller.api import api_of
from penstock.controller.backup import BackedUp
from penstock.controller.restore import restore
from penstock.controller.sealing import Sealing
from penstock.settings import AuditSettings, Settings
from planes import ANA, plane_of, served, settings_of
from records import answered, odd_ones, write
from rows import IRIS_ROW


def test_sealing_goes_on_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Closed segments are sealed now and then, a broken one is told of once, and what is too old is removed."""
    write(tmp_path / "audit", map(answered, range(8)))
    broken = write(tmp_path / "audit", map(answered, range(8)), worker=1)
    broken.write_bytes(broken.read_bytes().replace(b'"total_ms":1.5', b'"total_ms":2.5', 1))
    ours = Sealing(tmp_path, AuditSettings(seal_after_s=1, retention_days=0.01))
    thread = threading.Thread(target=ours.run)
    with caplog.at_level(logging.INFO, "penstock"):
        thread.start()
        wait_for(lambda: "audit: removed" in caplog.text, "a pass")
        write(tmp_path / "audit", map(answered, range(10, 14)), worker=2)
        wait_for(lambda: 2 == len(read_index(tmp_path / "audit")), "another pass")
        ours.stop()
        thread.join()
    assert 1 == caplog.text.count("stays as it is: it is broken")
    assert "older than 0.01 days" in caplog.text
    assert [] == list(tmp_path.glob("audit/sealed/churn/*/*.parquet"))


def test_sealing_without_the_extra(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pyarrow is missing segments stay, and the log says once what to install."""
    from penstock.errors import MissingExtra

    def missing(purpose: str) -> None:
        raise MissingExtra("duckdb", "audit", purpose)

    monkeypatch.setattr(sealing, "require_audit", missing)
    path = write(tmp_path / "audit", map(answered, range(8)))
    ours = Sealing(tmp_path, AuditSettings(seal_after_s=1))
    thread = threading.Thread(target=ours.run)
    thread.start()
    wait_for(lambda: "pip install 'penstock[audit]'" in caplog.text, "the word of it")
    ours.stop()
    thread.join()
    assert path.exists()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A control API at a home with records."""
    write(tmp_path / "home" / "audit", map(answered, range(100, 130)))
    write(tmp_path / "home" / "audit", odd_ones(), worker=1)
    settings = settings_of(tmp_path / "home")
    with (
        plane_of(settings) as plane,
        served(api_of(plane.operations, settings)) as url,
        httpx.Client(base_url=url, trust_env=False) as made,
    ):
        yield made


def test_pages_of_records(client: httpx.Client) -> None:
    """All records, the newest first, from page to page; by conditions; before sealing and after."""
    for _ in range(2):
        found: list[str] = []
        before: dict[str, str] = {}
        while True:
            page = client.get("/v1/audit/records", params={"limit": 20, **before}).json()
            found += [record["request_id"] for record in page["records"]]
            if page.get("next") is None:
                break
            before = {"before": page["next"]}
        assert (37, sorted(found, reverse=True)) == (len(set(found)), found)
        conditions = {"model": "churn", "where": ["age=26", "region=north"], "since": "2026-11-20T11:43:12Z"}
        some = client.get("/v1/audit/records", params=conditions).json()["records"]
        assert ["0190-00000106"] == [record["request_id"] for record in some]
        assert 1 == len(client.get("/v1/audit/records", params={"id": "call-120"}).json()["records"])
        assert client.post("/v1/audit/seal", json={}).status_code == 200


def test_sql_over_the_api(client: httpx.Client) -> None:
    """A SELECT answers rows; whatever else it is, and whatever it reaches for, is refused with 400."""
    answer = client.get("/v1/audit/query", params={"sql": "SELECT count(*) AS n FROM records"})
    assert {"rows": [{"n": 37}], "has_more": False} == answer.json()
    for sql in ("DROP VIEW records", "SELECT * FROM read_csv('/etc/passwd')", "COPY records TO 'x'"):
        refused = client.get("/v1/audit/query", params={"sql": sql})
        assert (400, "query_refused") == (refused.status_code, refused.json()["error"]["code"])
    assert 400 == client.get("/v1/audit/records", params={"where": "age"}).status_code


def test_erasing_over_the_api(client: httpx.Client) -> None:
    """By key, from segments and sealed files; the answer says of how many records."""
    client.post("/v1/audit/seal", json={})
    assert "required field `reason`" in client.post("/v1/audit/erase", json={"keys": ["customer-4"]}).text
    asked = {"keys": ["customer-4"], "reason": "as asked"}
    assert {"records": 4, "busy": [], "exports": []} == client.post("/v1/audit/erase", json=asked).json()
    assert 0 == client.post("/v1/audit/erase", json=asked).json()["records"]


def test_a_backup_has_what_is_sealed(tmp_path: Path) -> None:
    """A backup and the home that is restored from it have every record, sealed and live, and it verifies there, also
    what was erased; keys can be looked up.
    """
    home = tmp_path / "home"
    write(home / "audit", map(answered, range(20)))
    with plane_of(settings_of(home)) as plane:
        assert 20 == plane.operations.seal(ANA).records
        write(home / "audit", map(answered, range(20, 30)))
        asked = msgspec.structs.replace(ANA, reason="asked")
        assert 3 == plane.operations.erase(Wanted(keys=frozenset({"customer-1"})), asked).records
        plane.operations.back_up(tmp_path / "backup")
    found = restore(tmp_path / "backup", Settings(home=str(tmp_path / "restored")))
    assert isinstance(found, BackedUp)
    proof = prove(tmp_path / "restored" / "audit")
    assert (30, 1, []) == (proof.records, proof.sealed, proof.problems)
    keys = [place / "audit.key" for place in (home, tmp_path / "restored")]
    assert keys[0].read_bytes() == keys[1].read_bytes()
    assert {0o600} == {key.stat().st_mode & 0o777 for key in (*keys, tmp_path / "backup" / "audit.key")}


def ask(server: Governed, calls: int) -> None:
    """So many predictions."""
    with server.server.client() as client:
        for _ in range(calls):
            answer = client.post("/v1/models/iris/predict", json={"instances": [IRIS_ROW]})
            assert 200 == answer.status_code


def test_a_server_seals_its_log(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Old segments of living, idle workers end, are sealed by the controller, and every call is found in them."""
    with governed(tmp_path / "home", audit__seal_after_s=1) as server:
        server.publish(bundles["iris"])
        wait_for(lambda: server.served("iris") == 1, "the champion")
        ask(server, 12)
        audit = tmp_path / "home" / "audit"
        wait_for(lambda: 12 == sum(entry.records for entry in read_index(audit)), "sealing")
        ask(server, 3)
        assert [] == prove(audit).problems
    proof = prove(tmp_path / "home" / "audit")
    assert (15, []) == (proof.records, proof.problems)
