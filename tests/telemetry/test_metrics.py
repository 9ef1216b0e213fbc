"""Metrics: numbers in, Prometheus text out, read back by Prometheus' own parser."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.telemetry import FamilyState, Recent, Registry, family_text, process_state

LABEL_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=20)


def samples_of(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples of a metrics page by name and labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_counters_and_gauges_are_parsed_as_such() -> None:
    """Name, type, help, labels and value arrive as they were given."""
    registry = Registry()
    requests = registry.counter("model_requests_total", "Requests\nby outcome \\ kind.", ("model", "code"))
    requests.child(model="iris", code="ok").inc()
    requests.child(code="ok", model="iris").inc(2)
    requests.child(model="churn", code="not_found").inc()
    active = registry.gauge("model_active_requests", "In flight.").child()
    active.inc()
    active.dec(3)
    families = {family.name: family for family in text_string_to_metric_families(registry.text())}
    assert {"model_requests": "counter", "model_active_requests": "gauge"} == {n: f.type for n, f in families.items()}
    assert "Requests\nby outcome \\ kind." == families["model_requests"].documentation
    assert {
        ("model_requests_total", (("code", "ok"), ("model", "iris"))): 3,
        ("model_requests_total", (("code", "not_found"), ("model", "churn"))): 1,
        ("model_active_requests", ()): -2,
    } == samples_of(registry.text())


@given(LABEL_TEXT, LABEL_TEXT)
def test_label_values_are_escaped(one: str, other: str) -> None:
    """Any text is a label value, quotes, backslashes and newlines included."""
    registry = Registry()
    registry.gauge("a", "b", ("x", "y")).child(x=one, y=other).set(1)
    assert {("a", (("x", one), ("y", other))): 1} == samples_of(registry.text())


@given(st.floats())
def test_values_keep_every_digit(value: float) -> None:
    """A value is parsed as the very float that was set, non-finite ones included."""
    registry = Registry()
    registry.gauge("a", "b").child().set(value)
    [parsed] = samples_of(registry.text()).values()
    assert (value == parsed) or (math.isnan(value) and math.isnan(parsed))


@given(st.lists(st.floats(-10, 10) | st.sampled_from([1.0, 2.5, 5.0])), st.just((1.0, 2.5, 5.0)))
def test_histograms_count_by_upper_bound(values: list[float], bounds: tuple[float, ...]) -> None:
    """Each `le` has the number of observations at most that high; count and sum are of all."""
    registry = Registry()
    histogram = registry.histogram("h_seconds", "A time.", ("model",), buckets=bounds).child(model="m")
    for value in values:
        histogram.observe(value)
    label = ("model", "m")
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("h_seconds_bucket", (("le", text), label)): sum(value <= bound for value in values)
        for text, bound in [("1", 1.0), ("2.5", 2.5), ("5", 5.0), ("+Inf", math.inf)]
    }
    got = samples_of(registry.text())
    total = got.pop(("h_seconds_sum", (label,)))
    assert {**expected, ("h_seconds_count", (label,)): len(values)} == got
    assert math.isclose(math.fsum(values), total, abs_tol=1e-9)


@given(st.lists(st.lists(st.floats(0, 10), max_size=20), min_size=1, max_size=4))
def test_merging_sums_processes(workers: list[list[float]]) -> None:
    """The merged states of several processes give the page that one process with all their events gives."""
    alone, merged = Registry(), Registry()

    def count(registry: Registry, values: list[float]) -> None:
        histogram = registry.histogram("h", "H.", ("code",))
        counter = registry.counter("c_total", "C.")
        for value in values:
            histogram.child(code=str(int(value))).observe(int(value))
            counter.child().inc()

    for values in workers:
        worker = Registry()
        count(worker, values)
        count(alone, values)
        sent = msgspec.json.encode(worker.state())
        merged.merge(msgspec.json.decode(sent, type=list[FamilyState]))
    assert samples_of(alone.text()) == samples_of(merged.text())


def test_a_child_is_resolved_once() -> None:
    """The same label values give the same child, so it can be kept."""
    family = Registry().counter("a_total", "A.", ("model",))
    assert family.child(model="m") is family.child(model="m")


def test_removed_children_leave_the_page() -> None:
    """All children with the given label values are forgotten, the others stay."""
    registry = Registry()
    loaded = registry.gauge("model_loaded", "Loaded.", ("model", "version"))
    for model, version in [("a", "1"), ("a", "2"), ("b", "1")]:
        loaded.child(model=model, version=version).set(1)
    loaded.remove(model="a", version="1")
    assert {("a", "2"), ("b", "1")} == {tuple(v for _, v in labels) for _, labels in samples_of(registry.text())}
    loaded.remove(model="a")
    assert {("b", "1")} == {tuple(v for _, v in labels) for _, labels in samples_of(registry.text())}


def test_a_peak_is_the_greatest_of_the_processes() -> None:
    """Where the worst is asked, merging takes the greatest number and does not add."""
    merged = Registry()
    for seconds in (0.25, 2.5, 1.0):
        worker = Registry()
        worker.peak("lag_seconds", "Lag.").child().set(seconds)
        sent = msgspec.json.encode(worker.state())
        merged.merge(msgspec.json.decode(sent, type=list[FamilyState]))
    assert {("lag_seconds", ()): 2.5} == samples_of(merged.text())


def test_the_longest_recent_delay_is_shown_and_forgotten() -> None:
    """The longest delay stays for at least one span and is gone after two, seen or not."""
    now_s = [100.0]
    lag = Recent(clock=lambda: now_s[0], span_s=30.0)
    registry = Registry()
    registry.peak("lag_seconds", "Lag.").adopt(lag)

    def shown() -> float:
        [value] = samples_of(registry.text()).values()
        return value

    assert 0.0 == shown()
    lag.ended(98.0)
    lag.ended(99.5)
    assert 2.0 == shown()
    now_s[0] = 131.0
    lag.ended(130.5)
    assert 2.0 == shown()
    now_s[0] = 165.0
    assert 0.5 == shown()
    now_s[0] = 300.0
    assert 0.0 == shown()


def test_declaring_twice_gives_the_same_family() -> None:
    """Two parts of the program may declare the same metric; a different declaration is refused."""
    registry = Registry()
    assert registry.counter("a_total", "A.", ("x",)) is registry.counter("a_total", "A.", ("x",))
    with pytest.raises(ValueError, match="a_total"):
        registry.counter("a_total", "A.", ("y",))
    with pytest.raises(ValueError, match="a_total"):
        registry.gauge("a_total", "A.", ("x",))
    registry.gauge("b", "B.")
    with pytest.raises(ValueError, match="b"):
        registry.peak("b", "B.")


def test_wrong_labels_and_buckets_are_refused() -> None:
    """Unknown, missing and surplus labels are named; buckets must ascend and be finite."""
    registry = Registry()
    family = registry.counter("a_total", "A.", ("model",))
    for labels in ({}, {"modle": "m"}, {"model": "m", "code": "ok"}):
        with pytest.raises(ValueError, match="a_total"):
            family.child(**labels)
    for buckets in ((), (1, 1), (2, 1), (1, math.inf), (math.nan,)):
        with pytest.raises(ValueError, match="h_seconds"):
            registry.histogram("h_seconds", "H.", buckets=buckets)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="process metrics are read from /proc")
def test_process_metrics_are_of_this_process() -> None:
    """Memory, CPU, start and open files agree with what the system says otherwise, under the worker's label."""
    before_fds = len(list(Path("/proc/self/fd").iterdir()))
    samples = samples_of("".join(map(family_text, process_state({"worker": "2"}))))
    numbers = {name: value for (name, _), value in samples.items()}
    assert {(("worker", "2"),)} == {labels for _, labels in samples}
    assert 1e6 < numbers["process_resident_memory_bytes"] < 1e11
    assert 0 < numbers["process_cpu_seconds_total"] <= time.process_time() + 0.05
    assert numbers["process_start_time_seconds"] <= time.time()
    assert before_fds == numbers["process_open_fds"]


def test_process_metrics_are_absent_elsewhere(tmp_path: Path) -> None:
    """Where there is no /proc there are no process metrics, and no error."""
    assert [] == process_state(proc=tmp_path)
