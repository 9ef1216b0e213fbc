"""Metrics: plain numbers that the hot path adds to, and their text for Prometheus. No library, no threads, no globals.

`app.py` makes one `Registry` per process; workers send `state()` to the supervisor, which `merge`s and gives `text()`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram"]
Merge: TypeAlias = Literal["sum", "max"]
Labels: TypeAlias = tuple[str, ...]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS_S = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
ROWS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)


class FamilyState(msgspec.Struct, frozen=True):
    """The numbers of one family, to be sent to another process.

    `samples`: for each tuple of label values, `[value]` of a counter or gauge, or `[sum, bucket counts...]` of a
    histogram (one more count than `buckets`: what lies above them all; each for itself, not cumulative).
    `merge`: how the numbers of several processes become one; "max" is for gauges of which the worst is asked.
    """

    name: str
    kind: MetricKind
    help: str
    labels: Labels
    buckets: tuple[float, ...]
    samples: list[tuple[Labels, list[float]]]
    merge: Merge = "sum"


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self, buckets: Sequence[float] = ()) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add `amount`, which must not be negative (not checked: this is the hot path)."""
        self.value += amount

    def numbers(self) -> list[float]:
        """As in `FamilyState.samples`."""
        return [self.value]

    def add(self, numbers: Sequence[float]) -> None:
        """Add what another process has counted."""
        self.value += numbers[0]


class Gauge(Counter):
    """A number that goes up and down; merged by adding (requests in flight, loaded models, bytes)."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Make it `value`."""
        self.value = value

    def dec(self, amount: float = 1) -> None:
        """Subtract `amount`."""
        self.value -= amount


class Reading(Gauge):
    """A gauge that is asked for its number when it is shown: keeping it would cost more."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], float]) -> None:
        super().__init__()
        self._read = read

    def numbers(self) -> list[float]:
        """As in `FamilyState.samples`."""
        return [self._read()]


class Peak(Gauge):
    """A gauge of which the greatest among the processes is shown: a delay, a duration."""

    __slots__ = ()

    def add(self, numbers: Sequence[float]) -> None:
        """Take the other's number where it is the greater."""
        self.value = max(self.value, numbers[0])


class Recent(Peak):
    """The longest of the last delays: of those that ended within the last one to two spans; 0 when none did."""

    __slots__ = ("_before_s", "_clock", "_now_s", "_span_s", "_turn_s")

    def __init__(self, *, clock: Callable[[], float], span_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._span_s = span_s
        self._turn_s = clock() + span_s
        self._before_s = self._now_s = 0.0

    def ended(self, began_s: float) -> None:
        """Note a delay that began at `began_s` of the clock and ends now."""
        now_s = self._clock()
        if now_s >= self._turn_s:
            self._turn(now_s)
        if now_s - began_s > self._now_s:
            self._now_s = now_s - began_s

    def numbers(self) -> list[float]:
        """As in `FamilyState.samples`."""
        self._turn(self._clock())
        return [max(self._before_s, self._now_s)]

    def _turn(self, now_s: float) -> None:
        if now_s < self._turn_s:
            return
        self._before_s = self._now_s if now_s < self._turn_s + self._span_s else 0.0
        self._now_s = 0.0
        self._turn_s = now_s + self._span_s


class Histogram:
    """Counts of observations by bucket: bucket i holds what is at most `buckets[i]` and above the one before."""

    __slots__ = ("buckets", "counts", "sum")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Count one observation, in the unit of the family's name."""
        self.counts[bisect_left(self.buckets, value)] += 1
        self.sum += value

    def numbers(self) -> list[float]:
        """As in `FamilyState.samples`."""
        return [self.sum, *self.counts]

    def add(self, numbers: Sequence[float]) -> None:
        """Add what another process has counted."""
        self.sum += numbers[0]
        self.counts = [mine + int(theirs) for mine, theirs in zip(self.counts, numbers[1:], strict=True)]


Child = TypeVar("Child", Counter, Gauge, Peak, Histogram)
_Made: TypeAlias = type[Counter] | type[Gauge] | type[Peak] | type[Histogram]
_TYPES: dict[tuple[str, str], _Made] = {
    ("counter", "sum"): Counter,
    ("gauge", "sum"): Gauge,
    ("gauge", "max"): Peak,
    ("histogram", "sum"): Histogram,
}


class Family(Generic[Child]):
    """All children of one metric name. Resolve a child once, keep it, and add to it: no look-up on the hot path."""

    def __init__(self, state: FamilyState, make: type[Child]) -> None:
        self.name, self.kind, self.help = state.name, state.kind, state.help
        self.labels, self.buckets, self.merge = state.labels, state.buckets, state.merge
        self._make: type[Child] = make
        self._children: dict[Labels, Child] = {}

    def child(self, **labels: str) -> Child:
        """The child of these label values, made at the first call. Raises ValueError for other label names."""
        if labels.keys() != set(self.labels):
            raise ValueError(f"Expected the labels {list(self.labels)} for {self.name}, got {list(labels)}")
        return self.at(tuple(str(labels[name]) for name in self.labels))

    def at(self, values: Labels) -> Child:
        """The child of these label values, in the order of `labels`."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make(self.buckets)
        return child

    def adopt(self, child: Child, **labels: str) -> None:
        """Make `child`, made elsewhere, the one of these label values. Raises ValueError as `child` does."""
        self.child(**labels)
        self._children[tuple(str(labels[name]) for name in self.labels)] = child

    def remove(self, **labels: str) -> None:
        """Forget the children that have all these label values: an unloaded version leaves the output."""
        wanted = {(self.labels.index(name), value) for name, value in labels.items()}
        for values in [values for values in self._children if wanted <= set(enumerate(values))]:
            del self._children[values]

    def state(self) -> FamilyState:
        """The numbers of now, sorted by label values."""
        samples = [(values, child.numbers()) for values, child in sorted(self._children.items())]
        return FamilyState(self.name, self.kind, self.help, self.labels, self.buckets, samples, self.merge)


class Registry:
    """The metrics of one process, by name. Not thread-safe: threads hand their numbers to the event loop."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Peak] | Family[Histogram]] = {}

    def counter(self, name: str, help: str, labels: Labels = ()) -> Family[Counter]:
        """The counter family `name`, declared at the first call. Raises ValueError if it was declared otherwise."""
        return self._family(FamilyState(name, "counter", help, labels, (), []), Counter)

    def gauge(self, name: str, help: str, labels: Labels = ()) -> Family[Gauge]:
        """The gauge family `name`; as `counter`."""
        return self._family(FamilyState(name, "gauge", help, labels, (), []), Gauge)

    def peak(self, name: str, help: str, labels: Labels = ()) -> Family[Peak]:
        """The gauge family `name` of which the greatest among the processes is shown; as `counter`."""
        return self._family(FamilyState(name, "gauge", help, labels, (), [], "max"), Peak)

    def histogram(
        self, name: str, help: str, labels: Labels = (), *, buckets: Sequence[float] = DURATION_BUCKETS_S
    ) -> Family[Histogram]:
        """The histogram family `name` with ascending, finite upper bounds; as `counter`."""
        bounds = tuple(float(bound) for bound in buckets)
        if not bounds or any(not low < high for low, high in zip(bounds, (*bounds[1:], math.inf), strict=True)):
            raise ValueError(f"Expected ascending, finite buckets for {name}, got {bounds}")
        return self._family(FamilyState(name, "histogram", help, labels, bounds, []), Histogram)

    def state(self) -> list[FamilyState]:
        """All numbers of now, to be sent to another process (msgspec encodes it) or made into text."""
        return [family.state() for family in self._families.values()]

    def merge(self, state: Sequence[FamilyState]) -> None:
        """Add the numbers of another process; families that are new here are declared."""
        for theirs in state:
            family = self._family(theirs, _TYPES[theirs.kind, theirs.merge])  # type: ignore[type-var]
            for values, numbers in theirs.samples:
                family.at(values).add(numbers)

    def text(self) -> str:
        """Prometheus text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
        return "".join(map(family_text, self.state()))

    def _family(self, declared: FamilyState, make: type[Child]) -> Family[Child]:
        family = self._families.get(declared.name)
        if family is None:
            family = self._families[declared.name] = Family(declared, make)
        known = (family.kind, family.labels, family.buckets, family.merge)
        if known != (declared.kind, declared.labels, declared.buckets, declared.merge):
            raise ValueError(f"Expected {declared.name} to be declared as before ({known}), got {declared}")
        return family  # type: ignore[return-value]


def lasting(state: Sequence[FamilyState]) -> list[FamilyState]:
    """What is left of the numbers of a process that has ended: its counts. Its gauges ended with it."""
    return [family for family in state if family.kind != "gauge"]


def family_text(family: FamilyState) -> str:
    """One family in the text exposition format."""
    lines = [f"# HELP {family.name} {_escaped_help(family.help)}", f"# TYPE {family.name} {family.kind}"]
    for values, numbers in family.samples:
        pairs = [f'{name}="{_escaped_label(value)}"' for name, value in zip(family.labels, values, strict=True)]
        if family.kind == "histogram":
            lines += _histogram_lines(family, pairs, numbers)
        else:
            lines.append(f"{family.name}{_braced(pairs)} {_number(numbers[0])}")
    return "\n".join(lines) + "\n"


def _histogram_lines(family: FamilyState, pairs: list[str], numbers: list[float]) -> list[str]:
    lines, total = [], 0.0
    for bound, count in zip((*family.buckets, math.inf), numbers[1:], strict=True):
        total += count
        labels = _braced([*pairs, f'le="{_number(bound)}"'])
        lines.append(f"{family.name}_bucket{labels} {_number(total)}")
    lines.append(f"{family.name}_sum{_braced(pairs)} {_number(numbers[0])}")
    lines.append(f"{family.name}_count{_braced(pairs)} {_number(total)}")
    return lines


def _braced(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped_label(text: str) -> str:
    return _escaped_help(text).replace('"', '\\"')
