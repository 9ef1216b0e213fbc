"""What an alias meant, and what each machine answered by, at any moment: read off the events. Pure.

A span begins with the event that set it and ends with the one that changed it: at the very time of an event the new
value holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from penstock.control.answers import HistoryAnswer, Span
from penstock.control.changes import Event, Moved, Serving

_Key = tuple[str | None, str]  # the machine (None: what is wanted) and the alias


def history_of(model: str, events: Iterable[Event], at: datetime | None = None) -> HistoryAnswer:
    """The history of `model` among `events`, which are in order; with `at`, what held at that moment."""
    own = [event for event in events if event.concerns(model)]
    spans = list(spans_of(own))
    held = [span for span in spans if at is not None and holds(span, at)]
    serving: dict[str, dict[str, int]] = {}
    for span in held:
        if span.node is not None:
            serving.setdefault(span.node, {})[span.alias] = span.version
    return HistoryAnswer(
        model=model,
        events=own,
        wanted=[span for span in spans if span.node is None],
        served=[span for span in spans if span.node is not None],
        at=at,
        aliases_at={span.alias: span.version for span in held if span.node is None},
        serving_at=serving,
    )


def holds(span: Span, at: datetime) -> bool:
    """Whether `span` covers the moment `at`: its beginning does, its end does not."""
    return span.since <= at and (span.until is None or at < span.until)


def spans_of(events: Iterable[Event]) -> Iterator[Span]:
    """The spans that the events of one model make: ended ones as they end, then those that still hold."""
    since: dict[_Key, tuple[int, datetime]] = {}
    for event in events:
        for (node, alias), version in _set_by(event, since).items():
            began = since.pop((node, alias), None)
            if began is not None and began[0] == version:
                since[node, alias] = began
                continue
            if began is not None:
                yield Span(alias=alias, version=began[0], since=began[1], until=event.at, node=node)
            if version is not None:
                since[node, alias] = (version, event.at)
    for (node, alias), (version, began_at) in since.items():
        yield Span(alias=alias, version=version, since=began_at, node=node)


def _set_by(event: Event, since: Mapping[_Key, object]) -> dict[_Key, int | None]:
    """What an event sets: versions by machine and alias, None for what holds no longer."""
    change = event.change
    if isinstance(change, Moved):
        return {(None, change.alias): change.after}
    if isinstance(change, Serving):
        gone: dict[_Key, int | None] = {key: None for key in since if key[0] == change.node}
        return gone | {(change.node, alias): version for alias, version in change.after.items()}
    return {}
