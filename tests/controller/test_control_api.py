"""The control API on a real port: who may ask, what is read, what is answered, and what never gets out."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import BaseRoute

import penstock.errors as errors
from loads import wait_for
from penstock.controller.api import api_of, reading
from penstock.controller.api.guard import Guard, name_of
from penstock.controller.api.routes import SCOPE_KEY
from penstock.controller.api.threads import CHANGES
from penstock.controller.assemble import Plane
from penstock.controller.failures import STATUS, control_error_body, error_of, status_of
from penstock.controller.local import LocalOperations
from penstock.controller.messages import BUNDLE_MEDIA
from penstock.errors import CallFailure, MoveRefused, PenstockError, StateUnavailable
from planes import ANA, plane_of, served, settings_of
from running import read_answer, request
from variants import variant

JSON = {"content-type": "application/json"}
BUNDLE = {"content-type": BUNDLE_MEDIA}
CHAMPION = "/v1/models/iris/aliases/champion"
SCOPES = {"public", "read", "deploy", "admin"}


@pytest.fixture(scope="module")
def plane(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    home = tmp_path_factory.mktemp("api") / "home"
    with plane_of(settings_of(home)) as found:
        found.operations.publish(bundles["iris"], ANA)
        yield found


@pytest.fixture(scope="module")
def second(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of another version of `iris`."""
    return variant(bundles["iris"], tmp_path_factory.mktemp("variants"), 5, is_archive=True).read_bytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("listener")


@pytest.fixture(scope="module")
def client(plane: Plane, home: Path) -> Iterator[httpx.Client]:
    """A client of an API that also knows the host `console.quay`, and takes bundles up to 1 MiB."""
    settings = settings_of(home, hosts=["console.quay"], max_bundle_bytes=1 << 20)
    with served(api_of(plane.operations, settings)) as url, httpx.Client(base_url=url, trust_env=False) as found:
        yield found


def refused(response: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error."""
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("127.0.0.1:8082", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("LOCALHOST.:80", True),
        ("[::1]:8082", True),
        ("console.quay:8082", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("localhost:8082:1", False),
        ("[::1", False),
        ("[::1]evil.example", False),
        ("0.0.0.0:8082", False),
        ("192.168.1.7", False),
        ("", False),
    ],
)
def test_host_names(client: httpx.Client, host: str, is_known: bool) -> None:
    """Only names of loopback and those of the settings may be asked for, whatever the address is reached by."""
    response = client.get("/v1/models", headers={"host": host})
    assert (200 if is_known else 403) == response.status_code
    assert is_known or ("forbidden" == response.json()["error"]["code"])


def test_requests_of_two_hosts() -> None:
    """A request with two Host headers, or none, is refused."""
    guard = Guard(lambda scope, receive, send: None, ())  # type: ignore[arg-type, return-value]
    assert guard.refusal([(b"host", b"localhost"), (b"host", b"localhost")]) is not None
    assert guard.refusal([]) is not None
    assert guard.refusal([(b"host", b"localhost")]) is None
    assert ("a", "::1", "", "") == (name_of("A.:1"), name_of("[::1]"), name_of("[::1]x"), name_of("a:b"))


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://"]
)
def test_other_origins(client: httpx.Client, origin: str) -> None:
    """A page of another origin, another port included, gets nothing, and no header that would let it read."""
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/models/iris/rollback"), ("OPTIONS", "/v1/models")):
        response = client.request(method, path, headers={"origin": origin, **JSON})
        assert (403, "forbidden") == refused(response)
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_own_origin(client: httpx.Client) -> None:
    """The page at /docs may ask the server that it came from."""
    assert 200 == client.get("/v1/models", headers={"origin": str(client.base_url).rstrip("/")}).status_code


def routes(app: Any) -> list[BaseRoute]:
    return list(app.routes)


def test_every_route_declares_its_permission(plane: Plane, home: Path) -> None:
    """There is no route without one of the scopes; what only looks is `read`, what removes is `admin`."""
    found = routes(api_of(plane.operations, settings_of(home)))
    assert found
    scopes = {}
    for route in found:
        assert isinstance(route, APIRoute), f"{route} has no permission"
        assert route.openapi_extra is not None
        for method in route.methods:
            scopes[method, route.path] = route.openapi_extra[SCOPE_KEY]
    assert SCOPES >= set(scopes.values())
    assert {"read", "public"} == {scope for (method, _), scope in scopes.items() if method == "GET"}
    assert {"deploy", "admin"} == {scope for (method, _), scope in scopes.items() if method != "GET"}
    assert "admin" == scopes["DELETE", "/v1/models/{name}/versions/{version}"]


def test_only_json(client: httpx.Client, plane: Plane, home: Path) -> None:
    """What a form or a plain page can send without being asked first is refused, with a body and without."""
    for route in routes(api_of(plane.operations, settings_of(home))):
        assert isinstance(route, APIRoute)
        for method in route.methods & {"POST", "PUT", "PATCH"}:
            path = route.path.format(name="iris", alias="champion", version=1, verb="hold")
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
                headers = {} if kind is None else {"content-type": kind}
                response = client.request(method, path, content=b"{}" if kind else b"", headers=headers)
                assert (415, "unsupported_media_type") == refused(response), (method, path, kind)


def test_a_packed_body(client: httpx.Client) -> None:
    """Bodies are not unpacked: there is no bomb."""
    response = client.put(CHAMPION, content=b"{}", headers={**JSON, "content-encoding": "gzip"})
    assert (415, "unsupported_media_type") == refused(response)


def test_bodies_have_a_limit(client: httpx.Client, home: Path, plane: Plane) -> None:
    """A body that is too large is refused by its stated length, and without one as soon as it is too long."""
    large = b" " * ((1 << 20) + 1)
    path = "/v1/models/iris/versions"
    assert (413, "too_large") == refused(client.post(path, content=large, headers=BUNDLE))
    assert (413, "too_large") == refused(client.post(path, content=iter([large]), headers=BUNDLE))
    assert (413, "too_large") == refused(client.put(CHAMPION, content=iter([large] * 5), headers=JSON))
    assert [] == list((home / "transit").glob("*"))
    assert [1] == [version.number for version in plane.operations.model("iris").versions]


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", CHAMPION, b"", (400, "unreadable")),
        ("PUT", CHAMPION, b"{", (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": "1"}', (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 0}', (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 1, "reson": "x"}', (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 1, "reason": "\\u0000"}', (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 1, "reason": "\\u001b[2J"}', (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 1, "reason": "\xff"}', (400, "unreadable")),
        ("PUT", CHAMPION, b"[" * 100_000, (400, "unreadable")),
        ("PUT", CHAMPION, b'{"version": 7}', (404, "unknown")),
        ("PUT", "/v1/models/iris/aliases/no%20alias", b'{"version": 1}', (404, "unknown")),
        ("PUT", "/v1/models/nobody/aliases/champion", b'{"version": 1}', (404, "unknown")),
        ("PUT", CHAMPION, b'{"version": 1, "if_revision": 0}', (409, "conflict")),
        ("DELETE", CHAMPION, b"", (409, "in_use")),
        ("DELETE", "/v1/models/iris/versions/1", b"", (409, "in_use")),
        ("DELETE", "/v1/models/iris/versions/one", b"", (400, "unreadable")),
        ("DELETE", "/v1/models/iris/versions/1?force=maybe", b"", (400, "unreadable")),
        ("POST", "/v1/models/iris/rollback", b"", (404, "unknown")),
        ("POST", "/v1/apply", b'{"declared": "["}', (400, "settings_error")),
        ("GET", "/v1/models/iris/history?at=yesterday", b"", (400, "unreadable")),
        ("GET", "/v1/models/iris/history?at=2026-11-20T18:00:00", b"", (400, "unreadable")),
        ("GET", "/v1/models/nobody", b"", (404, "unknown")),
        ("GET", "/v1/model", b"", (404, "not_found")),
        ("GET", "/", b"", (404, "not_found")),
        ("POST", "/v1/models", b"", (405, "method_not_allowed")),
        ("HEAD", "/nowhere", b"", (404, "")),
    ],
)
def test_what_is_refused(client: httpx.Client, method: str, path: str, body: bytes, expected: tuple[int, str]) -> None:
    """Each mistake has its status and its code, and the message says what to do instead."""
    response = client.request(method, path, content=body, headers=JSON)
    if method == "HEAD":
        assert expected[0] == response.status_code
        return
    assert expected == refused(response)
    assert "Traceback" not in response.text
    assert response.json()["error"]["message"]
    assert (expected[0] != 405) or "GET" == response.headers["allow"]


def test_the_methods_of_a_path(client: httpx.Client) -> None:
    """A path that is asked in another way names every method that it answers."""
    assert "DELETE, PUT" == client.options(CHAMPION).headers["allow"]


@pytest.mark.parametrize("body", [b"", b"PK\5\6", b"x" * 1000])
def test_no_bundle(client: httpx.Client, home: Path, body: bytes) -> None:
    """A body that is no bundle is refused, and nothing of it stays."""
    response = client.post("/v1/models/iris/versions", content=body, headers=BUNDLE)
    assert (422, "bundle_refused") == refused(response)
    assert str(home) not in response.text
    assert [] == list((home / "transit").glob("*"))


def test_a_bundle_of_another_model(client: httpx.Client, second: bytes) -> None:
    """The name in the path is the manifest's."""
    response = client.post("/v1/models/churn/versions", content=second, headers=BUNDLE)
    assert (422, "bundle_refused") == refused(response)
    assert "'iris'" in response.json()["error"]["message"]


def test_who_and_which_revision(bundles: dict[str, Path], second: bytes, tmp_path: Path) -> None:
    """Who asks is kept as they say, unverified; a revision that was read before holds as If-Match and in the body."""
    settings = settings_of(tmp_path / "home")
    with plane_of(settings) as plane, served(api_of(plane.operations, settings)) as url:
        plane.operations.publish(bundles["iris"], ANA)
        with httpx.Client(base_url=url, trust_env=False) as client:
            etag = client.get("/v1/models/iris").headers["etag"]
            who = {"X-Penstock-Who": quote("Zoë@quay"), "if-match": etag}
            query = {"alias": "candidate", "reason": "for the test"}
            told = client.post("/v1/models/iris/versions", content=second, headers={**BUNDLE, **who}, params=query)
            assert (200, 2, "candidate") == (told.status_code, told.json()["version"], told.json()["move"]["alias"])
            move = {"version": 2}
            assert (409, "conflict") == refused(client.put(CHAMPION, json=move, headers={"if-match": etag}))
            assert (400, "unreadable") == refused(client.put(CHAMPION, json=move, headers={"if-match": "W/3"}))
            for who_else in ("%ff", "", "a%0Ab", "%1b[2J", "x" * 129):
                answer = client.put(CHAMPION, json=move, headers={"X-Penstock-Who": who_else})
                assert (400, "unreadable") == refused(answer), who_else
            now = client.get("/v1/models/iris").headers["etag"]
            assert 200 == client.put(CHAMPION, json=move, headers={"if-match": now}).status_code
            events = client.get("/v1/models/iris/history").json()["events"]
    published = [event for event in events if event["change"]["type"] == "published"]
    assert {"name": "Zoë@quay", "is_verified": False} == published[1]["who"]
    assert "for the test" == published[1]["reason"]
    moved = [event for event in events if event["change"]["type"] == "moved"]
    assert "anonymous@127.0.0.1" == moved[-1]["who"]["name"]


class Slow(LocalOperations):
    """Operations whose moves wait until they are let go, and whose other changes fail in ways of their own."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.waiting = 0
        self.go = threading.Event()

    def models(self) -> Any:
        return self._plane.operations.models()

    def model(self, name: str) -> Any:
        raise StateUnavailable("the state cannot be reached")

    def move(self, model: str, alias: str, version: int | None, by: Any) -> Any:
        self.waiting += 1
        self.go.wait(60)
        return self._plane.operations.move(model, alias, version, by)

    def rollback(self, model: str, by: Any) -> Any:
        raise ZeroDivisionError("/secret/path")


def test_deploys_that_wait_block_no_look(plane: Plane, home: Path) -> None:
    """While as many changes wait as may, looks are answered; one change more is refused, and may come again."""
    slow = Slow(plane)
    with (
        served(api_of(slow, settings_of(home))) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(CHANGES) as callers,
    ):
        moves = [callers.submit(client.put, CHAMPION, json={"version": 1}) for _ in range(CHANGES)]
        wait_for(lambda: slow.waiting == CHANGES, "all moves wait")
        assert ["iris"] == [model["name"] for model in client.get("/v1/models").json()["models"]]
        one_more = client.put(CHAMPION, json={"version": 1})
        assert ((503, "overloaded"), "1") == (refused(one_more), one_more.headers["retry-after"])
        slow.go.set()
        assert {200} == {move.result().status_code for move in moves}


def test_what_nobody_has_foreseen(plane: Plane, home: Path) -> None:
    """A bug is a 500 that tells nothing; a state that is away is a 503 with the reason, to be tried again."""
    with served(api_of(Slow(plane), settings_of(home))) as url, httpx.Client(base_url=url, trust_env=False) as client:
        failed = client.post("/v1/models/iris/rollback", json={})
        assert (500, "internal") == refused(failed)
        assert "secret" not in failed.text
        away = client.get("/v1/models/iris")
        assert ((503, "state_unavailable"), "1") == (refused(away), away.headers["retry-after"])
        assert {"status": "ok"} == {"status": client.get("/health").json()["status"]}


def test_the_document(client: httpx.Client) -> None:
    """The OpenAPI document is valid, has a schema for each answer and body, and the scope of each operation."""
    document = client.get("/openapi.json").json()
    validate(document)
    operations = {
        operation["operationId"]: operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    }
    assert {"publish", "move", "take_away", "rollback", "history", "apply", "remove"} <= set(operations)
    assert SCOPES >= {operation[SCOPE_KEY] for operation in operations.values()}
    used = set(re.findall(r'"#/components/schemas/(\w+)"', client.get("/openapi.json").text))
    assert used <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in used
    assert {"model", "alias", "before", "after", "revision"} <= set(
        document["components"]["schemas"]["MoveAnswer"]["properties"]
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("GET", "/v1/models", None, "ModelsAnswer"),
        ("GET", "/v1/models/iris", None, "ModelAnswer"),
        ("GET", "/v1/models/iris/history?at=2026-11-20T18:00:00%2B01:00", None, "HistoryAnswer"),
        ("PUT", CHAMPION, {"version": 1}, "MoveAnswer"),
        ("POST", "/v1/apply", {"declared": "models: {iris: {lazy: true}}", "dry_run": True}, "ApplyAnswer"),
        ("POST", "/v1/gc", {"dry_run": True}, "GarbageAnswer"),
        ("POST", "/v1/audit/seal", {}, "SealAnswer"),
        ("POST", "/v1/audit/erase", {"keys": ["anna"], "reason": "asked"}, "EraseAnswer"),
        ("GET", "/v1/audit/records", None, "RecordsAnswer"),
        ("GET", "/v1/audit/query?sql=SELECT+1+AS+one", None, "RowsAnswer"),
        ("GET", "/health", None, "HealthAnswer"),
        ("GET", "/v1/models/nobody", None, "ControlErrorBody"),
    ],
)
def test_answers_are_as_documented(client: httpx.Client, method: str, path: str, body: Any, kind: str) -> None:
    """Each answer fits the schema that the document gives for it, and is not to be kept by anybody."""
    document = client.get("/openapi.json").json()
    response = client.request(method, path, json=body)
    schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
    Draft202012Validator(schema).validate(response.json())
    assert ("no-store", "nosniff") == tuple(
        response.headers[name] for name in ("cache-control", "x-content-type-options")
    )


def test_a_caller_who_hangs_up(client: httpx.Client, home: Path) -> None:
    """A bundle that never comes to its end leaves nothing behind, and the next request is answered."""
    head = f"POST /v1/models/iris/versions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BUNDLE_MEDIA}\r\n"
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as connection:
        connection.sendall(f"{head}Content-Length: 5000\r\n\r\n".encode() + b"x" * 3000)
        wait_for(lambda: list((home / "transit").glob("*")), "the bundle is on its way in")
    wait_for(lambda: not list((home / "transit").glob("*")), "it is gone")
    assert 200 == client.get("/health").status_code


def test_a_head_that_never_ends(client: httpx.Client) -> None:
    """Headers have a limit: nobody fills the memory with them."""
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as connection:
        with contextlib.suppress(OSError):  # it may be closed before all is sent
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (4 << 20))
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP/1.1 4" == connection.recv(10)
    assert 200 == client.get("/health").status_code


def test_many_bundles_at_once(client: httpx.Client, home: Path) -> None:
    """Only so many bundles may be on their way in, as each may fill the disk; one more may come again."""
    path = "/v1/models/iris/versions"
    with contextlib.ExitStack() as stack:
        for _ in range(reading.UPLOADS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.base_url.port or 0)))
            connection.sendall(
                request(path, headers={"Host": "localhost", "Content-Length": "9", "Content-Type": BUNDLE_MEDIA})
            )
        wait_for(lambda: len(list((home / "transit").glob("*"))) == reading.UPLOADS, "all are on their way")
        one_more = client.post(path, content=b"x", headers=BUNDLE)
        assert ((503, "overloaded"), "1") == (refused(one_more), one_more.headers["retry-after"])
    wait_for(lambda: not list((home / "transit").glob("*")), "all are gone")
    assert (422, "bundle_refused") == refused(client.post(path, content=b"x", headers=BUNDLE))


def test_a_body_that_does_not_go_on(client: httpx.Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a thread or a file by sending slowly for ever."""
    monkeypatch.setattr(reading, "PATIENCE_S", 0.05)
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as connection:
        connection.sendall(request(CHAMPION, b"", method="PUT", headers={"Host": "localhost", "Content-Length": "9"}))
        answer = read_answer(connection)
    assert (400, "unreadable") == (answer.status, answer.json["error"]["code"])


def test_the_docs_page(client: httpx.Client) -> None:
    """The page shows each path and asks nobody else for anything."""
    response = client.get("/docs")
    tags: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))  # type: ignore[method-assign]
    parser.feed(response.text)
    addresses = {found[name] for _, found in tags for name in ("src", "href", "action") if name in found}
    assert {"data:,", "/openapi.json"} == addresses
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    tried = {found["data-path"] for _, found in tags if found.get("class") == "try"}
    log = {f"/v1/audit/{name}" for name in ("records", "query", "seal", "erase")}
    assert {"/v1/models", "/v1/apply", "/v1/gc", "/health", *log} == tried


def kinds(root: type[PenstockError]) -> Iterator[type[PenstockError]]:
    yield root
    for child in root.__subclasses__():
        yield from kinds(child)


def test_each_error_has_its_status() -> None:
    """Every kind of error that is not a prediction's or the client's own has a line of the table."""
    elsewhere = set(kinds(CallFailure)) | set(kinds(errors.ClientError)) | {PenstockError, errors.PackRefused}
    assert set(STATUS) == {kind for kind in kinds(PenstockError) if kind.__module__ == "penstock.errors"} - elsewhere
    assert 422 == status_of(errors.PackRefused("step", "reason", "advice"))
    assert (500, 500) == (status_of(PenstockError("?")), status_of(ValueError("?")))


def test_errors_travel() -> None:
    """The client raises what the controller raised: the same kind, the same words, reasons and all."""
    for kind in STATUS:
        if kind in (MoveRefused, errors.MissingExtra):
            continue
        there = kind("what happened")
        here = error_of(control_error_body(there), status_of(there), "http://x")
        assert (kind, "what happened") == (type(here), str(here))
    refusal = MoveRefused("it stays", ["one", "two"], may_force=True)
    here = error_of(control_error_body(refusal), 422, "http://x")
    assert isinstance(here, MoveRefused)
    assert (str(refusal), ["one", "two"], True) == (str(here), here.reasons, here.may_force)
    assert errors.ControlError is type(error_of(b"<html>", 502, "http://x"))
