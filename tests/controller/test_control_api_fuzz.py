"""Anything at all sent to the control API: an answer or a refusal in the known form, never a failure of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.controller.api import api_of
from penstock.controller.messages import BUNDLE_MEDIA, ControlErrorBody
from planes import ANA, plane_of, served, settings_of
from variants import variant

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.sampled_from(["iris", "nobody", "champion", "Archived", "..", "1", "%2e%2e"]) | TEXT.filter(bool)
NUMBERS = st.sampled_from(["0", "1", "2", "-1", "1e3", str(2**31), str(10**30), "١"]) | TEXT.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = {
    "lazy": JSON,
    "aliases": st.dictionaries(NAMES, st.sampled_from([1, None, "latest", 99]) | JSON, max_size=2) | JSON,
    "decision": st.just({"label": "0", "otherwise": "1", "threshold": 0.5}) | JSON,
    "fallback": st.just({"kind": "abstain"}) | JSON,
    "limits": st.just({"queue_rows": 5}) | JSON,
    "rules": st.dictionaries(NAMES, st.just({"floors": {"accuracy": 0.5}}) | JSON, max_size=2) | JSON,
}
DECLARED = (
    st.fixed_dictionaries(
        {"models": st.dictionaries(NAMES, st.fixed_dictionaries({}, optional=OPTIONS), max_size=2)}
    ).map(json.dumps)
    | st.text(max_size=40)
    | JSON.map(json.dumps)
    | st.sampled_from(["[" * 5000, "a: &a [*a]", "{1: 2, 1: 3}", "? [1]\n: 2", "2001-99-99", "!!python/none", "\0"])
)
EXPERIMENTS = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"]) | JSON},
    optional={
        "arms": st.lists(
            st.fixed_dictionaries({"name": NAMES, "version": st.sampled_from([1, 99])}, optional={"weight": JSON}),
            max_size=3,
        ),
        "goal": st.sampled_from([{"metric": "value"}, {"metric": "conversion"}, {"label_delay_s": 1e400}]) | JSON,
        "holdout": st.sampled_from([0, 10_000]) | JSON,
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([1, 2]) | JSON,
        "reason": TEXT | JSON,
        "force": st.booleans() | JSON,
        "if_revision": st.sampled_from([0, 2**53]) | JSON,
        "declared": DECLARED | JSON,
        "experiment": EXPERIMENTS | JSON,
        "dry_run": st.booleans() | JSON,
    },
)
PATHS = st.one_of(
    st.tuples(st.just("PUT"), st.builds("/v1/models/{}/aliases/{}".format, NAMES.map(quote), NAMES.map(quote))),
    st.tuples(st.just("DELETE"), st.builds("/v1/models/{}/aliases/{}".format, NAMES.map(quote), NAMES.map(quote))),
    st.tuples(st.just("DELETE"), st.builds("/v1/models/{}/versions/{}".format, NAMES.map(quote), NUMBERS.map(quote))),
    st.tuples(st.just("POST"), st.builds("/v1/models/{}/rollback".format, NAMES.map(quote))),
    st.tuples(st.just("POST"), st.builds("/v1/models/{}/versions".format, NAMES.map(quote))),
    st.tuples(
        st.sampled_from(["PUT", "GET"]), st.sampled_from(["/v1/models/iris/experiment", "/v1/models/nobody/experiment"])
    ),
    st.tuples(st.just("GET"), st.builds("/v1/models/{}".format, NAMES.map(quote))),
    st.tuples(st.just("GET"), st.builds("/v1/models/{}/history".format, NAMES.map(quote))),
    st.tuples(st.sampled_from(["POST", "GET", "PATCH"]), st.sampled_from(["/v1/apply", "/v1/gc", "/v1/models", "/"])),
)
QUERIES = st.dictionaries(
    st.sampled_from(["at", "alias", "reason", "force", "x"]),
    TEXT | st.sampled_from(["2026-11-20T18:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "true"]),
    max_size=3,
)
HEADERS = st.fixed_dictionaries(
    {
        "content-type": st.sampled_from(
            ["application/json", BUNDLE_MEDIA, "application/json; charset=utf-7", "text/plain"]
        )
    },
    optional={
        "x-penstock-who": st.sampled_from(["ana%40quay", "%00", "%ff", "%", ""]),
        "if-match": st.sampled_from(['"1"', "*", '"9999999999999999"', "W/1", '""']),
    },
)


@pytest.fixture(scope="module")
def second(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return variant(bundles["iris"], tmp_path_factory.mktemp("variants"), 2, is_archive=True).read_bytes()


@pytest.fixture(scope="module")
def client(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings_there = settings_of(tmp_path_factory.mktemp("fuzz") / "home")
    with plane_of(settings_there) as plane, served(api_of(plane.operations, settings_there)) as url:
        plane.operations.publish(bundles["iris"], ANA)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as found:
            yield found


def check(response: httpx.Response) -> None:
    """An answer, or an error in its form that is not a bug of ours."""
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert msgspec.json.decode(response.content, type=ControlErrorBody).error.message


@settings(max_examples=300)
@given(
    where=PATHS, query=QUERIES, headers=HEADERS, body=BODIES.map(json.dumps).map(str.encode) | st.binary(max_size=40)
)
@example(
    where=("PUT", "/v1/models/iris/aliases/x"),
    query={},
    headers={"content-type": "application/json"},
    body=b'{"version": 1, "reason": "\\ud800"}',
)
def test_any_request(
    client: httpx.Client, where: tuple[str, str], query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    """Whatever stands in path, query, headers and body, the answer is one of the documented kinds."""
    check(client.request(*where, params=query, headers=headers, content=body))


@settings(max_examples=100)
@given(data=st.data())
def test_any_archive(client: httpx.Client, second: bytes, data: Any) -> None:
    """A bundle with bytes changed or left out is refused, and published only if nothing of it is different."""
    sent = bytearray(second)
    for _ in range(data.draw(st.integers(1, 4))):
        # The end has the directory of the archive: most of what can go wrong stands there.
        place = data.draw(st.integers(0, len(sent) - 1) | st.integers(max(0, len(sent) - 600), len(sent) - 1))
        sent[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del sent[data.draw(st.integers(0, len(sent))) :]
    check(client.post("/v1/models/iris/versions", content=bytes(sent), headers={"content-type": BUNDLE_MEDIA}))
