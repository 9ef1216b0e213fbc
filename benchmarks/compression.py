"""What compression costs and gains on bank_full: regenerates docs/compression.md. Run with `make compression`.

The first 30,000 rows in a shuffled order train; of the others, pruning chooses on every second row, and the rest judge.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import penstock
from penstock.bundle.compression.record import Compression

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "bank_full.csv"
PAGE = ROOT / "docs" / "compression.md"
START, END = "<!-- table -->", "<!-- end of table -->"
TRAINED_ROWS = 30_000
WIDE = 256


def main() -> int:
    """Train, pack each way, print and write the table."""
    if not DATA.exists():
        print(f"{DATA} is missing: the table stays as it is", file=sys.stderr)
        return 1
    rows, left = read()
    train = (rows[:TRAINED_ROWS], left[:TRAINED_ROWS])
    net = penstock.TorchModel(trained(*train), kind="classification", classes=("no", "yes"), activation="softmax")
    forest = RandomForestClassifier(200, min_samples_leaf=5, random_state=0, n_jobs=2).fit(*train)
    perceptron = make_pipeline(StandardScaler(), MLPClassifier((128, 128), max_iter=8, random_state=0))
    perceptron.fit(*train)
    ways: list[tuple[str, Any, dict[str, Any]]] = [
        (f"PyTorch, {WIDE} + {WIDE} units", net, {"quantize": "int8"}),
        (f"PyTorch, {WIDE} + {WIDE} units", net, {"quantize": "int8-dynamic"}),
        (f"PyTorch, {WIDE} + {WIDE} units", net, {"prune": 0.5}),
        (f"PyTorch, {WIDE} + {WIDE} units", net, {"prune": 0.5, "quantize": "int8"}),
        (f"PyTorch, {WIDE} + {WIDE} units", net, {"prune": 0.99, "metric": "roc_auc"}),
        ("the same, its scaling in the first layer", folded(net), {"quantize": "int8", "metric": "roc_auc"}),
        ("MLPClassifier, 128 + 128 units", perceptron, {"quantize": "int8"}),
        ("MLPClassifier, 128 + 128 units", perceptron, {"prune": 0.5}),
        ("RandomForest, 200 trees", forest, {"prune": 0.5}),
        ("RandomForest, 200 trees", forest, {"prune": 0.8}),
        ("RandomForest, 200 trees", forest, {"prune": 0.99, "metric": "roc_auc"}),
    ]
    lines = [HEAD, RULE]
    for title, model, options in ways:
        lines.append(line_of(title, model, options, rows, left))
        print(lines[-1], flush=True)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")
    return 0


HEAD = (
    "| model | compression | KiB | one row, us | 64 rows, us | accuracy | ROC AUC | largest | mean | flips of 20,000 |"
)
RULE = "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"


def line_of(title: str, model: Any, options: dict[str, Any], rows: pd.DataFrame, left: np.ndarray) -> str:
    """One line of the table: before → after, or the refusal."""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    with tempfile.TemporaryDirectory() as scratch:
        try:
            bundle = penstock.pack(
                model,
                name="bank",
                sample=rows[:TRAINED_ROWS],
                holdout=(rows[TRAINED_ROWS:], left[TRAINED_ROWS:]),
                out=scratch,
                options=penstock.PackOptions(threshold_budget=200, **options),
            )
        except penstock.PenstockError as refusal:
            return f"| {title} | {said} | refused: {str(refusal).removeprefix('max_loss: ')} | | | | | | | |"
    done = bundle.part("compression.json", Compression)
    if done is None:
        raise LookupError("the bundle has no compression.json")
    old, new, far = done.before, done.after, done.distance
    cells = [
        title,
        said,
        f"{old.size_bytes / 1024:,.0f} → {new.size_bytes / 1024:,.0f}",
        f"{old.one_row_us:,.0f} → {new.one_row_us:,.0f}",
        f"{old.many_rows_us:,.0f} → {new.many_rows_us:,.0f}",
        f"{old.metrics['accuracy']:.4f} → {new.metrics['accuracy']:.4f}",
        f"{old.metrics['roc_auc']:.4f} → {new.metrics['roc_auc']:.4f}",
        f"{far.largest:.2g}",
        f"{far.mean:.2g}",
        f"{far.flips:,}",
    ]
    return f"| {' | '.join(cells)} |"


def read() -> tuple[pd.DataFrame, np.ndarray]:
    """The rows as numbers, shuffled, and the answers; `duration` is known only after the call."""
    table = pd.read_csv(DATA).drop(columns="duration")
    table = table.sample(frac=1.0, random_state=0).reset_index(drop=True)
    left = table.pop("y").to_numpy(dtype=object)
    return pd.get_dummies(table, dtype=float), left


class Scaled(torch.nn.Module):  # type: ignore[misc]
    """Standard scaling, by the training rows."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("spread", rows.std(0) + 1e-6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) / self.spread


def trained(rows: pd.DataFrame, left: np.ndarray) -> torch.nn.Module:
    """A net of two hidden layers, three epochs of Adam."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    given = torch.tensor(rows.to_numpy(), dtype=torch.float32)
    wanted = torch.tensor((left == "yes").astype(np.int64))
    nn = torch.nn
    layers = [nn.Linear(given.shape[1], WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, 2)]
    net = nn.Sequential(Scaled(given), *layers)
    steps, loss = torch.optim.Adam(net.parameters(), 1e-3), nn.CrossEntropyLoss()
    for _ in range(3):
        for some in torch.randperm(len(given)).split(256):
            steps.zero_grad()
            loss(net(given[some]), wanted[some]).backward()
            steps.step()
    return net


def folded(model: penstock.TorchModel) -> penstock.TorchModel:
    """The same function with raw columns into its first layer: their ranges differ by a factor of 100,000."""
    scaled, first, *others = copy.deepcopy(model.module)
    with torch.no_grad():
        first.bias -= first.weight @ (scaled.mean / scaled.spread)
        first.weight /= scaled.spread
    return msgspec.structs.replace(model, module=torch.nn.Sequential(first, *others))


if __name__ == "__main__":
    sys.exit(main())
