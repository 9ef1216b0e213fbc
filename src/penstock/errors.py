"""What can go wrong, as kinds: no transport in here (HTTP and the other protocols map them in `server/failures.py`).

PenstockError
├── CallFailure                 what a caller of a prediction may get; each has a stable `code`
│   ├── Unreadable              the bytes are not what the protocol reads (JSON, UTF-8, envelope)
│   ├── TooLarge                body, rows or nesting above a limit
│   ├── UnsupportedMedia        a content type that this route does not read
│   ├── NotAcceptable           the caller accepts no form of answer that this route has
│   ├── SchemaViolation         rows that break the model's schema; carries every violation
│   ├── NotFound                unknown route, model, version or alias
│   ├── MethodNotAllowed        a known route, asked in another way
│   ├── NotReady                nothing is served yet, or the server is draining
│   ├── Overloaded              a bound is reached: queue, bytes or connections; nothing was computed
│   ├── ModelUnavailable        the model has failed again and again, and is left alone for a while
│   ├── DeadlineExceeded        the caller's deadline passed before the answer was there
│   ├── CallerGone              the caller hung up; seen in the log only
│   ├── ModelFailed             the model raised, or its process died
│   │   └── OutputRefused       the model answered with what its outputs do not allow
│   ├── RecordFailed            the answer could not be recorded, and the rule is not to answer then
│   └── InternalFailure         a bug of ours; the request id leads to the log
├── BundleError
│   ├── BundleRefused           changed, missing or extra files, links, bombs, unknown formats, golden rows
│   └── PackRefused             a pipeline that can be neither compiled nor kept native; names the step
├── ControlError                what an operator's command may get; each has a stable `code`
│   ├── Unknown                 no such model, version or alias
│   ├── Conflict                the state was changed by somebody else since it was read
│   ├── MoveRefused             a rule, the schema or the load on this machine speaks against it; names each reason
│   ├── InUse                   what an alias, a rollout or a hold refers to is not deleted
│   ├── Forbidden               asked by a host name, or from a web page, that may not ask here
│   ├── StateUnavailable        the state database cannot be reached, or is of another Penstock
│   └── RepositoryUnavailable   the bundles' store cannot be reached, or has no room
├── SchemaError                 a schema that contradicts itself
├── SegmentError                an audit segment that cannot be read or written
├── JobFailed                   a job beside the traffic (a replay) that came to no end
├── QueryRefused                a question to the audit log that is not answered: no SELECT, too much, too long
├── SettingsError               a setting that does not exist or does not fit
├── ClientError                 what the Python client raises
│   ├── ServerUnreachable       no connection, or no answer in time
│   └── ServerRefused           the server answered with an error; carries its status, code and violations
└── MissingExtra                an optional library is needed and not installed; names the extra
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One place where a row breaks its schema.

    `path` is a JSON path into what the caller sent (`$.instances[3].age`); `got` never shows the value of a field
    with a `pii` class, nor of a field that the schema does not know.
    """

    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"Expected {self.expected}, got {self.got} - at `{self.path}`"


class PenstockError(Exception):
    """The root of all errors that Penstock raises on purpose; `str(error)` is a message for a person."""

    code = "error"


class CallFailure(PenstockError):
    """A call for a prediction that ends without one. The message speaks of the caller's own input only."""

    code = "call_failure"


class Unreadable(CallFailure):
    """The bytes are not what the protocol reads."""

    code = "unreadable"


class TooLarge(CallFailure):
    """The body, the number of rows or the nesting is above a limit."""

    code = "too_large"


class UnsupportedMedia(CallFailure):
    """The content type is not one that this route reads."""

    code = "unsupported_media_type"


class NotAcceptable(CallFailure):
    """The caller accepts no content type that this route answers with."""

    code = "not_acceptable"


class SchemaViolation(CallFailure):
    """Rows break the model's schema; `violations` has all of them, up to 100, of `total`.

    `unnamed` has, for each path that ends in a name of the caller's own, the path to record in its place: what a field
    is called that nobody declared is told to its caller, and not kept.
    """

    code = "schema_violation"

    def __init__(
        self, violations: list[Violation], total: int | None = None, unnamed: Mapping[str, str] | None = None
    ) -> None:
        self.violations = violations
        self.unnamed = unnamed or {}
        self.total = len(violations) if total is None else total
        first = str(violations[0]) if violations else "the rows break the schema"
        more = self.total - 1
        super().__init__(first if more < 1 else f"{first} (and {more} more)")

    @property
    def recorded(self) -> tuple[Violation, ...]:
        """The violations without names that no schema knows."""
        unnamed = self.unnamed
        return tuple(
            msgspec.structs.replace(each, path=unnamed[each.path]) if each.path in unnamed else each
            for each in self.violations
        )


class NotFound(CallFailure):
    """No such route, model, version or alias; the message names what there is."""

    code = "not_found"


class MethodNotAllowed(CallFailure):
    """The route exists and is asked in another way; `allowed` are the methods that it answers."""

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        super().__init__(message)


class NotReady(CallFailure):
    """Nothing is served yet, or the server is draining."""

    code = "not_ready"


class Overloaded(CallFailure):
    """A bound of the server is reached (rows waiting, bytes in flight, connections), whoever asks."""

    code = "overloaded"


class ModelUnavailable(CallFailure):
    """The circuit breaker of the version is open; `retry_after_s` is when it may be asked again."""

    code = "model_unavailable"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class DeadlineExceeded(CallFailure):
    """The caller's deadline passed before the answer was there."""

    code = "deadline_exceeded"


class CallerGone(CallFailure):
    """The caller hung up before the answer was there."""

    code = "caller_gone"


class ModelFailed(CallFailure):
    """The model raised.

    `said` is what its library said, which may hold paths or values: for the log, not for callers.
    """

    code = "model_failed"

    def __init__(self, message: str, said: str = "") -> None:
        self.said = said
        super().__init__(message)

    @classmethod
    def raised(cls, what: str, error: Exception) -> ModelFailed:
        """Of an error of the model's library: `what` and its type for callers, its own words for the log."""
        return cls(f"{what} {type(error).__name__}", str(error).strip().partition("\n")[0][:300])

    @property
    def whole(self) -> str:
        """The message, and what was said."""
        return f"{self}: {self.said}" if self.said else str(self)


class OutputRefused(ModelFailed):
    """The model answered with what its outputs do not allow: a NaN, a wrong number of rows, a class that it has not."""

    code = "output_refused"


class RecordFailed(CallFailure):
    """The answer could not be recorded, and the rule is not to answer without a record."""

    code = "record_failed"


class InternalFailure(CallFailure):
    """A bug of ours: the message says nothing but the request id, which leads to the log."""

    code = "internal"


class BundleError(PenstockError):
    """Something is wrong with a bundle."""

    code = "bundle_error"


class BundleRefused(BundleError):
    """A bundle on disk that is not what it says: the message names the file and the difference."""

    code = "bundle_refused"


class PackRefused(BundleError):
    """A model that can be neither compiled nor kept native: names the `step`, the reason and the way out."""

    code = "pack_refused"

    def __init__(self, step: str, reason: str, advice: str) -> None:
        self.step, self.reason, self.advice = step, reason, advice
        super().__init__(f"{step}: {reason}. {advice}")


class ControlError(PenstockError):
    """An operator's command that ends without a change."""

    code = "control_error"


class Unknown(ControlError):
    """No such model, version or alias; the message names what there is."""

    code = "unknown"


class Conflict(ControlError):
    """Somebody else changed the state since it was read: read it again, and decide anew."""

    code = "conflict"


class MoveRefused(ControlError):
    """An alias is not moved; `reasons` has each one, `may_force` says whether `--force` overrules them."""

    code = "move_refused"

    def __init__(self, what: str, reasons: list[str], *, may_force: bool) -> None:
        self.reasons, self.may_force = reasons, may_force
        advice = "; --force with a --reason overrules it" if may_force else ""
        super().__init__(f"{what}: {'; '.join(reasons)}{advice}")


class InUse(ControlError):
    """What an alias, a rollout or a hold refers to is not deleted; the message names it."""

    code = "in_use"


class Forbidden(ControlError):
    """The control API was asked under a host name that it does not know, or by a web page of another origin."""

    code = "forbidden"


class StateUnavailable(ControlError):
    """The state database cannot be reached or read; what is served goes on."""

    code = "state_unavailable"


class RepositoryUnavailable(ControlError):
    """The store of bundles cannot be reached, read or written; what is served goes on."""

    code = "repository_unavailable"


class SchemaError(PenstockError):
    """A schema that contradicts itself or cannot be read."""

    code = "schema_error"


class SegmentError(PenstockError):
    """An audit segment that cannot be read or written as it should."""

    code = "segment_error"


class JobFailed(PenstockError):
    """A job beside the traffic that came to no end; the message says why, and what to do."""

    code = "job_failed"


class QueryRefused(PenstockError):
    """A question to the audit log that is not answered: not a SELECT, an unknown column, too much memory or time."""

    code = "query_refused"


class SettingsError(PenstockError):
    """A setting that does not exist or does not fit; the message names the nearest right one."""

    code = "settings_error"


class ClientError(PenstockError):
    """What the Python client raises."""

    code = "client_error"


class ServerUnreachable(ClientError):
    """No connection to the server, or no answer in time."""

    code = "server_unreachable"


class ServerRefused(ClientError):
    """The server answered with an error; `status`, `server_code`, `request_id` and `violations` are its own."""

    code = "server_refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        server_code: str,
        request_id: str | None = None,
        violations: list[Violation] | None = None,
    ) -> None:
        self.status, self.server_code, self.request_id = status, server_code, request_id
        self.violations = violations or []
        super().__init__(message)


class MissingExtra(PenstockError):
    """An optional library is needed and not installed."""

    code = "missing_extra"

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(f"{purpose} needs {library}: pip install 'penstock[{extra}]'")
