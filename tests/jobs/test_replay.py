"""Replay against the models that were packed, on real rows: its numbers, its proof, and what it cannot score."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from replaying import BEGIN, called, calls_of, question_of, replayed, write

import penstock
from penstock.audit import Record
from penstock.audit.erase import Wanted, erase
from penstock.audit.pseudonyms import open_pseudonyms
from penstock.audit.record import FellBack
from penstock.audit.seal import Sealer
from penstock.audit.sealed_lines import sealed_lines
from penstock.errors import SegmentError
from penstock.jobs.page import page_of
from penstock.jobs.replay import JOBS, REPLAYS, Replay, alone
from penstock.routing import Decision
from penstock.runtime.decision import decide_by
from penstock.runtime.model import Model, open_model

DATA = Path(__file__).parents[2] / "../shared/data/bank_full.csv"
ROWS = 5_000


class Bank(msgspec.Struct):
    """Two versions and their originals, the rows, and a home with what the first one answered to them."""

    home: Path
    first: Model
    second: Model
    originals: tuple[Any, Any]
    frame: Any
    rows: list[Any]
    records: list[Record]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A forest on `bank_full.csv`, its smaller successor, and 5,000 rows that the first one has answered."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    if not DATA.exists():
        pytest.skip(f"needs {DATA}")
    table = pd.read_csv(DATA).sample(ROWS + 3_000, random_state=7).reset_index(drop=True)
    frame, target = table.drop(columns="y"), table["y"]
    out = tmp_path_factory.mktemp("bank")
    options = penstock.PackOptions(threshold_budget=10, golden_rows=8)
    originals, models = [], []
    for number, (trees, rows) in enumerate([(15, 3_000), (8, 1_500)], start=1):
        texts = frame.select_dtypes(exclude="number").columns
        encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), list(texts)), remainder="passthrough")
        forest = RandomForestClassifier(trees, max_depth=9, class_weight="balanced", random_state=number)
        model = make_pipeline(encode, forest).fit(frame[-rows:], target[-rows:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = out / str(number)
            folder.mkdir()
            packed = penstock.pack(model, name="bank", sample=frame[-1_500:], out=folder, options=options)
        originals.append(model)
        models.append(Model.load(packed, version=number))
    served = frame[:ROWS]
    checked = models[0].check.from_objects(served.to_dict("records")).rows
    records = calls_of(models[0], checked)
    write(out / "home", records)
    return Bank(out / "home", *models, (originals[0], originals[1]), served, checked, records)


def test_the_same_version_answers_to_the_bit(bank: Bank) -> None:
    """What a compiled forest answered in runs of 1 to 5 rows it answers again in runs of 1,000, to the last bit."""
    report = replayed(bank.home, bank.first, {"is_identical": True})
    identity = report.result.identity
    assert (ROWS, ROWS, 0, 0.0) == (report.result.pairs, identity.bit_for_bit, identity.unequal, identity.tolerance)
    assert report.is_identical
    assert 1.0 == report.result.rows.share


def test_another_version_is_compared_as_the_originals_would_be(bank: Bank) -> None:
    """Flips, quantiles, PSI, segments and the largest difference equal those computed from the fitted models alone."""
    report = replayed(bank.home, bank.second, {"by": "contact"})
    one, other = (model.predict_proba(bank.frame)[:, 1] for model in bank.originals)
    labels = [model.predict(bank.frame) for model in bank.originals]
    result = report.result
    flips = Counter(zip(*labels, strict=True))
    assert ["no", "yes"] == result.labels
    assert [[flips[before, after] for after in result.labels] for before in result.labels] == result.matrix
    assert flips["no", "yes"] + flips["yes", "no"] == result.flips > 0
    moved = np.abs(one - other)
    assert result.moved is not None
    assert result.moved.is_exact
    expected = [moved.mean(), *np.quantile(moved, [0.5, 0.9, 0.95, 0.99, 0.999]), moved.max()]
    found = [getattr(result.moved, name) for name in ("mean", "p50", "p90", "p95", "p99", "p999", "most")]
    assert pytest.approx(expected, rel=1e-9, abs=1e-12) == found
    edges = np.quantile(one, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.searchsorted(edges, each, side="right"), minlength=10) + 0.5 for each in (one, other))
    p, q = p / p.sum(), q / q.sum()
    assert result.scores is not None
    # Rows on an edge may fall to either side, as originals and graphs differ in the last bits: 3 rows move 0.002.
    assert pytest.approx(float(((q - p) * np.log(q / p)).sum()), abs=0.002) == result.scores.psi
    for segment in result.segments:
        within = (bank.frame["contact"] == segment.name).to_numpy()
        assert (within.sum(), (labels[0] != labels[1])[within].sum()) == (segment.pairs, segment.flips)
        assert pytest.approx(moved[within].max()) == segment.moved_most
    assert set(bank.frame["contact"]) == {segment.name for segment in result.segments}
    assert pytest.approx(np.sort(moved)[::-1][:20].tolist()) == [one.difference for one in result.largest]
    place = int(moved.argmax())
    largest = result.largest[0]
    assert bank.frame.iloc[place].to_dict() == largest.features
    assert pytest.approx(one[place]) == largest.champion["probabilities"]["yes"]
    assert pytest.approx(other[place]) == largest.candidate["probabilities"]["yes"]
    assert result.latency[0].timed > 0


def test_decisions_are_those_that_are_declared_and_recorded(bank: Bank, tmp_path: Path) -> None:
    """The candidate decides by what is declared of the model now, abstaining within the band; for the proof, by what
    each record says.
    """
    rule = Decision(label="yes", otherwise="no", threshold=0.4, abstain=(0.3, 0.4))
    shares = [model.predict_proba(bank.frame)[:, 1] for model in bank.originals]
    decided = np.where(shares[1] >= 0.4, "yes", np.where(shares[1] >= 0.3, "(abstains)", "no"))
    labels = bank.originals[0].predict(bank.frame)
    found = replayed(bank.home, bank.second, {"decision": rule}).result
    counts = Counter(zip(labels, decided, strict=True))
    assert ["(abstains)", "no", "yes"] == found.labels
    assert [[counts[before, after] for after in found.labels] for before in found.labels] == found.matrix
    own = decide_by(rule, bank.first.bundle.outputs)
    write(
        tmp_path,
        [
            called(bank.first, 0, bank.rows[:50]),
            called(bank.first, 1, bank.rows[:50], decision=rule, outputs=own(bank.first.score(bank.rows[:50]))),
        ],
    )
    proof = replayed(tmp_path, bank.first, {"is_identical": True})
    assert (100, 100) == (proof.result.pairs, proof.result.identity.bit_for_bit)
    assert 0 < replayed(tmp_path, bank.first).result.identity.unequal


def test_only_what_is_asked_for_is_read(bank: Bank) -> None:
    """Times, and values of fields, also such as the version does not know; the rest is counted."""
    since, until = BEGIN + timedelta(seconds=100), BEGIN + timedelta(seconds=200)
    within = [one for one in bank.records if since <= one.at < until]
    report = replayed(bank.home, bank.second, {"since": "a", "where": (("housing", "yes"),)}, moments=(since, until))
    first = sum(one.rows for one in bank.records if one.at < since)
    count = sum(one.rows for one in within)
    asked = (bank.frame["housing"][first : first + count] == "yes").sum()
    assert (count, asked, count - asked) == (report.result.rows.rows, report.result.pairs, report.result.rows.filtered)
    assert 1.0 == report.result.rows.share
    nobody = replayed(bank.home, bank.second, {"where": (("nothing", "1"),)})
    assert (0, ROWS) == (nobody.result.pairs, nobody.result.rows.filtered)


def test_an_answer_that_is_not_the_models_breaks_the_proof(bank: Bank, tmp_path: Path) -> None:
    """One number changed in its last bit, and one label, are found and named; another content is no part of it."""
    told = [called(bank.first, number, [row]) for number, row in enumerate(bank.rows[:20])]
    answer = told[7].outputs[0]
    shifted = {name: float(np.nextafter(value, 2)) for name, value in answer.probabilities.items()}
    told[7] = called(bank.first, 7, [bank.rows[7]], outputs=[msgspec.structs.replace(answer, probabilities=shifted)])
    other = {"no": "yes", "yes": "no"}[told[9].outputs[0].label]
    told[9] = called(bank.first, 9, [bank.rows[9]], outputs=[msgspec.structs.replace(told[9].outputs[0], label=other)])
    write(tmp_path, [*told, *(called(bank.second, 30 + number, [bank.rows[number]]) for number in range(5))])
    report = replayed(tmp_path, bank.first, {"is_identical": True})
    assert (20, 18, 2) == (report.result.pairs, report.result.identity.bit_for_bit, report.result.identity.unequal)
    assert ["call-000007", "call-000009"] == [one.request_id for one in report.result.identity.first]
    assert not report.is_identical


def test_what_cannot_be_scored_is_counted_by_reason(bank: Bank, tmp_path: Path) -> None:
    """Refused values, missing fields, fallbacks, kept nothing, kept no answer, erased: each has its count."""
    rows, first = bank.rows, bank.first
    plain = msgspec.to_builtins(rows[0])
    without = {name: value for name, value in plain.items() if name not in ("age", "job")}
    answer = first.score(rows[:1])
    write(
        tmp_path,
        [
            called(first, 0, rows[:2]),
            called(first, 1, rows[:1], input=[{**plain, "age": "old"}], outputs=answer),
            called(first, 2, rows[:1], input=[without], outputs=answer),
            called(first, 3, rows[:3], fallback=FellBack("version", "model_failed", 2)),
            called(first, 4, rows[:2], input=None, outputs=None),
            called(first, 5, rows[:1], outputs=None),
            called(first, 6, rows[:1], kind="failure", outputs=None),
            called(first, 7, rows[:1], model="another", input=[{**plain, "model": "bank"}]),
            called(first, 8, rows[:1], input=[{**plain, "more": [1, "x"]}]),
        ],
    )
    erase(tmp_path / "audit", Wanted(frozenset({"call-000004"})), open_pseudonyms(tmp_path))
    found = replayed(tmp_path, bank.second).result
    counts = found.rows
    assert (11, 3, 1, 1, 3, 2, 1) == (
        counts.rows,
        counts.scored,
        counts.refused,
        counts.lacking,
        counts.by_fallback,
        counts.without_features,
        counts.without_answer,
    )
    assert {"age": 1, "job": 1} == counts.missing
    assert 3 / 8 == counts.share
    assert [("call-000001", 0)] == [(fault.request_id, fault.row) for fault in found.faults]
    assert ["age"] == [why.rpartition("`")[0].rpartition("`")[2] for why in found.refusals]


def test_masked_values_make_rows_unscorable(
    bundles: dict[str, Path], churn_row: dict[str, Any], tmp_path: Path
) -> None:
    """Of a model with personal fields the log has no values, so no row of it can be scored; the report says which."""
    churn = open_model(bundles["churn"])
    write(tmp_path, [called(churn, 0, churn.check.from_objects([churn_row] * 3).rows)])
    counts = replayed(tmp_path, churn).result.rows
    assert (3, 0, 3, {"income": 3, "device": 3}) == (counts.rows, counts.scored, counts.lacking, counts.masked)
    assert 0.0 == counts.share


def test_a_failing_row_takes_no_other_with_it(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Rows on which the candidate fails are found one by one, however many there are; the others are compared."""
    amount = open_model(bundles["amount"])
    rows = amount.check.from_objects([{"x": 1e308 if place % 10 == 3 else float(place)} for place in range(50)]).rows
    good = amount.score(rows[:1])
    write(
        tmp_path,
        [
            called(amount, number, rows[:1], input=[row], outputs=good if number % 10 == 3 else amount.score([row]))
            for number, row in enumerate(rows)
        ],
    )
    found = replayed(tmp_path, amount).result
    assert (45, 5, 45) == (found.pairs, found.rows.failed, found.identity.bit_for_bit)
    assert [f"call-{number:06d}" for number in (3, 13, 23, 33, 43)] == [fault.request_id for fault in found.faults]


def test_what_was_sent_goes_through_the_candidates_own_defaults(bank: Bank, tmp_path: Path) -> None:
    """With `--whole` a row that was sent without a field is scored by the candidate's default."""
    fields = [
        msgspec.structs.replace(field, default={"campaign": 3}.get(field.name, msgspec.UNSET))
        for field in bank.second.schema.fields
    ]
    schema = msgspec.structs.replace(bank.second.schema, fields=tuple(fields))
    bundle = msgspec.structs.replace(bank.second.bundle, schema=schema)
    candidate = Model.load(bundle, version=2)
    plain = msgspec.to_builtins(bank.rows[0])
    sent = {name: value for name, value in plain.items() if name != "campaign"}
    final = bank.first.check.from_objects([{**plain, "campaign": 40}]).rows
    write(tmp_path, [called(bank.first, 0, final, raw=[sent])])
    answers = {
        is_whole: replayed(tmp_path, candidate, {"is_whole": is_whole}).result.largest[0] for is_whole in (False, True)
    }
    assert {False: 40, True: 3} == {is_whole: one.features["campaign"] for is_whole, one in answers.items()}


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_killed_replay_goes_on_where_it_was(bank: Bank, tmp_path: Path, is_sealed: bool) -> None:
    """Killed with SIGKILL in the middle, and asked again: the report is that of one that was never killed, and every
    pair counts once, also when the log was sealed and has grown meanwhile.
    """
    write(tmp_path, bank.records, segment_bytes=200_000)
    words = [sys.executable, str(Path(__file__).parent / "slow_replay.py"), str(tmp_path), str(bank.second.bundle.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pairs = 0
        while pairs < ROWS // 3:
            pairs = int(process.stdout.readline())
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    [kept] = (tmp_path / JOBS).glob("replay-*.json")
    assert 0 < json.loads(kept.read_bytes())["comparison"]["pairs"] < ROWS
    if is_sealed:
        Sealer(tmp_path / "audit").seal()
    write(tmp_path, [called(bank.first, 9_000_000, bank.rows[:1])])
    resumed = Replay(tmp_path, question_of(bank.second), bank.second, sealed_lines=sealed_lines)
    assert resumed.resumed_at is not None
    report = resumed.run()
    whole = replayed(bank.home, bank.second)
    assert report.resumed
    assert (ROWS, 0) == (report.result.pairs, report.unread)
    assert _steady(whole.result) == _steady(report.result)
    assert not kept.exists()
    assert [f"{report.id}.json"] == [path.name for path in (tmp_path / REPLAYS).iterdir()]


def test_one_question_is_replayed_by_one_process(bank: Bank, tmp_path: Path) -> None:
    """A second one that asks the same is refused; another question is not."""
    with alone(tmp_path, question_of(bank.first)):
        with pytest.raises(SegmentError, match="another process does so"), alone(tmp_path, question_of(bank.first)):
            pass
        with alone(tmp_path, question_of(bank.second)):
            pass


def test_the_page_stands_alone_and_shows_nothing_as_markup(bank: Bank, tmp_path: Path) -> None:
    """Values and names that are HTML are text on the page, which loads nothing and runs nothing."""
    evil = "<script>alert(1)</script>"
    plain = msgspec.to_builtins(bank.rows[0])
    write(tmp_path, [called(bank.first, 0, bank.rows[:1], input=[{**plain, "job": evil}], request_id=evil)])
    report = replayed(tmp_path, bank.second, {"by": "job", "where": (("job", evil),)})
    assert 1 == report.result.pairs
    page = page_of(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page_of(replayed(bank.home, bank.second, {"by": "marital"})).count("<svg") == 4


def _steady(result: Any) -> Any:
    """All of a result but times."""
    return msgspec.structs.replace(result, latency=[], run_us=None)
