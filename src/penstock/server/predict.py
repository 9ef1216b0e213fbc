"""The hot path: every protocol's call comes through `Predict.__call__`, and nothing else is on it.

choose the version → hold it → read and check the rows → run → build the record → write it → reply. A refusal or a
failure goes the same way with a record of its own. It awaits only what a `Flight` can wait for: the batcher's run,
and the log's flush, which is one write for all records of a tick before any of their replies leaves.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from penstock.audit import Answered, AuditLog, FellBack, Masker, Record, RequestIds, opening_of
from penstock.errors import (
    CallFailure,
    InternalFailure,
    ModelFailed,
    ModelUnavailable,
    NotReady,
    Overloaded,
    RecordFailed,
    SchemaViolation,
)
from penstock.runtime import Host, ResponseCache, Scored, Served, Wait
from penstock.server.call import Asked, Call, Face, Reply, Spoken
from penstock.server.failures import is_refusal
from penstock.server.intake import Intake
from penstock.server.measures import Measures
from penstock.server.witness import Witness

Outcome: TypeAlias = tuple[Spoken | None, Asked | None, Scored | None]

_ENCODE = msgspec.json.Encoder().encode
_RUN_FAILED: Final = (ModelFailed,)
"""Failures of a run, by which the breaker counts. A process that is away fails calls at once, and is back sooner than a
breaker that had opened for it."""

_CHEAP: Final = (ModelUnavailable, Overloaded)
"""Refusals under load: nothing of the body is looked at."""

_COVERED: Final = (ModelFailed, ModelUnavailable, NotReady, Overloaded)
"""Failures that a declared fallback covers."""


class Predict:
    """Answers calls. One per worker, on its event loop; run by `Flight`, never as a task."""

    def __init__(
        self,
        host: Host,
        log: AuditLog,
        *,
        measures: Measures,
        witness: Witness,
        max_rows: int,
        intake: Intake | None = None,
        cache: ResponseCache | None = None,
    ) -> None:
        self._host = host
        self._log = log
        self._measures = measures
        self._witness = witness
        self._seen_from_ms = witness.from_ms
        self._max_rows = max_rows
        self._cache = cache
        self._ids = RequestIds()
        self.intake = intake if intake is not None else Intake()

    async def __call__(self, call: Call) -> Reply:
        """The reply to `call`, recorded. Never raises."""
        reply = Reply(self._ids.next(), datetime.now(UTC))
        served: Served | None = None
        spoken: Spoken | None = None
        asked: Asked | None = None
        scored: Scored | None = None
        try:
            if call.failure is not None:
                raise call.failure
            content = call.face.open(call)
            served = self._host.choose(call.model, call.version, call.alias)
            served.hold()
            reply.model = served.model
            is_strained = served.breaker.is_open or served.batcher.rows >= served.batcher.most_rows
            if is_strained and served.fallback is None and self._cache is None:
                served.require_open()  # before its rows are read: this refusal must be cheap
            spoken = served.spoken.get(call.face.name) or self._speak(call.face, served)
            asked = spoken.read(content)
            keys = () if self._cache is None else self._cache.keys(served.model, asked.rows)
            if not keys or not self._recall(served, keys, reply):
                if is_strained:
                    served.admit(call)
                call.batcher = served.batcher
                call.ticket = served.batcher.submit(asked.rows, call.deadline_ns)
                scored = await call.ticket
                reply.predictions = scored.predictions
                reply.encoded = msgspec.Raw(_ENCODE(scored.predictions))
                if served.breaker.failed:
                    served.breaker.succeed()
                if keys:
                    self._keep(served, keys, scored)
        except CallFailure as failure:
            reply.failure = failure.with_traceback(None)  # which holds this frame, and so the reply: a circle
        except Exception as bug:  # the edge of a call: whatever it is, the caller gets an answer and the log a record
            self._fail_by(bug, reply)
        if reply.failure is not None and served is not None:
            _tell_breaker(served, call, reply.failure)
            if served.fallback is not None and asked is not None and isinstance(reply.failure, _COVERED):
                spoken, asked, scored = await self._fall_back(call, reply, served, (spoken, asked))
        reply.latency_ms = _since_ms(call.arrived_ns)
        try:
            if spoken is None or asked is None or scored is None or reply.failure or reply.fallback:
                self._log.append(self._record(call, reply, asked, scored, spoken=spoken))
            else:
                self._log.append(self._answered(call, reply, asked, scored, masker=spoken.masker), spoken.opening)
            written: Wait[Exception | None] = Wait()
            self._log.on_flushed(written.settle)
            unwritten = await written
            if isinstance(unwritten, RecordFailed):
                reply.failure = unwritten
        except Exception as bug:  # the edge of a call, as above: no record, so no answer
            self._fail_by(bug, reply)
        self._measures.count(call, reply, scored)
        if reply.failure is not None or reply.latency_ms >= self._seen_from_ms:
            self._witness.saw(call, reply, asked, scored)
        self.intake.held_bytes -= len(call.body)
        if served is not None:
            served.release()
        return reply

    def _speak(self, face: Face, served: Served) -> Spoken:
        """Make what a protocol needs of a loaded version, at its first call."""
        model = served.model
        opening = opening_of(model=model.name, version=model.version, digest=model.digest, protocol=face.name)
        spoken = Spoken(face.reader(model.check, self._max_rows), Masker(model.schema), opening)
        served.spoken[face.name] = spoken
        return spoken

    def _fail_by(self, bug: Exception, reply: Reply) -> None:
        self._witness.bug(reply.request_id, bug)
        reply.failure = InternalFailure(_BUG.format(reply.request_id))

    def _recall(self, served: Served, keys: Sequence[bytes], reply: Reply) -> bool:
        """Answer from the cache, if all rows are there."""
        found = None if self._cache is None else self._cache.find(served.model, keys)
        if found is None:
            return False
        reply.predictions, reply.encoded, reply.is_cached = found[0], msgspec.Raw(found[1]), True
        return True

    def _keep(self, served: Served, keys: Sequence[bytes], scored: Scored) -> None:
        if self._cache is not None and not served.is_leaving:  # a swap empties the cache
            self._cache.keep(keys, scored.predictions)

    async def _fall_back(self, call: Call, reply: Reply, served: Served, read: tuple[Spoken | None, Asked]) -> Outcome:
        """Let the declared fallback answer in place of the model that could not."""
        spoken, asked = read
        failure, fallback = reply.failure, served.fallback
        if failure is None or fallback is None:
            return spoken, asked, None
        scored: Scored | None = None
        try:
            if fallback.kind == "version":
                spoken, asked, scored = await self._ask_other(call, reply, served.model.name, fallback.version)
            else:
                reply.predictions = fallback.predictions(len(asked.rows))
                reply.encoded = msgspec.Raw(_ENCODE(reply.predictions))
        except CallFailure:
            return spoken, asked, None  # the other version cannot answer either: the first failure stands
        except Exception as bug:  # the edge of a call, as above
            self._fail_by(bug, reply)
            return spoken, asked, None
        reply.failure = None
        reply.fallback = FellBack(fallback.kind, failure.code, served.model.version)
        self._measures.fell_back(served.model, fallback.kind)
        self._witness.fell_back(reply)
        return spoken, asked, scored

    async def _ask_other(
        self, call: Call, reply: Reply, name: str, version: int | None
    ) -> tuple[Spoken, Asked, Scored]:
        """The answer of another loaded version, to the same body read by its own schema. Raises CallFailure."""
        other = self._host.choose(name, version, None)
        other.hold()
        try:
            spoken = other.spoken.get(call.face.name) or self._speak(call.face, other)
            asked = spoken.read(call.face.open(call))
            other.admit(call)
            call.batcher = other.batcher
            call.ticket = other.batcher.submit(asked.rows, call.deadline_ns)
            scored = await call.ticket
            other.breaker.succeed()
        except _RUN_FAILED:
            other.breaker.fail(call)
            raise
        finally:
            other.breaker.end(call)
            other.release()
        reply.model = other.model
        reply.predictions = scored.predictions
        reply.encoded = msgspec.Raw(_ENCODE(scored.predictions))
        return spoken, asked, scored

    def _answered(self, call: Call, reply: Reply, asked: Asked, scored: Scored, *, masker: Masker) -> Answered:
        """What is kept of an answered call, beyond its opening."""
        raw, undeclared = (None, 0) if asked.raw is None else masker.raw(asked.raw)
        return Answered(
            reply.request_id,
            reply.at,
            masker.rows(asked.rows),
            reply.encoded,
            len(asked.rows),
            scored.batch_rows,
            scored.queue_ms,
            scored.run_ms,
            reply.latency_ms,
            call.client_id,
            call.principal,
            asked.key or call.key,
            raw,
            undeclared,
            None if call.trace is None else call.trace.trace_id,
        )

    def _record(
        self, call: Call, reply: Reply, asked: Asked | None, scored: Scored | None, *, spoken: Spoken | None
    ) -> Record:
        """What is kept of any other call; of a body that was not read or broke the schema, length and hash."""
        model, failure = reply.model, reply.failure
        masker = None if spoken is None else spoken.masker
        unread = call.body if asked is None and call.body else None
        is_hashed = unread is not None and not isinstance(failure, _CHEAP)
        raw, undeclared = (None, 0) if masker is None or asked is None or asked.raw is None else masker.raw(asked.raw)
        return Record(
            kind="prediction" if failure is None else "refusal" if is_refusal(failure) else "failure",
            code="ok" if failure is None else failure.code,
            request_id=reply.request_id,
            at=reply.at,
            client_id=call.client_id,
            trace_id=None if call.trace is None else call.trace.trace_id,
            principal=call.principal,
            model=call.model if model is None else model.name,
            version=call.version if model is None else model.version,
            digest=None if model is None else model.digest,
            protocol=call.face.name,
            key=call.key if asked is None else asked.key or call.key,
            input=None if masker is None or asked is None else masker.rows(asked.rows),
            raw=raw,
            undeclared=undeclared,
            outputs=reply.encoded if failure is None else None,
            violations=tuple(failure.violations) if isinstance(failure, SchemaViolation) else (),
            body_bytes=None if unread is None else len(unread),
            body_sha256=hashlib.sha256(call.body).hexdigest() if is_hashed else None,
            rows=0 if asked is None else len(asked.rows),
            batch_rows=0 if scored is None else scored.batch_rows,
            queue_ms=0.0 if scored is None else scored.queue_ms,
            run_ms=0.0 if scored is None else scored.run_ms,
            total_ms=reply.latency_ms,
            fallback=reply.fallback,
            cached=reply.is_cached,
        )


_BUG = "something went wrong inside the server; the operator finds it in the log under request id {}"


def _tell_breaker(served: Served, call: Call, failure: CallFailure) -> None:
    """A failure of the caller's own (its rows, its deadline, gone) or of a bound says nothing of the model."""
    if isinstance(failure, _RUN_FAILED):
        served.breaker.fail(call)
    else:
        served.breaker.end(call)


def _since_ms(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) / 1e6
