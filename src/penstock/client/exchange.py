"""What came back, and what to do about it: again after a wait, an answer, or an error. Pure; both faces follow it.

A prediction is recorded by the server, so it is sent again only when it cannot have run: the connection was never
made, or the server says so (429, 503). A look (GET) is sent again after any failure of the connection.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import httpx
import msgspec

from penstock.client.answers import ErrorBody
from penstock.client.calls import Body, Call
from penstock.errors import ClientError, ServerRefused, ServerUnreachable

_AGAIN = (429, 503)
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_SHOWN_VIOLATIONS = 5
_SHOWN_CHARS = 200
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer, read to its end. `retry_after_s`: how long the server asks to be left alone."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


class Broken(msgspec.Struct, frozen=True):
    """No answer, or not a whole one. `is_sent`: the request may have reached the server."""

    reason: str
    is_sent: bool
    is_late: bool = False


Outcome: TypeAlias = Reply | Broken


class Attempt(msgspec.Struct, frozen=True):
    """Where a call stands: how many attempts are behind it (this one included) and how much of its time is left."""

    number: int
    left_s: float


def broken_by(error: httpx.RequestError | TimeoutError) -> Broken:
    """The outcome of an attempt that ended in `error`."""
    is_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    reason = str(error) or type(error).__name__
    return Broken(reason, is_sent, is_late=isinstance(error, httpx.TimeoutException | TimeoutError))


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """The outcome of an attempt that was answered."""
    return Reply(response.status_code, body, _retry_after_s(response.headers))


def wait_s(call: Call[Body], outcome: Outcome, attempt: Attempt, *, retries: int, chance: float) -> float | None:
    """Seconds to wait before `call` is sent again, or None if `outcome` is its end.

    The wait doubles from 0.1 s to at most 5 s, spread by `chance` in [0, 1) over its upper half, and is never shorter
    than the server's Retry-After. A wait that would outlast the call's time is not begun.
    """
    if attempt.number > retries or not _may_repeat(call, outcome):
        return None
    doubled_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt.number - 1))
    pause_s = doubled_s * (0.5 + chance / 2)
    if isinstance(outcome, Reply):
        pause_s = max(pause_s, outcome.retry_after_s)
    return pause_s if pause_s < attempt.left_s else None


def result(call: Call[Body], outcome: Outcome, *, url: str, timeout_s: float) -> Body:
    """The answer in `outcome`; else raises `ServerUnreachable`, `ServerRefused`, or `ClientError` (unreadable)."""
    if isinstance(outcome, Broken):
        raise _unreachable(call, outcome, url=url, timeout_s=timeout_s)
    if outcome.status in call.answers:
        try:
            return msgspec.json.decode(outcome.body, type=call.body_type)
        except _UNREADABLE as error:
            if outcome.status == 200:
                raise ClientError(
                    f"Expected a Penstock server's answer to {call.method} {call.path}, got {_shown(outcome.body)} "
                    f"({error}) - at {url}. Check the address."
                ) from error
    raise _refused(call, outcome, url)


def _may_repeat(call: Call[Body], outcome: Outcome) -> bool:
    if isinstance(outcome, Broken):
        return call.is_safe or not outcome.is_sent
    return outcome.status in _AGAIN and outcome.status not in call.answers


def _retry_after_s(headers: httpx.Headers) -> float:
    """Seconds of a Retry-After header, a number or an HTTP date (RFC 9110, 10.2.3); 0 if there is none to read.

    A date is compared with the server's own clock, as its Date header tells it.
    """
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        after, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
    except (KeyError, ValueError):
        return 0.0
    return max(0.0, (after.replace(tzinfo=UTC) - now.replace(tzinfo=UTC)).total_seconds())


def _unreachable(call: Call[Body], broken: Broken, *, url: str, timeout_s: float) -> ServerUnreachable:
    doubt = "" if call.is_safe else " The server may have made and recorded the prediction."
    if not broken.is_sent:
        return ServerUnreachable(f"No connection to {url}: {broken.reason}. Is the server running there?")
    if broken.is_late:
        return ServerUnreachable(f"No whole answer from {url} within {timeout_s:g} s (`timeout_s`).{doubt}")
    return ServerUnreachable(f"The connection to {url} ended before the answer: {broken.reason}.{doubt}")


def _refused(call: Call[Body], reply: Reply, url: str) -> ServerRefused:
    try:
        detail = msgspec.json.decode(reply.body, type=ErrorBody).error
    except _UNREADABLE:
        return ServerRefused(
            f"{reply.status} to {call.method} {call.path}, with {_shown(reply.body)} in place of a Penstock error body "
            f"- at {url}. Check the address and what stands between.",
            status=reply.status,
            server_code="unknown",
        )
    lines = [f"{reply.status} {detail.code}: {detail.message}"]
    if detail.request_id is not None:
        lines[0] += f" (request id {detail.request_id})"
    if len(detail.violations) > 1:
        lines += [f"  {violation}" for violation in detail.violations[:_SHOWN_VIOLATIONS]]
    if len(detail.violations) > _SHOWN_VIOLATIONS:
        lines.append(f"  and {len(detail.violations) - _SHOWN_VIOLATIONS} more, in `violations`")
    return ServerRefused(
        "\n".join(lines),
        status=reply.status,
        server_code=detail.code,
        request_id=detail.request_id,
        violations=detail.violations,
    )


def _shown(body: bytes) -> str:
    return repr(body[:_SHOWN_CHARS].decode("utf-8", "replace")) if body else "an empty body"
