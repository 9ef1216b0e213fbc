"""`Evidence`: what counts, what does not, how parts add up, and that it is saved whole."""

from __future__ import annotations

import random
from math import isfinite

import msgspec
import pytest
from histories import EDGES, WATCHED, evidence_of, observations, request, traffic
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.rollout import GUARDRAILS, Evidence, Observation, Outcome, Reading, Watched
from penstock.rollout.guardrails import DECILES, limit_of

LABELS = Watched(label_delay_s=100, score_edges=EDGES)
# What is learnt on the way depends on the order: the champion's p95, and means so far.
EXACT = {guardrail.name for guardrail in WATCHED.guardrails} - {"slow"}


def read(evidence: Evidence) -> dict[str, Reading]:
    """Readings by name."""
    return {reading.name: reading for reading in evidence.readings()}


def outcome(**fields: object) -> Outcome:
    """What came true of one request at even weights, served at 1,000 s."""
    usual: dict[str, object] = {"arm": "champion", "weight": 0.5, "champion_weight": 0.5, "served_at": 1_000.0}
    return Outcome(**{**usual, **fields})  # type: ignore[arg-type]


def test_the_table_is_that_of_the_design() -> None:
    """Three hard guardrails at 1, and the limits that follow from how many there are."""
    assert ["error", "refused_output", "missed_deadline"] == [rail.name for rail in GUARDRAILS if rail.kind == "hard"]
    assert (75, 1_600) == (limit_of("hard", GUARDRAILS), limit_of("soft", GUARDRAILS))
    assert (75, 1_200) == tuple(limit_of(kind, WATCHED.guardrails) for kind in ("hard", "soft"))


def test_what_is_declared_turns_guardrails_off_and_hard() -> None:
    """A recalibration has no deciles, without a delay there are no labels, and a label's loss may abort."""
    assert not set(DECILES) & {rail.name for rail in Watched(is_recalibrated=True).guardrails}
    assert not {"label_loss", "labelled_less"} & {rail.name for rail in Watched().guardrails}
    hard = [rail.name for rail in Watched(label_delay_s=1, is_label_hard=True).guardrails if rail.kind == "hard"]
    assert "label_loss" in hard


def test_a_canary_that_errs_is_an_alarm() -> None:
    """5 % of errors beside an error-free champion: an alarm of this guardrail and of no other."""
    readings = evidence_of(traffic(1_500, rates=(0.05, 0.0))).readings()
    assert ["error"] == [reading.name for reading in readings if reading.state == "alarm"]
    error = readings[0]
    assert (True, 3, 0.04) == (error.e >= error.limit == 75, error.guardrails_of_kind, error.alpha)
    assert error.lower > 1


def test_an_identical_canary_is_proven() -> None:
    """Without errors it is proven of all three hard guardrails."""
    readings = evidence_of(traffic(8_000, rates=(0.0, 0.0))).readings()
    assert ["slow"] == [reading.name for reading in readings if reading.state == "open"]  # nothing had a run time
    assert [("proven", 0)] * 3 == [(reading.state, reading.needed) for reading in readings if reading.kind == "hard"]
    assert 0.005 > readings[0].canary_at_most


def test_no_traffic_is_open() -> None:
    """Nothing seen: no alarm, nothing proven, and what is needed is told."""
    readings = Evidence.of(WATCHED).readings()
    assert {"open"} == {reading.state for reading in readings}
    assert 600 < (readings[0].needed or 0) < 750


def test_the_champions_traffic_alone_proves_nothing() -> None:
    """A canary that gets nothing is never proven."""
    seen = [observation for observation in traffic(8_000, rates=(0.0, 0.0)) if observation.arm == "champion"]
    assert "proven" not in {reading.state for reading in evidence_of(seen).readings()}


@given(st.lists(observations, max_size=30), st.sampled_from(["rule", "header", "version", "alias"]))
@settings(max_examples=25)
def test_what_was_placed_is_no_evidence(seen: list[Observation], placed_by: str) -> None:
    """Requests that did not go by the hash change no reading and no mean; they are counted."""
    placed = [msgspec.structs.replace(observation, placed_by=placed_by) for observation in seen]
    evidence = evidence_of(placed)
    assert (Evidence.of(WATCHED).readings(), {}) == (evidence.readings(), evidence.intervals())
    assert len(seen) == evidence.left_out == sum(evidence.arms.values())


def part_of(observation: Observation) -> int:
    """Every caller in one part, strangers anywhere."""
    return (observation.key_hash if observation.key_hash is not None else int(observation.at * 1_000)) % 3


@given(st.lists(observations, max_size=40))
@settings(max_examples=20)
def test_parts_are_the_whole(seen: list[Observation]) -> None:
    """However requests are split over followers and merged, every exact reading is that of the whole."""
    whole, once, again = evidence_of(seen), Evidence.of(WATCHED), Evidence.of(WATCHED)
    parts = [[observation for observation in seen if part_of(observation) == part] for part in range(3)]
    for part in parts:
        once.merge(evidence_of(part))
    for part in reversed(parts):
        again.merge(evidence_of(part))
    for merged in (once, again):
        assert whole.arms == merged.arms
        assert (whole.first_at, whole.last_at, whole.left_out) == (merged.first_at, merged.last_at, merged.left_out)
        assert whole.requests == merged.requests
        assert whole.first_requests == merged.first_requests
        ours, theirs = read(whole), read(merged)
        for name in EXACT:
            assert msgspec.to_builtins(ours[name]) == pytest.approx(msgspec.to_builtins(theirs[name])), name


@given(st.lists(observations, max_size=40), st.integers(0, 40))
@settings(max_examples=20)
def test_saved_and_read_it_goes_on_as_if_nothing_happened(seen: list[Observation], cut: int) -> None:
    """By JSON or MessagePack in the middle, the end is the same to the last bit, and nothing is ever NaN."""
    whole = evidence_of(seen)
    for codec in (msgspec.json, msgspec.msgpack):
        evidence = codec.decode(codec.encode(evidence_of(seen[:cut])), type=Evidence)
        for observation in seen[cut:]:
            evidence.observe(observation)
        assert whole == evidence
        assert whole.readings() == evidence.readings()
    for reading in whole.readings():
        assert all(isfinite(number) for number in msgspec.structs.astuple(reading) if isinstance(number, float))


def test_a_caller_is_one_event_for_each_guardrail() -> None:
    """One caller that fails a hundred times on the canary is no alarm; a hundred callers are."""
    for keys, is_alarm in (([7] * 100, False), (list(range(100)), True)):
        seen = [request(arm="canary", key_hash=key, is_error=True) for key in keys]
        error = evidence_of(seen).readings()[0]
        assert (is_alarm, 100) == (error.state == "alarm", error.canary_events)


def test_scores_that_move_are_found_without_declared_edges() -> None:
    """The deciles are learnt from the champion's first thousand scores; a canary scoring above them is an alarm."""
    chance = random.Random(1)
    evidence = Evidence.of(Watched())
    for observation in traffic(6_000, rates=(0.0, 0.0)):
        score = chance.gauss(0.5 + 0.2 * (observation.arm == "canary"), 0.1)
        evidence.observe(msgspec.structs.replace(observation, score=score))
    assert (9, []) == (len(evidence.edges or ()), evidence.scores)
    assert "alarm" == read(evidence)["score_decile_10"].state
    interval = evidence.intervals()["score"]
    assert 0.15 < (interval.lower or 0) < (interval.upper or 0) < 0.25


def test_callers_in_the_wrong_ratio_are_an_alarm() -> None:
    """Where the canary gets a quarter of the callers at a weight of 10 %, the sample ratio is in alarm."""
    readings = evidence_of([request(arm=("canary", *["champion"] * 3)[number % 4]) for number in range(400)]).readings()
    assert ("sample_ratio", "alarm", 2.5) == (readings[-1].name, readings[-1].state, readings[-1].ratio)


def test_labels_wait_until_they_are_mature() -> None:
    """A label younger than the delay is brought again; one that came later than it counts as none."""
    evidence = Evidence.of(LABELS)
    early = outcome(labelled_at=1_010.0, loss=1.0)
    assert (False, {}) == (evidence.observe_label(early, now=1_099.0), evidence.mature)
    assert evidence.observe_label(early, now=1_100.0)
    assert evidence.observe_label(outcome(labelled_at=1_101.0, loss=1.0), now=2_000.0)
    reading = read(evidence)["label_loss"]
    assert (2, 1) == (reading.champion_n, reading.champion_events)
    assert not Evidence.of(WATCHED).observe_label(early, now=9e9)


@pytest.mark.parametrize(
    ("canary", "champion", "alarm"),
    [
        ((0.5, 0.3), (0.5, 0.1), "label_loss"),
        ((0.8, 0.1), (0.4, 0.1), "labelled_more"),
        ((0.4, 0.1), (0.8, 0.1), "labelled_less"),
    ],
)
def test_labels_that_differ_hold(canary: tuple[float, float], champion: tuple[float, float], alarm: str) -> None:
    """More loss than the champion's is an alarm, and so is a share of labels that differs, either way."""
    chance = random.Random(1)
    evidence = Evidence.of(LABELS)
    for _ in range(3_000):
        is_canary = chance.random() < 0.5
        labelled, wrong = canary if is_canary else champion
        at = 1_050.0 if chance.random() < labelled else None
        loss = None if at is None else float(chance.random() < wrong)
        arm = "canary" if is_canary else "champion"
        evidence.observe_label(outcome(arm=arm, labelled_at=at, loss=loss, values={"revenue": 1.0}), now=2_000.0)
    assert alarm in {reading.name for reading in evidence.readings() if reading.state == "alarm"}
    assert "labelled_less" == alarm or "labelled_less" not in {
        r.name for r in evidence.readings() if r.state == "alarm"
    }
    assert {"loss", "revenue"} == set(evidence.intervals())


def test_a_placed_outcome_is_taken_and_says_nothing() -> None:
    """An outcome of a request that was placed by a rule is done with."""
    evidence = Evidence.of(LABELS)
    assert evidence.observe_label(outcome(placed_by="rule", labelled_at=1_001.0, loss=1.0), now=2_000.0)
    assert {} == evidence.mature


def test_memory_is_bounded() -> None:
    """Twenty thousand callers, metrics and scores of all kinds: what is saved stays below a megabyte as MessagePack."""
    chance = random.Random(1)
    evidence = Evidence.of(Watched())
    for number in range(20_000):
        fields = {"is_error": True, "out_of_range": True, "score": chance.random(), "key_hash": chance.getrandbits(63)}
        evidence.observe(request(**fields, worker=str(number), values={str(number): 1.0}, batch_rows=number, run_ms=1))
    assert len(msgspec.msgpack.encode(evidence)) < 1_000_000
