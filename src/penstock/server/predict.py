"""The hot path: every protocol's call comes through `Predict`, and nothing else is on it.

`start`: choose the version → hold it → read and check the rows → queue them. `_ran`, for all calls of a run: build the
answers → append their records. `_recorded`, once those are written: let go of the version → give each call back. A
refusal or failure goes the same way (`_fail`). There is no task and no coroutine: a call waits as itself.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

import msgspec

from penstock.audit import (
    Answered,
    AuditLog,
    FellBack,
    Keeps,
    Masker,
    Payload,
    Privacy,
    Record,
    RequestIds,
    keeps,
    opening_of,
)
from penstock.bundle.manifest import NAME
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
from penstock.routing import Decision
from penstock.runtime import Host, ResponseCache, Results, Served, Ticket, Timing, Took
from penstock.schema.prediction import Prediction
from penstock.server.arms import Arms
from penstock.server.call import Call, Covered, Face, NamesOutputs, Reply, Spoken
from penstock.server.failures import is_refusal
from penstock.server.intake import Intake
from penstock.server.measures import Measures
from penstock.server.witness import Witness

_ENCODE = msgspec.json.Encoder().encode
_RUN_FAILED: Final = (ModelFailed,)
"""Failures of a run, by which the breaker counts. A process that is away fails calls at once, and is back sooner than a
breaker that had opened for it."""

_COVERED: Final = (ModelFailed, ModelUnavailable, NotReady, Overloaded)
"""Failures that a declared fallback covers."""

_CHEAP: Final = (ModelUnavailable, Overloaded)
"""Refusals that must cost little: their bodies are not hashed."""


class Predict:
    """Answers calls. One per worker, on its event loop; not thread-safe."""

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
        privacy: Privacy | None = None,
    ) -> None:
        self._privacy = privacy if privacy is not None else Privacy()
        self._host = host
        self._log = log
        self._measures = measures
        self._witness = witness
        self._seen_from_ms = witness.from_ms
        self._max_rows = max_rows
        self._cache = cache
        self._ids = RequestIds()
        self._arms = Arms(host, self._speak, is_hashed=self._privacy.is_hashed)
        self.intake = intake if intake is not None else Intake()
        host.land = self._ran

    def start(self, call: Call) -> None:
        """Take in `call`; `call.done` gets it back later, with its reply, recorded. Never raises."""
        reply = call.reply = Reply(self._ids.next(), self._ids.at)
        try:
            if call.failure is not None:
                raise call.failure
            content = call.face.open(call)
            served = call.served = self._host.choose(call.model, call.version, call.alias)
            served.hold()
            reply.model = served.model
            if served.split is not None:
                served = self._arms.give(call, served.split, content)
            is_strained = served.breaker.is_open or served.batcher.rows >= served.batcher.most_rows
            if is_strained and served.fallback is None and self._cache is None:
                served.require_open()  # before its rows are read: this refusal must be cheap
            if call.asked is None:
                spoken = call.spoken = served.spoken.get(call.face.name) or self._speak(call.face, served)
                asked = call.asked = spoken.read(content)
                call.rows = asked.rows
            if self._cache is not None and self._recall(call, served, self._cache):
                return
            if is_strained:
                served.admit(call)
            served.batcher.submit(call)
        except CallFailure as failure:
            self._fail(call, failure)
        except Exception as bug:  # the edge of a call: whatever it is, the caller gets an answer and the log a record
            self._fail(call, self._told(call, bug))

    def _ran(self, tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
        """What has come of a run. Each call is by itself: what goes wrong with one does not touch the others."""
        answered: list[Call] = []
        for call, result in zip(cast(Sequence[Call], tickets), results, strict=True):  # nothing else is submitted
            if timing is None or isinstance(result, CallFailure):
                self._fail(call, cast(CallFailure, result))
                continue
            try:
                self._answer(call, result, timing)
            except Exception as bug:  # the edge of a call, as above
                self._fail(call, self._told(call, bug))
            else:
                answered.append(call)
        if answered:
            self._log.on_flushed(partial(self._recorded, answered))

    def _answer(self, call: Call, predictions: list[Prediction], timing: Timing) -> None:
        """Build the answer and append its record."""
        reply, served, spoken, asked = call.reply, call.served, call.spoken, call.asked
        if served is None or spoken is None or asked is None:
            raise ValueError("a call was run without having been read")
        reply.predictions = predictions
        encoded = reply.encoded = _ENCODE(predictions)
        took = call.took = Took((timing.began_ns - call.queued_ns) / 1e6, timing.run_ms, timing.rows)
        if served.breaker.failed:
            served.breaker.succeed()
        if call.cache_keys and self._cache is not None and not served.is_leaving:  # a swap empties the cache
            self._cache.keep(call.cache_keys, predictions)
        if reply.fallback is not None:
            self._note(call)
            self._tell_of_fallback(call, reply.fallback)
            return
        latency_ms = reply.latency_ms = (time.monotonic_ns() - call.arrived_ns) // 1000 / 1e3
        masker, privacy = spoken.masker, self._privacy
        raw, undeclared = (None, 0) if asked.raw is None else masker.raw(asked.raw)
        key, client_id = privacy.key(call.key or asked.key), privacy.client_id(call.client_id)
        rows = asked.rows if masker.is_open else masker.rows(asked.rows)
        record = Answered(
            reply.request_id,
            reply.at,
            len(asked.rows),
            took.batch_rows,
            took.queue_ms,
            took.run_ms,
            latency_ms,
            client_id if privacy.is_hashed else None,
            call.principal,
            key if privacy.is_hashed else None,
            undeclared,
            None if call.trace is None else call.trace.trace_id,
        )
        if call.assigned is not None:
            bucket, placed_by = call.assigned.bucket, call.assigned.placed_by
            record = msgspec.structs.replace(record, bucket=bucket, placed_by=placed_by)
        if raw is None and spoken.policy == "full" and privacy.is_hashed:
            self._log.append_answer(record, spoken.opening, rows, encoded)
            return
        payload = _kept(Payload(rows, msgspec.Raw(encoded), raw), keeps(spoken.policy, reply.request_id))
        if not privacy.is_hashed:
            payload = msgspec.structs.replace(payload, key=key, client_id=client_id)
        self._log.append(record, spoken.opening, payload)

    def _recorded(self, calls: Sequence[Call], unwritten: Exception | None) -> None:
        """Give back calls whose records are down, or could not be written."""
        for call in calls:
            reply = call.reply
            if isinstance(unwritten, RecordFailed):
                reply.failure = unwritten
            self.intake.held_bytes -= len(call.body)
            if call.served is not None:
                call.served.release()
            if call.covers is not None:
                call.covers.served.release()
            try:
                self._measures.count(call)
                if reply.failure is not None or reply.latency_ms >= self._seen_from_ms:
                    self._witness.saw(call)
            except Exception as bug:  # the edge of a call, as above
                self._witness.bug(reply.request_id, bug)
            try:
                call.done(call)
            except Exception as bug:  # the edge of a call, as above: the others must have their replies
                self._witness.bug(reply.request_id, bug)

    def _speak(self, face: Face, served: Served) -> Spoken:
        """Make what a protocol needs of a loaded version, at its first call."""
        model = served.model
        opening = opening_of(
            model=model.name,
            version=model.version,
            digest=model.digest,
            protocol=face.name,
            decision=served.decision,
        )
        if isinstance(face, NamesOutputs):
            read = face.reader_for(model.check, self._max_rows, model.bundle.outputs)
        else:
            read = face.reader(model.check, self._max_rows)
        spoken = Spoken(read, Masker(model.schema), opening, self._privacy.policy(model.name))
        served.spoken[face.name] = spoken
        return spoken

    def _recall(self, call: Call, served: Served, cache: ResponseCache) -> bool:
        """Answer from the cache, if all rows are there."""
        keys = call.cache_keys = cache.keys(served.model, call.rows, served.decided)
        found = cache.find(served.model, keys) if keys else None
        if found is None:
            return False
        reply = call.reply
        reply.predictions, reply.encoded = found
        reply.is_cached = True
        self._note_alone(call)
        return True

    def _told(self, call: Call, bug: Exception) -> InternalFailure:
        """The failure that a caller is told of a bug, whose traceback goes to the log only."""
        self._witness.bug(call.reply.request_id, bug)
        return InternalFailure(_BUG.format(call.reply.request_id))

    def _fail(self, call: Call, failure: CallFailure) -> None:
        """The call has no answer: tell the breaker, and let the declared fallback answer where there is one.

        A failure of the caller's own (its rows, its deadline, gone) says nothing of the model and gets no fallback.
        """
        if call.served is not None:
            if isinstance(failure, _RUN_FAILED):
                call.served.breaker.fail(call)
            else:
                call.served.breaker.end(call)
        try:
            if call.covers is not None:
                failure = self._uncover(call, call.covers)
            elif isinstance(failure, _COVERED) and self._fall_back(call, failure):
                return
        except Exception as bug:  # the edge of a call, as above
            failure = self._told(call, bug)
            if call.covers is not None:
                self._uncover(call, call.covers)
        call.reply.fallback = None
        call.reply.failure = failure.with_traceback(None)  # which holds frames, and so the call: a circle
        self._note_alone(call)

    def _fall_back(self, call: Call, failure: CallFailure) -> bool:
        """Let the fallback of the version that was asked answer in its place, if one is declared."""
        served, spoken, asked, reply = call.served, call.spoken, call.asked, call.reply
        fallback = None if served is None else served.fallback
        if served is None or spoken is None or asked is None or fallback is None:
            return False
        call.cache_keys = ()
        reply.fallback = FellBack(fallback.kind, failure.code, served.model.version)
        if fallback.kind == "version":
            call.covers = Covered(served, spoken, asked, failure)
            call.served = None
            self._ask_other(call, served.model.name, fallback.version)
        else:
            reply.predictions = fallback.predictions(len(asked.rows))
            reply.encoded = _ENCODE(reply.predictions)
            self._tell_of_fallback(call, reply.fallback)
            self._note_alone(call)
        return True

    def _tell_of_fallback(self, call: Call, fallback: FellBack) -> None:
        self._measures.fell_back(call.reply.answerer.name, fallback)
        self._witness.fell_back(call.reply)

    def _ask_other(self, call: Call, name: str, version: int | None) -> None:
        """Ask another loaded version, by the same body read by its own schema."""
        try:
            other = call.served = self._host.choose(name, version, None)
            other.hold()
            call.reply.model = other.model
            spoken = call.spoken = other.spoken.get(call.face.name) or self._speak(call.face, other)
            asked = call.asked = spoken.read(call.face.open(call))
            call.rows = asked.rows
            other.admit(call)
            other.batcher.submit(call)
        except CallFailure as failure:
            self._fail(call, failure)

    def _uncover(self, call: Call, covered: Covered) -> CallFailure:
        """The fallback version cannot answer either: the first failure stands."""
        if call.served is not None:
            call.served.release()
        call.covers, call.served, call.spoken, call.asked = None, covered.served, covered.spoken, covered.asked
        call.reply.model = covered.served.model
        return covered.failure

    def _note_alone(self, call: Call) -> None:
        """Append the record of one call, and give it back once that is down."""
        try:
            self._note(call)
            self._log.on_flushed(partial(self._recorded, (call,)))
        except Exception as bug:  # the edge of a call, as above: no record, so no answer
            call.reply.failure = self._told(call, bug)
            self._recorded((call,), None)

    def _note(self, call: Call) -> None:
        call.reply.latency_ms = (time.monotonic_ns() - call.arrived_ns) // 1000 / 1e3
        self._log.append(self._record(call))

    def _record(self, call: Call) -> Record:
        """What is kept of a call, whatever became of it; of a body that was not read, or broke the schema, the hash."""
        reply, asked, spoken, took = call.reply, call.asked, call.spoken, call.took
        model, failure, assigned = reply.model, reply.failure, call.assigned
        masker = None if spoken is None else spoken.masker
        unread = call.body if asked is None and call.body else None
        is_hashed = unread is not None and not isinstance(failure, _CHEAP)
        raw, undeclared = (None, 0) if masker is None or asked is None or asked.raw is None else masker.raw(asked.raw)
        name = call.model if model is None else model.name
        kept = _kept(
            Payload(
                input=None if masker is None or asked is None else masker.rows(asked.rows),
                outputs=msgspec.Raw(reply.encoded) if failure is None else None,
                raw=raw,
                violations=failure.recorded if isinstance(failure, SchemaViolation) else (),
                body_sha256=hashlib.sha256(call.body).hexdigest() if is_hashed else None,
            ),
            keeps(self._privacy.policy(name), reply.request_id),
        )
        return Record(
            kind="prediction" if failure is None else "refusal" if is_refusal(failure) else "failure",
            code="ok" if failure is None else failure.code,
            request_id=reply.request_id,
            at=reply.at,
            client_id=self._privacy.client_id(call.client_id),
            trace_id=None if call.trace is None else call.trace.trace_id,
            principal=call.principal,
            model=name if model is not None or name is None or NAME.fullmatch(name) else _NAMELESS,
            version=call.version if model is None else model.version,
            digest=None if model is None else model.digest,
            protocol=call.face.name,
            key=self._privacy.key(call.key or (None if asked is None else asked.key)),
            experiment=None if assigned is None else assigned.experiment,
            arm=None if assigned is None else assigned.arm,
            bucket=None if assigned is None else assigned.bucket,
            placed_by=None if assigned is None else assigned.placed_by,
            weights=None if assigned is None else assigned.weights,
            input=kept.input,
            raw=kept.raw,
            undeclared=undeclared,
            outputs=kept.outputs,
            decision=_decision(call),
            violations=kept.violations,
            body_bytes=None if unread is None else len(unread),
            body_sha256=kept.body_sha256,
            rows=0 if asked is None else len(asked.rows),
            batch_rows=0 if took is None else took.batch_rows,
            queue_ms=0.0 if took is None else took.queue_ms,
            run_ms=0.0 if took is None else took.run_ms,
            total_ms=reply.latency_ms,
            fallback=reply.fallback,
            cached=reply.is_cached,
        )


def _kept(payload: Payload, kept: Keeps) -> Payload:
    """What is kept of a payload, masked already."""
    if kept == "full":
        return payload
    return Payload(input=payload.input) if kept == "features" else Payload()


def _decision(call: Call) -> Decision | None:
    """The rule by which the labels of an answer were decided; a constant, or an abstention, is decided by none."""
    reply = call.reply
    is_declared = reply.fallback is not None and reply.fallback.kind != "version"
    return None if call.served is None or reply.failure is not None or is_declared else call.served.decision


_NAMELESS: Final = "<no name>"
"""Recorded in place of what a caller asked for that no model can be called."""

_BUG = "something went wrong inside the server; the operator finds it in the log under request id {}"
