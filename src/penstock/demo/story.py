"""The demo's acts: train, pack, compare with the usual conversion, serve, ask, break, look into the log, time it."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penstock.audit import read_records, verify
from penstock.bundle.bundle import Bundle
from penstock.bundle.frame import columns_of
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.subject import subject_of
from penstock.client import Client
from penstock.demo.data import churn_pipeline, customers
from penstock.demo.server import served
from penstock.demo.usual import Gap, UsualPredictor, gap
from penstock.errors import ServerRefused
from penstock.runtime import Model
from penstock.server.curl import curl_line

_TIMED_CALLS = 300
_PIPE_WIDTH = 120


class Act(msgspec.Struct, frozen=True):
    """A trained model of the demo: its training rows, rows that it never saw, and the bundle made of it."""

    title: str
    estimator: Any
    sample: pd.DataFrame
    fresh: pd.DataFrame
    bundle: Bundle


def tell(directory: Path | None) -> None:
    """Tell the story on standard output. Files go to `directory`, or to one that is removed afterwards."""
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with _workplace(directory) as place:
        acts = _packed(screen, place)
        _compare(screen, acts)
        with served([act.bundle.path for act in acts], place / "home") as url:
            with Client(url) as client:
                _ask(screen, client, acts)
                _break(screen, client, acts[1])
                _look_into_the_log(screen, place / "home")
                _time(screen, client, acts)
            _finish(screen, url, acts, directory)


@contextlib.contextmanager
def _workplace(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
    else:
        with tempfile.TemporaryDirectory(prefix="penstock-demo-") as name:
            yield Path(name)


def _packed(screen: Console, place: Path) -> list[Act]:
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _title(screen, 1, "Train three pipelines, and pack each with its training rows")
    cells, malignant = load_breast_cancer(return_X_y=True, as_frame=True)
    train_x, test_x, train_y, test_y = train_test_split(cells, malignant, test_size=0.3, random_state=0)
    table, left = customers(6000)
    fresh, fresh_left = customers(2000, seed=1)
    undated = table.drop(columns="signed_up")
    scaled = make_pipeline(StandardScaler(), GradientBoostingClassifier(random_state=0)).fit(train_x, train_y)
    made = [
        ("tumours: 30 numbers, scaled, gradient boosting", "tumours", scaled, train_x, (test_x, test_y)),
        ("churn: 12 columns, imputed, scaled, one-hot, forest of 200", "churn",
         churn_pipeline().fit(undated, left), undated, (fresh, fresh_left)),
        ("churn-dated: the same and a date", "churn-dated",
         churn_pipeline(50, dates=True).fit(table, left), table, (fresh, fresh_left)),
    ]  # fmt: skip
    acts = []
    for title, name, estimator, sample, holdout in made:
        began_s = time.monotonic()
        options = PackOptions(description=title)
        bundle = pack(estimator, name=name, sample=sample, holdout=holdout, out=place / "bundles", options=options)
        flavour = bundle.manifest.flavour
        screen.print(f"  packed [bold]{name}[/] in {time.monotonic() - began_s:.1f} s: {flavour}")
        acts.append(Act(title, estimator, sample, holdout[0], bundle))
    return acts


def _compare(screen: Console, acts: list[Act]) -> None:
    _title(screen, 2, "The proof: the same numbers as in training, row by row")
    table = Table(box=None, pad_edge=False)
    for name in ("model", "conversion", "rows", "differ > 1e-6", "largest difference", "labels flipped"):
        table.add_column(name)
    for act in acts:
        verdict = act.bundle.verdict
        if verdict.proof is None:
            table.add_row(act.bundle.manifest.name, "none: stays native")
            continue
        usual, ours = _gaps(act)
        for conversion, found in (("the usual, float32", usual), ("[bold]Penstock's[/]", ours)):
            flips = str(found.flips) if found.flips == 0 else f"[red]{found.flips}[/]"
            wrong = str(found.wrong) if found.wrong == 0 else f"[red]{found.wrong}[/]"
            table.add_row(act.bundle.manifest.name, conversion, f"{found.rows:,}", wrong, f"{found.largest:.1e}", flips)
    screen.print(table)
    for act in acts:
        verdict = act.bundle.verdict
        if verdict.native_because is not None:
            why = verdict.native_because
            screen.print(f"  {act.bundle.manifest.name} stays native: {why.step}: {why.reason}", markup=False)
        elif verdict.proof is not None:
            thresholds = verdict.proof.thresholds
            screen.print(
                f"  {act.bundle.manifest.name}: {thresholds.met:,} of {thresholds.total:,} split thresholds met, "
                f"{thresholds.straddled:,} straddled by neighbouring doubles"
            )


def _gaps(act: Act) -> tuple[Gap, Gap]:
    """The usual conversion and ours, on training rows, fresh rows and the bundle's golden rows together."""
    subject = subject_of(act.estimator, act.sample, act.bundle.schema)
    model = Model.load(act.bundle)
    golden = model.check.columns(model.check.from_objects(act.bundle.golden.rows).rows)
    parts = [subject.columns, columns_of(act.fresh, act.bundle.schema), golden]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in subject.columns}
    truth = subject.original.run(columns)
    usual = UsualPredictor(subject.estimator, subject.schema, subject.outputs)
    return gap(truth, usual.run(columns)), gap(truth, model.run(columns))


def _ask(screen: Console, client: Client, acts: list[Act]) -> None:
    _title(screen, 3, "Serve all three, and ask: one row each, then a batch of 500")
    for act in acts:
        row = act.bundle.golden.rows[0]
        answer = client.predict(act.bundle.manifest.name, row, key="customer-17")
        screen.print(f"  {answer.model} v{answer.version}: {_json(answer.predictions[0])}  [dim]{answer.request_id}[/]")
    churn = acts[1].bundle
    rows = acts[1].fresh[list(churn.schema.names)].head(500)
    answer = client.predict("churn", rows)
    leaving = sum(prediction.label == "yes" for prediction in answer.predictions)
    screen.print(
        f"  churn, {len(answer.predictions)} rows in one call: {leaving} would leave, {answer.latency_ms:.1f} ms"
    )


def _break(screen: Console, client: Client, act: Act) -> None:
    _title(screen, 4, "Send what a model must never see")
    row = act.bundle.golden.rows[0]
    missing = {name: value for name, value in row.items() if name != "plan"}
    bad = [
        ("a number as text, a field too many", {**row, "age": "31", "shoe_size": 42}),
        ("a required field missing", missing),
        ("true where 1 is meant", {**row, "support_calls": True}),
    ]
    for what, wrong in bad:
        try:
            client.predict("churn", wrong)
        except ServerRefused as refusal:
            screen.print(f"  {what}: [bold]{refusal.status}[/]")
            for violation in refusal.violations:
                screen.print(f"    {escape(str(violation))}")


def _look_into_the_log(screen: Console, home: Path) -> None:
    _title(screen, 5, "Each of these answers was in the audit log before it left")
    segment = max((home / "audit").rglob("*.jsonl"))
    records = list(read_records(segment))
    shown = next(record for record in records if record.model == "churn" and record.kind == "prediction")
    line = next(line for line in segment.read_text().splitlines() if shown.request_id in line)
    screen.print(msgspec.json.format(line, indent=2), markup=False)
    report = verify(segment)
    state = "the chain of hashes is intact" if report.is_intact else f"BROKEN: {report.broken}"
    screen.print(f"  {len(records)} records, {sum(r.kind == 'refusal' for r in records)} of them refusals; {state}")


def _time(screen: Console, client: Client, acts: list[Act]) -> None:
    _title(screen, 6, "Latency of one row, median, on this machine")
    table = Table(box=None, pad_edge=False)
    for name in ("model", "predict_proba itself", "the bundle", "whole call over HTTP", "the bundle is faster by"):
        table.add_column(name)
    for act in acts:
        model = Model.load(act.bundle)
        row = act.bundle.golden.rows[0]
        checked = model.check.from_objects([row]).rows
        frame = act.sample.head(1)
        native_us = _median_us(partial(act.estimator.predict_proba, frame), _TIMED_CALLS // 10)
        bundle_us = _median_us(partial(model.score, checked), _TIMED_CALLS)
        call_us = _median_us(partial(client.predict, model.name, row), _TIMED_CALLS // 3)
        times = [f"{value:,.0f} µs" for value in (native_us, bundle_us, call_us)]
        table.add_row(act.bundle.manifest.name, *times, f"{native_us / bundle_us:,.1f} ×")
    screen.print(table)
    screen.print("  [dim]the call includes Python's HTTP client; `make bench` measures the server alone[/]")


def _finish(screen: Console, url: str, acts: list[Act], directory: Path | None) -> None:
    _title(screen, 7, "Now you")
    screen.print(curl_line(url, Model.load(acts[1].bundle)), markup=False)
    interactive = sys.stdin.isatty()
    if directory is not None:
        bundles = " ".join(f"--bundle {act.bundle.path}" for act in acts)
        screen.print(f"  again: penstock serve {bundles} --home {directory / 'home'}")
    screen.print(f"  open [bold]{url}/docs[/]")
    if directory is not None or interactive:
        screen.print("  the server runs until Ctrl-C" if directory else "  Ctrl-C stops the server and removes all")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    else:
        screen.print("  [dim](not on a terminal: the server stops here; --keep keeps it)[/]")


def _median_us(call: Callable[[], object], runs: int) -> float:
    call()
    times = []
    for _ in range(runs):
        began_ns = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began_ns) / 1e3)
    return statistics.median(times)


def _title(screen: Console, number: int, text: str) -> None:
    screen.print(f"\n[bold]{number}. {text}[/]")


def _json(value: object) -> str:
    return escape(msgspec.json.encode(value).decode())
