"""Feedback: what came true of predictions, into the worker's own log. A call is read whole or refused whole.

`POST /v1/feedback` takes one statement or a list of them; each becomes a record of kind `feedback`, as durable as an
answer. Whether there is such a prediction only the join knows (`audit/feedback.py`): it may be of another worker.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec

from penstock.audit import AuditLog, Masked, Privacy, Record, RequestIds, tag
from penstock.errors import (
    CallFailure,
    InternalFailure,
    Overloaded,
    RecordFailed,
    SchemaViolation,
    TooLarge,
    Unreadable,
    Violation,
)
from penstock.runtime import Host
from penstock.server.call import Call, Reply
from penstock.server.failures import is_refusal
from penstock.server.intake import Intake
from penstock.server.measures import FEEDBACK, Measures
from penstock.server.protocols.own import Own
from penstock.server.protocols.reading import generic
from penstock.server.witness import Witness

MOST_STATEMENTS: Final = 1000
_MOST_VIOLATIONS: Final = 100
_MOST_CHARS: Final = 128
_MOST_TARGETS: Final = 100
_MEMBERS: Final = ("request_id", "key", "model", "index", "actual", "at")
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNLISTED: Final = Masked("unlisted")


class Statements(Own):
    """The face of feedback: our own JSON, and an answer that is made already."""

    name = FEEDBACK

    def answer(self, call: Call) -> bytes:
        """How many statements were taken."""
        return call.reply.encoded


class Statement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came true of one prediction: of row `index` of the call `request_id`, or of the last call for `key` to
    `model` before it. `at` is since when it is known.
    """

    request_id: str | None = None
    key: str | None = None
    model: str | None = None
    index: int = 0
    actual: Any
    at: datetime | None = None


class Taken(msgspec.Struct, frozen=True):
    """The answer: how many statements were taken, and of how many the actual is a text that no served model knows as a
    label, or has a target that none knows; of those it is kept that they came, not what was said.
    """

    request_id: str
    taken: int
    unlisted: int


class Feedback:
    """Takes feedback. One per worker, on its event loop; not thread-safe."""

    def __init__(
        self,
        host: Host,
        log: AuditLog,
        *,
        witness: Witness,
        measures: Measures,
        intake: Intake,
        privacy: Privacy | None = None,
    ) -> None:
        self._host = host
        self._log = log
        self._witness = witness
        self._intake = intake
        self._privacy = privacy if privacy is not None else Privacy()
        self._ids = RequestIds()
        self._known_of: object = None
        self._words: frozenset[str] = frozenset()
        self._measures = measures

    def start(self, call: Call) -> None:
        """Take in `call`; `call.done` gets it back once its statements are recorded, its answer in `reply.encoded`, or
        with a failure. Never raises.
        """
        reply = call.reply = Reply(self._ids.next(), self._ids.at)
        taken = 0
        try:
            if call.failure is not None:
                raise call.failure
            statements = self._read(call.body)
            records = [self._record(call, each) for each in statements]
            for record in records:
                self._log.append(record)
            taken = len(records)
            unlisted = sum(map(self._is_unlisted, statements))
            reply.encoded = msgspec.json.encode(Taken(reply.request_id, taken, unlisted))
        except CallFailure as failure:
            self._refuse(call, failure)
        except Exception as bug:  # the edge of a call: whatever it is, the caller gets an answer and the log a record
            self._witness.bug(reply.request_id, bug)
            self._refuse(call, InternalFailure(_BUG.format(reply.request_id)))
        self._log.on_flushed(partial(self._recorded, call, taken))

    def _recorded(self, call: Call, taken: int, unwritten: Exception | None) -> None:
        reply = call.reply
        if isinstance(unwritten, RecordFailed):
            reply.failure = unwritten
        self._intake.held_bytes -= len(call.body)
        if reply.failure is None:
            self._measures.fed("recorded", taken)
        else:
            self._measures.fed("refused" if is_refusal(reply.failure) else "failed")
        call.done(call)

    def _refuse(self, call: Call, failure: CallFailure) -> None:
        """Note the refusal: as of a prediction, the length and hash of the body and never its content."""
        reply = call.reply
        reply.failure = failure.with_traceback(None)
        is_cheap = isinstance(failure, Overloaded) or not call.body
        self._log.append(
            Record(
                kind="refusal" if is_refusal(failure) else "failure",
                code=failure.code,
                request_id=reply.request_id,
                at=reply.at,
                client_id=self._privacy.client_id(call.client_id),
                trace_id=None if call.trace is None else call.trace.trace_id,
                principal=call.principal,
                protocol=FEEDBACK,
                violations=failure.recorded if isinstance(failure, SchemaViolation) else (),
                body_bytes=len(call.body) or None,
                body_sha256=None if is_cheap else hashlib.sha256(call.body).hexdigest(),
                total_ms=(time.monotonic_ns() - call.arrived_ns) // 1000 / 1e3,
            )
        )

    def _record(self, call: Call, statement: Statement) -> Record:
        reply = call.reply
        said: dict[str, Any] = {"index": statement.index, "actual": self._kept(statement.actual)}
        if statement.at is not None:
            said["at"] = statement.at
        return Record(
            kind="feedback",
            request_id=statement.request_id or reply.request_id,
            at=reply.at,
            client_id=self._privacy.client_id(call.client_id),
            trace_id=None if call.trace is None else call.trace.trace_id,
            principal=call.principal,
            model=statement.model,
            protocol=FEEDBACK,
            key=self._privacy.key(statement.key),
            input=tag([said]),
            rows=1,
        )

    def _kept(self, actual: Any) -> Any:
        words = [actual] if isinstance(actual, str) else actual if isinstance(actual, dict) else ()
        return actual if self._known.issuperset(words) else _UNLISTED

    def _is_unlisted(self, statement: Statement) -> bool:
        return self._kept(statement.actual) is _UNLISTED

    @property
    def _known(self) -> frozenset[str]:
        """The labels that are texts, and the targets, of all versions that are served; looked up again when these
        change.
        """
        if self._known_of is not self._host.table:
            outputs = [model.bundle.outputs for model in self._host.models()]
            words = (word for each in outputs for word in (*each.classes, *each.targets))
            self._words = frozenset(word for word in words if isinstance(word, str))
            self._known_of = self._host.table
        return self._words

    def _read(self, body: bytes) -> list[Statement]:
        """The statements of a body. Raises Unreadable, TooLarge, and SchemaViolation naming every place."""
        sent = generic(body)
        is_list = isinstance(sent, list)
        if not is_list and not isinstance(sent, dict):
            raise Unreadable("send a statement as an object, or a list of such")
        each = sent if is_list else [sent]
        if len(each) > MOST_STATEMENTS:
            raise TooLarge(f"{len(each)} statements in one call, at most {MOST_STATEMENTS}: send them in several calls")
        found: list[Violation] = []
        if not each:
            found.append(Violation("$", "at least one statement", "none"))
        models = self._host.table.models
        for place, one in enumerate(each):
            found += _violations(one, f"$[{place}]" if is_list else "$", models)
        if found:
            raise SchemaViolation(found[:_MOST_VIOLATIONS], len(found))
        return [_statement(one) for one in each]


def _violations(sent: Any, path: str, models: Any) -> list[Violation]:
    """What is wrong with one statement. What came is shown by its type only: it may be about a person."""
    if not isinstance(sent, dict):
        return [Violation(path, "an object", _kind(sent))]
    found = []
    unknown = sum(name not in _MEMBERS for name in sent)
    if unknown:
        found.append(Violation(path, f"no members but {', '.join(_MEMBERS)}", f"{unknown} others"))
    if sent.get("request_id") is None and sent.get("key") is None:
        found.append(Violation(path, "`request_id`, or `key` and `model`", "neither"))
    elif sent.get("request_id") is not None and sent.get("key") is not None:
        found.append(Violation(path, "`request_id`, or `key` and `model`", "both"))
    if sent.get("key") is not None and sent.get("model") is None:
        found.append(Violation(f"{path}.model", "the model, where a `key` is given", "none"))
    for name, (expected, is_right) in _RULES.items():
        value = sent.get(name)
        if value is not None and not is_right(value):
            found.append(Violation(f"{path}.{name}", expected, _kind(value)))
    model = sent.get("model")
    if isinstance(model, str) and model not in models:
        found.append(Violation(f"{path}.model", "a model that is served here", "another name"))
    if sent.get("actual") is None:
        found.append(Violation(f"{path}.actual", _ACTUAL, "null" if "actual" in sent else "none"))
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MOST_CHARS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_actual(value: Any) -> bool:
    if isinstance(value, dict):
        return 0 < len(value) <= _MOST_TARGETS and all(map(_is_text, value)) and all(map(_is_number, value.values()))
    return isinstance(value, bool) or _is_number(value) or _is_text(value)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_instant(value: Any) -> bool:
    return isinstance(value, str) and _instant(value) is not None


def _instant(text: str) -> datetime | None:
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    return found if found.tzinfo is not None else None


_ACTUAL: Final = f"a label (at most {_MOST_CHARS} characters), a number, or an object of numbers by target"
_RULES: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "request_id": ("the `request_id` of an answer", lambda id: isinstance(id, str) and bool(_REQUEST_ID.fullmatch(id))),
    "key": (f"a text of 1 to {_MOST_CHARS} characters", _is_text),
    "model": ("the name of a model", _is_text),
    "index": ("the number of a row, from 0", _is_index),
    "actual": (_ACTUAL, _is_actual),
    "at": ("an RFC 3339 time with its offset", _is_instant),
}


def _statement(sent: dict[str, Any]) -> Statement:
    at = sent.get("at")
    return Statement(
        request_id=sent.get("request_id"),
        key=sent.get("key"),
        model=sent.get("model"),
        index=sent.get("index") or 0,
        actual=sent["actual"],
        at=None if at is None else _instant(at),
    )


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "something else")


_KINDS: Final = {
    str: "another text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_BUG: Final = "something went wrong inside the server; the operator finds it in the log under request id {}"
