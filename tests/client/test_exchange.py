"""The client's decisions: repeat, after which wait, or end."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.calls import Options, health_call, model_call, predict_call
from penstock.client.exchange import Attempt, Broken, Outcome, Reply, broken_by, reply_of, wait_s

PREDICT = predict_call("churn", {"age": 3}, Options())
LOOK = model_call("churn")

chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("outcome", "predict_again", "look_again"),
    [
        (Broken("refused", is_sent=False), True, True),
        (Broken("reset", is_sent=True), False, True),
        (Broken("late", is_sent=True, is_late=True), False, True),
        (Reply(429, b""), True, True),
        (Reply(503, b""), True, True),
        (Reply(200, b""), False, False),
        (Reply(422, b""), False, False),
        (Reply(500, b""), False, False),
        (Reply(502, b""), False, False),
        (Reply(504, b""), False, False),
    ],
)
def test_only_what_cannot_have_run_is_repeated(outcome: Outcome, predict_again: bool, look_again: bool) -> None:
    """A prediction is repeated only when it never ran; a look after any failure of the connection."""
    waits = [wait_s(call, outcome, Attempt(1, 10.0), retries=2, chance=0.5) for call in (PREDICT, LOOK)]
    assert [predict_again, look_again] == [wait is not None for wait in waits]


def test_an_unwell_health_is_not_repeated() -> None:
    """503 is one of the answers of /health."""
    assert wait_s(health_call(), Reply(503, b""), Attempt(1, 10.0), retries=2, chance=0.5) is None


@given(
    number=st.integers(1, 20),
    retries=st.integers(0, 20),
    left_s=st.floats(-1, 60),
    asked_s=st.floats(0, 120),
    chance=chances,
)
def test_waits_are_bounded(number: int, retries: int, left_s: float, asked_s: float, chance: float) -> None:
    """A wait ends before the call's time does, is never shorter than the server asked, and stops with the retries."""
    wait = wait_s(PREDICT, Reply(503, b"", asked_s), Attempt(number, left_s), retries=retries, chance=chance)
    if wait is None:
        assert number > retries or left_s <= max(5.0, asked_s)
    else:
        assert number <= retries
        assert max(0.05, asked_s) <= wait < left_s
        assert wait <= max(5.0, asked_s)


@given(number=st.integers(1, 30), low=chances, high=chances)
def test_waits_double(number: int, low: float, high: float) -> None:
    """Up to the longest wait, any wait of an attempt is at most any wait of the next."""
    this, following = (
        wait_s(LOOK, Broken("x", is_sent=False), Attempt(n, 1e9), retries=99, chance=chance)
        for n, chance in ((number, low), (number + 1, high))
    )
    assert this is not None
    assert following is not None
    assert this <= following or following >= 2.5


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:09 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], expected_s: float) -> None:
    """Retry-After is read in both forms of HTTP; a date against the server's own clock."""
    assert Reply(503, b"x", expected_s) == reply_of(httpx.Response(503, headers=headers), b"x")


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40))
def test_any_retry_after_is_read(text: str) -> None:
    """No text in Retry-After stops the client."""
    headers = {"retry-after": text.encode("latin-1"), "date": b"Wed, 21 Oct 2026 07:28:00 GMT"}
    response = httpx.Response(
        503,
        headers=[
            (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()
        ],
    )
    assert reply_of(response, b"").retry_after_s >= 0


@pytest.mark.parametrize(
    ("error", "is_sent", "is_late"),
    [
        (httpx.ConnectError("refused"), False, False),
        (httpx.ConnectTimeout("late"), False, True),
        (httpx.PoolTimeout("late"), False, True),
        (httpx.ReadTimeout("late"), True, True),
        (httpx.WriteError("reset"), True, False),
        (httpx.RemoteProtocolError("closed"), True, False),
        (TimeoutError("late"), True, True),
    ],
)
def test_failures_tell_whether_the_request_was_sent(
    error: httpx.RequestError | TimeoutError, is_sent: bool, is_late: bool
) -> None:
    """Only when no connection was made is it certain that nothing was sent."""
    assert Broken(str(error), is_sent, is_late) == broken_by(error)
