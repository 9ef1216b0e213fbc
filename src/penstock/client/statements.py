"""Feedback as a caller has it becomes requests of a size that the server takes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import TypedDict, cast

import msgspec

from penstock.client.answers import FeedbackTaken
from penstock.client.calls import Call
from penstock.client.rows import json_rows
from penstock.errors import ClientError

MOST_STATEMENTS = 1000


class FeedbackOptions(TypedDict, total=False):
    """What `feedback` takes besides request id and actual; `Client.feedback` says what each means."""

    index: int
    at: datetime.datetime | str | None
    key: str | None
    model: str | None


def feedback_call(request_id: str | None, actual: object, options: FeedbackOptions) -> Call[FeedbackTaken]:
    """The request that says what came true of one row. Raises `ClientError` for what cannot be sent."""
    if actual is None:
        raise ClientError("Expected what came true, got None - at `actual`.")
    [call] = feedback_calls([{"request_id": request_id, "actual": actual, **options}])
    return call


def feedback_calls(statements: object) -> Iterator[Call[FeedbackTaken]]:
    """The requests for many statements (an iterable of dicts, or a frame), 1,000 in each. Raises `ClientError`."""
    if isinstance(statements, list):
        targets = [row.get("actual") if isinstance(row, Mapping) else None for row in statements]
        plain = [
            {**row, "actual": None} if isinstance(actual, Mapping) else row
            for row, actual in zip(statements, targets, strict=True)
        ]
    else:
        targets, plain = [], cast("list[object]", statements)
    rows: list[dict[str, object]] = [_known(row) for row in json_rows(plain)]
    for row, actual in zip(rows, targets, strict=False):
        if isinstance(actual, Mapping):
            [row["actual"]] = json_rows(actual)
    for start in range(0, len(rows), MOST_STATEMENTS):
        yield Call(
            method="POST",
            path="/v1/feedback",
            body_type=FeedbackTaken,
            content=msgspec.json.encode(rows[start : start + MOST_STATEMENTS]),
            headers={"content-type": "application/json", "accept": "application/json"},
            may_repeat=True,
        )


def together(taken: list[FeedbackTaken]) -> FeedbackTaken:
    """What several requests came to."""
    return FeedbackTaken(taken=sum(one.taken for one in taken), unlisted=sum(one.unlisted for one in taken))


def _known(row: Mapping[str, object]) -> dict[str, object]:
    """The members that are there; a whole number that a column with gaps has made a float is one again."""
    known = {name: value for name, value in row.items() if value is not None}
    index = known.get("index")
    if isinstance(index, float) and index.is_integer():
        known["index"] = int(index)
    return known
