"""The audit log over the control API: pages of records, and SELECTs, each confined as `audit/query.py` says."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import anyio.to_thread
import msgspec
from fastapi import Depends, Query, Response

from penstock.audit.conditions import Conditions, client_id_texts, key_texts
from penstock.audit.extra import require_audit
from penstock.controller.api.endpoints import HEADERS
from penstock.controller.api.reading import moment_of
from penstock.controller.messages import JSON_MEDIA
from penstock.errors import QueryRefused

if TYPE_CHECKING:
    from penstock.audit.query import Records

_AT_ONCE: Final = 2
_MOST: Final = 1000
_QUERY: Final = "penstock.audit.query"  # with DuckDB and pyarrow, which a controller has loaded once it is asked
_COLUMNS: Final = "penstock.audit.columns"

Text = Annotated[str | None, Query(max_length=200)]
Moment = Annotated[str | None, Query(max_length=64, description="A moment, as in 2026-11-20T18:30:00Z.")]
Limit = Annotated[int, Query(ge=1, le=_MOST, description="How many at most.")]


class RecordsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Records as they were written, the newest first; `next` is what `before` takes for the next page, if any."""

    records: list[msgspec.Raw]
    next: str | None = None


class RowsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a SELECT gave, and whether there is more."""

    rows: list[dict[str, Any]]
    has_more: bool


class _Whose:
    """Which calls: parameters of the query."""

    def __init__(
        self,
        *,
        id: Annotated[str | None, Query(max_length=200, description="A request id, ours or the caller's.")] = None,
        key: Text = None,
        principal: Text = None,
        model: Text = None,
        version: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    ) -> None:
        self.id, self.key, self.principal, self.model, self.version = id, key, principal, model, version


class _Course:
    """When and how they went, and which page: parameters of the query."""

    def __init__(
        self,
        *,
        since: Moment = None,
        until: Moment = None,
        outcome: Annotated[str | None, Query(max_length=64, description="A kind, or a code.")] = None,
        where: Annotated[list[str] | None, Query(description="FIELD=VALUE of a feature; may be repeated.")] = None,
        before: Annotated[str | None, Query(max_length=200, description="The `next` of the page before.")] = None,
        limit: Limit = 20,
    ) -> None:
        self.since, self.until = moment_of(since), moment_of(until)
        self.outcome, self.where, self.before, self.limit = outcome, where or [], before, limit


class RecordEndpoints:
    """One per API; two queries at a time, the others wait."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made: Records | None = None
        self._turns = anyio.CapacityLimiter(_AT_ONCE)

    async def records(self, whose: Annotated[_Whose, Depends()], course: Annotated[_Course, Depends()]) -> Response:
        """The records of the log of which all conditions hold, the newest first."""
        conditions = Conditions(
            key=key_texts(self._home, whose.key),
            principal=whose.principal,
            model=whose.model,
            version=whose.version,
            since=course.since,
            until=course.until,
            outcome=course.outcome,
            where=tuple(map(_pair, course.where)),
            before=course.before,
        )
        return await self._answered(partial(self._page, conditions, whose.id, course.limit))

    async def query(
        self,
        *,
        sql: Annotated[str, Query(max_length=8000, description="One SELECT from `records` or `predictions`.")],
        limit: Limit = 100,
    ) -> Response:
        """What one SELECT gives. It can read nothing else and change nothing; memory and time are bounded."""
        return await self._answered(partial(self._rows, sql, limit))

    async def _answered(self, work: Any) -> Response:
        answer = await anyio.to_thread.run_sync(work, limiter=self._turns)
        return Response(answer, media_type=JSON_MEDIA, headers=HEADERS)

    def _page(self, conditions: Conditions, id: str | None, limit: int) -> bytes:
        records = self._records()
        found = records.page(msgspec.structs.replace(conditions, request_id=id), limit)
        if id is not None and not len(found.table):
            callers = client_id_texts(self._home, id)
            found = records.page(msgspec.structs.replace(conditions, client_id=callers), limit)
        lines = importlib.import_module(_COLUMNS).lines_of(found.table)
        return msgspec.json.encode(RecordsAnswer(records=[msgspec.Raw(line) for line in lines], next=found.next))

    def _rows(self, sql: str, limit: int) -> bytes:
        found = self._records().sql(sql, limit)
        return msgspec.json.encode(RowsAnswer(rows=found.table.to_pylist(), has_more=found.has_more))

    def _records(self) -> Records:
        """Kept, for what it remembers; of two made at once either will do."""
        if self._made is None:
            require_audit("reading the audit log")
            self._made = importlib.import_module(_QUERY).Records(self._home / "audit")
        return self._made


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise QueryRefused("Expected `where` as FIELD=VALUE, got no `=`")
    return field, value
