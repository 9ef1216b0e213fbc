"""Privacy of records on a real server: keyed hashes by default, how much of a payload a model's records keep."""

from __future__ import annotations

import stat
from pathlib import Path

from penstock.testing import running

IRIS = "/v1/models/iris/predict"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def test_keys_and_client_ids_are_hashed(bundles: dict[str, Path], tmp_path: Path) -> None:
    """No file has the texts; the same text has the same pseudonym after a restart, by a secret that only the owner may
    read, and the caller gets the id back as it was.
    """
    seen = []
    for _ in range(2):
        with running([bundles["iris"]], tmp_path) as server:
            with server.client(headers={"x-request-id": "CANARY-call"}) as client:
                answer = client.post(IRIS, json={"instances": [ROW], "key": "CANARY-who"})
                refused = client.post(IRIS, json={"instances": [{}], "key": "CANARY-who"})
            assert ["CANARY-call"] * 2 == [each.headers["x-request-id"] for each in (answer, refused)]
            seen += [(record.key, record.client_id) for record in server.records()[-2:]]
            expected = server.pseudonyms.of_key("CANARY-who"), server.pseudonyms.of_client_id("CANARY-call")
            assert 0o600 == stat.S_IMODE((tmp_path / "audit.key").stat().st_mode)
    assert {expected} == {(key or expected[0], client_id) for key, client_id in seen}
    assert expected[0] in {key for key, _ in seen}
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file() and b"CANARY" in path.read_bytes()]


def test_ids_in_clear_can_be_erased(bundles: dict[str, Path], tmp_path: Path) -> None:
    """With `audit.clear_ids` they are kept as they came, behind the commitment."""
    with running([bundles["iris"]], tmp_path, audit__clear_ids="true") as server:
        with server.client(headers={"x-request-id": "CANARY-call"}) as client:
            client.post(IRIS, json={"instances": [ROW], "key": "CANARY-who"})
        [record] = server.records()
        assert ("CANARY-who", "CANARY-call") == (record.key, record.client_id)
        [segment] = (tmp_path / "audit").glob("worker-0/*.jsonl")
        assert b"CANARY" not in segment.read_bytes().partition(b'"salt"')[0]


def test_the_payload_policy_of_a_model(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Each model's records keep what its policy says, refusals too; the envelope is always there."""
    settings = tmp_path / "penstock.toml"
    settings.write_text('[audit.payload]\niris = "features"\nchurn = "none"\namount = 0.5\n')
    home, models = tmp_path / "home", ("iris", "churn", "amount")
    with running([bundles[name] for name in models], home, "--config", str(settings)) as server:
        with server.client() as client:
            answers = [client.post(IRIS, json={"instances": [row]}) for row in (ROW, {**ROW, "petal_width": "CANARY"})]
            client.post("/v1/models/churn/predict", json={"instances": [{"age": "CANARY"}]})
            client.post("/v1/models/amount/predict", content=b"CANARY {")
            assert [200, 422] == [answer.status_code for answer in answers]
        answered, refused, none, _ = server.records()
        assert ([ROW], None, 1) == (answered.input, answered.outputs, answered.rows)
        assert ("schema_violation", (), None) == (refused.code, refused.violations, refused.commitment)
        assert ("churn", "schema_violation", (), None) == (none.model, none.code, none.violations, none.commitment)
