"""The response cache: answers of rows that were asked before, while they are fresh. Off unless it is given room.

What is kept is a model's own prediction of a final row: never a failure, a fallback or anything that is sampled.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from penstock.runtime.version import Version
from penstock.schema.prediction import Prediction
from penstock.telemetry import Registry

MOST_ROWS = 64
"""Calls of more rows are not looked up: they seldom repeat as a whole, and each row costs about a microsecond."""

_ENTRY_BYTES = 600  # what Python itself takes for an entry: key, tuple, prediction, links
_pack = msgspec.msgpack.Encoder().encode
_encode = msgspec.json.Encoder().encode


class _Entry(NamedTuple):
    prediction: Prediction
    encoded: bytes
    until_s: float
    size_bytes: int


class ResponseCache:
    """Bounded by entries and bytes: the one not used for longest goes first. An entry lasts for `ttl_s`.

    The key is the content digest, the decision and the row with its types (MessagePack tells 1 from 1.0 and true).
    Used on one event loop; not thread-safe.
    """

    def __init__(
        self,
        *,
        entries: int,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        registry: Registry | None = None,
    ) -> None:
        self._most = entries
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._kept: OrderedDict[bytes, _Entry] = OrderedDict()
        registry = registry if registry is not None else Registry()
        labels = ("model", "version")
        self._hits = registry.counter("penstock_cache_hits_total", "Calls answered by the response cache.", labels)
        self._misses = registry.counter("penstock_cache_misses_total", "Calls looked up in it in vain.", labels)
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keys(self, version: Version, rows: Sequence[Any], decided: bytes = b"") -> list[bytes]:
        """One key a row; none for a call that is not looked up (too many rows, or a value that has no canonical form).

        `decided` tells apart answers of one content whose labels were decided otherwise.
        """
        if len(rows) > MOST_ROWS:
            return []
        digest = version.digest.encode()
        try:
            return [b"%b %b %b" % (digest, decided, _pack(row)) for row in rows]
        except (TypeError, OverflowError, UnicodeEncodeError):
            return []

    def find(self, version: Version, keys: Sequence[bytes]) -> tuple[list[Prediction], bytes] | None:
        """The predictions of `keys` and the JSON of their list, if all are there and fresh; counted."""
        now_s = self._clock()
        found = [entry for key in keys if (entry := self._fresh(key, now_s)) is not None]
        if not keys or len(found) < len(keys):
            self._misses.at(version.labels).inc()
            return None
        for key in keys:
            self._kept.move_to_end(key)
        self._hits.at(version.labels).inc()
        return [entry.prediction for entry in found], b"[%b]" % b",".join([entry.encoded for entry in found])

    def keep(self, keys: Sequence[bytes], predictions: Sequence[Prediction]) -> None:
        """Keep the model's own answers; what is least recently used makes room."""
        until_s = self._clock() + self._ttl_s
        for key, prediction in zip(keys, predictions, strict=True):
            encoded = _encode(prediction)
            entry = _Entry(prediction, encoded, until_s, len(key) + 3 * len(encoded) + _ENTRY_BYTES)
            self._forget(key)
            self._kept[key] = entry
            self.size_bytes += entry.size_bytes
        while self._kept and (len(self._kept) > self._most or self.size_bytes > self._max_bytes):
            self._forget(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget everything: what is served has changed."""
        self._kept.clear()
        self.size_bytes = 0

    def _fresh(self, key: bytes, now_s: float) -> _Entry | None:
        entry = self._kept.get(key)
        if entry is None or now_s < entry.until_s:
            return entry
        self._forget(key)
        return None

    def _forget(self, key: bytes) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
