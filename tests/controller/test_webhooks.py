"""Webhooks: every event arrives, signed, whatever receivers, processes and databases do in between."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loads import wait_for
from penstock.control.changes import Change, Event, Moved, Published, Tried, Who
from penstock.control.outbox import Delivery
from penstock.control.sql_store import SqlStore
from penstock.controller.cloud_events import cloud_event, key_of, signed
from penstock.controller.webhooks import KINDS, Courier, Pace, couriers
from penstock.errors import SettingsError, StateUnavailable
from penstock.settings import Settings, WebhookSettings
from receivers import Receiver, free_port, receiver

QUICK = Pace(poll_s=0.02, timeout_s=0.5, lease_s=30, first_wait_s=0.02, longest_wait_s=0.1, database_s=0.05)
FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret of the tests"


def event(revision: int, change: Change | None = None, model: str = "churn") -> Event:
    return Event(
        revision=revision,
        at=FIRST + timedelta(seconds=revision),
        who=Who("ana@quay"),
        model=model,
        change=change or Moved(alias="champion", before=1, after=2),
        reason="why not",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A state with one event, from before anybody listened."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as found:
        found.append([event(1)])
        yield found


@contextlib.contextmanager
def at_work(*all_: Courier) -> Iterator[None]:
    """Couriers, each in a thread of its own, while the block runs."""
    threads = [threading.Thread(target=courier.run) for courier in all_]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for courier in all_:
            courier.stop()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def courier(store: SqlStore, to: Receiver | str, name: str = "ops", **more: object) -> Courier:
    """A courier that has been asked once, so that it hears of what comes from now on."""
    url = to if isinstance(to, str) else to.url
    store.deliveries_due(name, datetime.now(UTC), lease_s=0.0)
    return Courier(name, WebhookSettings(url=url, **more), store, pace=QUICK)  # type: ignore[arg-type]


def test_an_event_arrives(store: SqlStore) -> None:
    """What happens after a receiver is known is told to it once, as a CloudEvent with a signature that fits."""
    with receiver() as ops, at_work(courier(store, ops, secret=SECRET)):
        store.append([event(2), event(3, Tried(version=2, node="quay", why="no room"), "iris")])
        wait_for(lambda: len(ops.taken) == 2, "both events")
    first, second = ops.taken
    assert [2, 3] == ops.revisions
    assert "application/cloudevents+json; charset=utf-8" == first.headers["content-type"]
    told = first.event
    assert ("1.0", "dev.penstock.model.moved", "/penstock", "models/churn", "application/json") == tuple(
        told[name] for name in ("specversion", "type", "source", "subject", "datacontenttype")
    )
    assert FIRST + timedelta(seconds=2) == datetime.fromisoformat(told["time"])
    assert event(2) == msgspec.convert(told["data"], Event)
    assert "dev.penstock.model.tried" == second.event["type"]
    assert told["id"] == first.headers["webhook-id"] != second.headers["webhook-id"]
    text = f"{told['id']}.{first.headers['webhook-timestamp']}.".encode() + first.body
    mark = base64.b64encode(hmac.digest(SECRET.encode(), text, hashlib.sha256)).decode()
    assert f"v1,{mark}" == first.headers["webhook-signature"]


def test_no_secret_no_signature(store: SqlStore) -> None:
    """Without a secret there is nothing to sign with."""
    with receiver() as ops, at_work(courier(store, ops)):
        store.append([event(2)])
        wait_for(lambda: ops.taken, "the event")
    assert "webhook-signature" not in ops.taken[0].headers


def test_kinds(store: SqlStore) -> None:
    """A receiver that wants some kinds hears of no others, and they do not come later."""
    with receiver() as ops, at_work(courier(store, ops, kinds=("moved",))):
        published = Published(version=2, digest="sha256:ab", seal="sha256:cd", size_bytes=1, flavour="onnx")
        store.append([event(2, published), event(3), event(4, published), event(5)])
        wait_for(lambda: len(ops.taken) == 2, "both moves")
    assert [3, 5] == ops.revisions
    assert [] == store.deliveries_due("ops", datetime.now(UTC) + timedelta(days=9))


@pytest.mark.parametrize("answer", [500, 503, 429, 404, 302, 400, None])
def test_a_receiver_that_comes_back(store: SqlStore, answer: int | None) -> None:
    """One that fails, refuses, redirects or hangs gets every event, under the same id, once it takes them."""
    with receiver() as ops:
        ops.answer = answer
        ops.more = {"location": "http://127.0.0.1:1/elsewhere", "retry-after": "0"}
        with at_work(courier(store, ops)):
            store.append([event(2), event(3)])
            wait_for(lambda: len(ops.got) >= 3, "three attempts")
            ops.answer = 200
            ops.let_go.set()
            wait_for(lambda: {2, 3} <= set(ops.revisions), "both events")
    assert 2 == len({received.event["id"] for received in ops.got})
    assert {"/hook"} == {received.path for received in ops.got}


def test_an_event_that_is_refused(store: SqlStore) -> None:
    """One that the receiver does not want holds up none behind it, and is offered again."""
    with receiver() as ops:
        ops.refuses = {2}
        with at_work(courier(store, ops)):
            store.append([event(2), event(3), event(4)])
            wait_for(lambda: len(ops.taken) == 2, "those behind it")
            ops.refuses = set()
            wait_for(lambda: len(ops.taken) == 3, "the one that was refused")
    assert [3, 4, 2] == ops.revisions


def test_a_receiver_that_is_not_there_yet(store: SqlStore) -> None:
    """Events wait for a receiver that does not listen."""
    port = free_port()
    with at_work(courier(store, f"http://127.0.0.1:{port}/hook")):
        store.append([event(number) for number in range(2, 12)])
        with receiver(port) as ops:
            wait_for(lambda: len(ops.taken) >= 10, "all events")
    assert list(range(2, 12)) == sorted(set(ops.revisions))


def test_a_dead_receiver_holds_up_nobody(store: SqlStore) -> None:
    """While one hangs and one is away, the third hears of everything, in order."""
    with receiver() as hangs, receiver() as ops:
        hangs.answer = None
        away = courier(store, f"http://127.0.0.1:{free_port()}/", "away")
        with at_work(courier(store, hangs, "hangs"), away, courier(store, ops)):
            store.append([event(number) for number in range(2, 32)])
            wait_for(lambda: len(ops.taken) == 30, "all events")
            hangs.let_go.set()
    assert list(range(2, 32)) == ops.revisions


def test_nothing_is_lost_with_a_courier(store: SqlStore, tmp_path: Path) -> None:
    """What one had claimed and not delivered when it ended is delivered by the next, after the claim has run out."""
    with receiver() as ops:
        courier(store, ops)
        store.append([event(2), event(3)])
        [claimed] = store.deliveries_due("ops", datetime.now(UTC), lease_s=0.2, limit=1)  # and its process is killed
        assert 2 == claimed.event.revision
        with contextlib.closing(SqlStore(None, home=tmp_path)) as again, at_work(courier(again, ops)):
            wait_for(lambda: len(ops.taken) == 2, "both events")
    assert {2, 3} == set(ops.revisions)


def test_of_several_couriers_one_delivers(store: SqlStore, tmp_path: Path) -> None:
    """Three controllers with the same receiver tell it of each event once."""
    with receiver() as ops, contextlib.ExitStack() as stack:
        stores = [stack.enter_context(contextlib.closing(SqlStore(None, home=tmp_path))) for _ in range(2)]
        with at_work(*(courier(each, ops) for each in (store, *stores))):
            for number in range(2, 42):
                store.append([event(number)])
            wait_for(lambda: len(ops.taken) >= 40, "all events")
    assert list(range(2, 42)) == sorted(ops.revisions)


def test_a_failing_receiver_is_told_of_once(store: SqlStore, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that a receiver is away, and that it is back; not each attempt, never its address or the secret."""
    caplog.set_level(logging.INFO, "penstock")
    with receiver() as ops:
        ops.answer = 500
        with at_work(courier(store, ops, secret=SECRET)):
            store.append([event(2)])
            wait_for(lambda: len(ops.got) >= 4, "four attempts")
            ops.answer = 200
            wait_for(lambda: ops.taken, "the event")
            wait_for(lambda: "again" in caplog.messages[-1], "the line that it is back")
    lines = [record for record in caplog.records if record.name == "penstock"]
    assert ["WARNING", "INFO"] == [record.levelname for record in lines]
    assert not [record for record in lines if "/hook" in record.getMessage() or SECRET in record.getMessage()]


class Away(SqlStore):
    """A state that cannot be reached until it is told to be there."""

    is_there = False

    def deliveries_due(self, *words: Any, **more: Any) -> list[Delivery]:
        if not self.is_there:
            raise StateUnavailable("no route to the database")
        return super().deliveries_due(*words, **more)


def test_a_database_that_comes_back(store: SqlStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the state is away nothing is delivered, which is said once; then everything is."""
    with receiver() as ops, contextlib.closing(Away(None, home=tmp_path)) as away:
        courier(store, ops)
        store.append([event(2)])
        with at_work(Courier("ops", WebhookSettings(url=ops.url), away, pace=QUICK)):
            wait_for(lambda: caplog.messages, "the line that the state is away")
            assert [] == ops.got
            away.is_there = True
            wait_for(lambda: ops.taken, "the event")
    assert 1 == len([record for record in caplog.records if record.name == "penstock"])


def test_back_off() -> None:
    """Waits double from a second to an hour, spread over their upper half."""
    pace = Pace()
    assert [0.5, 1.0, 2.0, 4.0] == [pace.wait_s(failed, 0.0) for failed in (1, 2, 3, 4)]
    assert 3600.0 == pace.wait_s(10**6, 1.0)
    assert 1800.0 <= pace.wait_s(40, 0.3) < 3600.0


def test_settings_of_receivers() -> None:
    """Each receiver has its courier; kinds that there are not, and URLs that are none, are refused by name."""
    hook = WebhookSettings(url="https://ops.example/hook")
    assert 2 == len(couriers(Settings(webhooks={"ops": hook, "ci": hook}), None))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"webhooks\.ops\.kinds"):
        Courier("ops", WebhookSettings(url=hook.url, kinds=("deployed",)), None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"webhooks\.ops\.url"):
        Courier("ops", WebhookSettings(url="http://x:ab/"), None)  # type: ignore[arg-type]
    of_models = {"published", "moved", "removed", "configured", "weighed", "tried", "serving", "rolled"}
    assert of_models | {"exported", "erased", "retained"} == set(KINDS)


def test_keys() -> None:
    """A secret is its own bytes, or Base64 behind `whsec_`, as the libraries of Standard Webhooks have it."""
    assert (b"plain and long enough", b"key", b"whsec_no base64") == (
        key_of("plain and long enough"),
        key_of("whsec_" + base64.b64encode(b"key").decode()),
        key_of("whsec_no base64"),
    )
    # The example of the specification (https://www.standardwebhooks.com, "Verifying").
    body = b'{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    marks = signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", body, at=at)
    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == marks["webhook-signature"]


def test_ids() -> None:
    """An event has the same id at each attempt; the same revision of another state has another one."""
    again = msgspec.structs.replace(event(1), at=FIRST)
    assert cloud_event(event(1))[1]["webhook-id"] == cloud_event(event(1))[1]["webhook-id"]
    assert cloud_event(event(1))[1]["webhook-id"] != cloud_event(again)[1]["webhook-id"]
