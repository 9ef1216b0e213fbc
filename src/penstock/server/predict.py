"""The hot path: every protocol's call comes through `Predict.__call__`, and nothing else is on it.

admit → choose the version → read and check the rows → run → build the record → write it → reply. A refusal or a
failure goes the same way with a record of its own. It awaits only what a `Flight` can wait for: the batcher's run,
and the log's flush, which is one write for all records of a tick before any of their replies leaves.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime

import msgspec

from penstock.audit import Answered, AuditLog, Masker, Record, RequestIds, opening_of
from penstock.errors import CallFailure, InternalFailure, RecordFailed, SchemaViolation
from penstock.runtime import Host, Scored, Served, Wait
from penstock.server.call import Asked, Call, Face, Reply, Spoken
from penstock.server.failures import is_refusal
from penstock.server.measures import Measures
from penstock.server.witness import Witness

_ENCODE = msgspec.json.Encoder().encode


class Predict:
    """Answers calls. One per worker, on its event loop; run by `Flight`, never as a task."""

    def __init__(self, host: Host, log: AuditLog, *, measures: Measures, witness: Witness, max_rows: int) -> None:
        self._host = host
        self._log = log
        self._measures = measures
        self._witness = witness
        self._seen_from_ms = witness.from_ms
        self._max_rows = max_rows
        self._ids = RequestIds()
        self._maskers: dict[str, Masker] = {model.digest: Masker(model.schema) for model in host.models()}

    async def __call__(self, call: Call) -> Reply:
        """The reply to `call`, recorded. Never raises."""
        reply = Reply(self._ids.next(), datetime.now(UTC))
        spoken: Spoken | None = None
        asked: Asked | None = None
        scored: Scored | None = None
        try:
            if call.failure is not None:
                raise call.failure
            content = call.face.open(call)
            served = self._host.choose(call.model, call.version, call.alias)
            reply.model = served.model
            spoken = served.spoken.get(call.face.name) or self._speak(call.face, served)
            asked = spoken.read(content)
            scored = await served.batcher.submit(asked.rows, call.deadline_ns)
            reply.predictions = scored.predictions
            reply.encoded = msgspec.Raw(_ENCODE(scored.predictions))
        except CallFailure as failure:
            reply.failure = failure
        except Exception as bug:  # the edge of a call: whatever it is, the caller gets an answer and the log a record
            self._witness.bug(reply.request_id, bug)
            reply.failure = InternalFailure(_BUG.format(reply.request_id))
        reply.latency_ms = _since_ms(call.arrived_ns)
        try:
            if spoken is None or asked is None or scored is None or reply.failure is not None:
                self._log.append(self._record(call, reply, asked, scored))
            else:
                self._log.append(self._answered(call, reply, asked, scored), spoken.opening)
        except Exception as bug:  # the edge of a call, as above: no record, so no answer
            self._witness.bug(reply.request_id, bug)
            reply.failure = InternalFailure(_BUG.format(reply.request_id))
            return reply
        written: Wait[Exception | None] = Wait()
        self._log.on_flushed(written.settle)
        unwritten = await written
        if isinstance(unwritten, RecordFailed):
            reply.failure = unwritten
        self._measures.count(call, reply, scored)
        if reply.failure is not None or reply.latency_ms >= self._seen_from_ms:
            self._witness.saw(call, reply, asked, scored)
        return reply

    def _speak(self, face: Face, served: Served) -> Spoken:
        """Make what a protocol needs of a loaded version, at its first call."""
        model = served.model
        opening = opening_of(model=model.name, version=model.version, digest=model.digest, protocol=face.name)
        spoken = Spoken(face.reader(model.check, self._max_rows), opening)
        served.spoken[face.name] = spoken
        return spoken

    def _answered(self, call: Call, reply: Reply, asked: Asked, scored: Scored) -> Answered:
        """What is kept of an answered call, beyond its opening."""
        masker = self._maskers[reply.answerer.digest]
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

    def _record(self, call: Call, reply: Reply, asked: Asked | None, scored: Scored | None) -> Record:
        """What is kept of a call without an answer; of a body that could not be read or broke the schema, the hash."""
        model, failure = reply.model, reply.failure
        masker = None if model is None else self._maskers[model.digest]
        unread = call.body if asked is None and call.body else None
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
            body_sha256=None if unread is None else hashlib.sha256(unread).hexdigest(),
            rows=0 if asked is None else len(asked.rows),
            batch_rows=0 if scored is None else scored.batch_rows,
            queue_ms=0.0 if scored is None else scored.queue_ms,
            run_ms=0.0 if scored is None else scored.run_ms,
            total_ms=reply.latency_ms,
        )


_BUG = "something went wrong inside the server; the operator finds it in the log under request id {}"


def _since_ms(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) / 1e6
