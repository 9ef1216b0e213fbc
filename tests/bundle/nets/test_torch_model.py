"""PyTorch modules packed: exact graphs, doubles where single precision is too rough, TorchScript for the rest.

Run by `make test-torch`, in an environment of its own; elsewhere skipped when torch is not installed.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import penstock
from penstock.bundle.compression.record import Compression
from penstock.errors import BundleRefused, PackRefused

torch = pytest.importorskip("torch", reason="torch is not installed: make test-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make test-torch")

from penstock.bundle.loaders.torchscript import read_script  # noqa: E402

nn = torch.nn
OPTIONS = penstock.PackOptions(golden_rows=16)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(300, 4)) * [1.0, 10.0, 0.1, 100.0]
    return pd.DataFrame(values, columns=list("abcd"))


def module(outputs: int, activation: Any = None) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm1d(4), nn.Linear(4, 16), activation or nn.ReLU(), nn.Dropout(), nn.Linear(16, outputs)
    )


def packed(model: object, sample: object, where: Path) -> penstock.Bundle:
    return penstock.pack(model, name="net", sample=sample, out=where, options=OPTIONS)


def test_a_classifier_is_compiled_and_answers_as_the_module(rows: pd.DataFrame, tmp_path: Path) -> None:
    """Logits become probabilities in double, and no row of the proof is off by more than a millionth."""
    net = module(3)
    bundle = packed(penstock.TorchModel(net, kind="classification", classes=("x", "y", "z"), activation="softmax"),
                    rows, tmp_path)  # fmt: skip
    assert ("onnx", True, 0) == (bundle.flavour, bundle.proof and bundle.proof.is_exact, bundle.proof.flips)
    with torch.inference_mode():
        direct = torch.softmax(net.eval()(torch.tensor(rows.to_numpy(), dtype=torch.float32)).double(), 1).numpy()
    got = [list(one.probabilities.values()) for one in penstock.open(bundle.path).predict(rows)]
    assert np.abs(direct - got).max() < 1e-6


def test_the_module_is_left_as_it_was(rows: pd.DataFrame, tmp_path: Path) -> None:
    """Packing works on a copy: training mode, weights and dtype stay."""
    net = module(1).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    packed(penstock.TorchModel(net, kind="regression"), rows, tmp_path)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_one_score_of_two_classes(rows: pd.DataFrame, tmp_path: Path) -> None:
    """A sigmoid's probability is the second class's; the label is that class above a half."""
    model = penstock.TorchModel(module(1), kind="classification", classes=(False, True), activation="sigmoid")
    [answer] = penstock.open(packed(model, rows, tmp_path).path).predict(rows.head(1))
    assert {"false", "true"} == set(answer.probabilities)
    assert answer.label is (answer.probabilities["true"] > 0.5)


def test_values_are_served_in_double_where_single_precision_is_too_rough(rows: pd.DataFrame, tmp_path: Path) -> None:
    """The proof is against the module's double, and the recipe says how far the module itself rounds."""
    bundle = packed(penstock.TorchModel(module(1), kind="regression"), rows, tmp_path)
    assert "onnx" == bundle.flavour
    assert "single precision rounds" in bundle.verdict.recipe[0]
    assert bundle.proof is not None and bundle.proof.largest_difference < 1e-9


def test_a_loop_stays_native_as_torchscript(rows: pd.DataFrame, tmp_path: Path) -> None:
    """What the exporter cannot write is scripted, proven against the module, and served by torch."""
    bundle = packed(penstock.TorchModel(Halved(), kind="regression"), rows, tmp_path)
    assert ("native", "torchscript") == (bundle.flavour, bundle.manifest.loader)
    assert "torch.onnx" == bundle.verdict.native_because.step
    direct = Halved()(torch.tensor(rows.to_numpy()[:1], dtype=torch.float32)).item()
    assert direct == penstock.open(bundle.path).predict(rows.head(1))[0].value


class Halved(nn.Module):
    """Halves its sum until it is small: a loop over values."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        steps = 0
        total = rows.sum(1)
        while bool(rows.abs().max() > 1e9) and steps < 3:
            total = total * 0.5
            steps += 1
        return total


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codes, self.last = nn.Embedding(5, 3), nn.Linear(5, 1)

    def forward(self, numbers: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([numbers, self.codes(code)], 1))


def test_named_inputs(tmp_path: Path) -> None:
    """A dict of inputs becomes fields; whole numbers reach an embedding, and codes beyond it are the original's no."""
    random = np.random.default_rng(0)
    sample = {"numbers": random.normal(size=(50, 2)), "code": random.integers(0, 5, 50)}
    bundle = packed(penstock.TorchModel(Embedded(), kind="regression"), sample, tmp_path)
    assert ("onnx", ("numbers0", "numbers1", "code")) == (bundle.flavour, bundle.schema.names)
    assert bundle.proof is not None and bundle.proof.refused["extreme"] > 0


def test_undeclared_activations_and_missing_values_are_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    """Logits are no probabilities; a net that answers NaN has no answer; texts are no numbers."""
    plain = penstock.TorchModel(module(2), kind="classification", classes=(0, 1))
    with pytest.raises(PackRefused, match="activation='softmax'"):
        packed(plain, rows, tmp_path)
    with pytest.raises(PackRefused, match="Fill missing values"):
        packed(penstock.TorchModel(module(1), kind="regression"), rows.mask(rows > 1.0), tmp_path)
    with pytest.raises(PackRefused, match="a net reads numbers"):
        packed(penstock.TorchModel(module(1), kind="regression"), rows.assign(d="text"), tmp_path)


PACK = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy, penstock, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
sample = numpy.random.default_rng(0).normal(size=(40, 3))
model = penstock.TorchModel(net, kind="classification", classes=(0, 1), activation="softmax")
target = numpy.arange(40) % 2
options = penstock.PackOptions(golden_rows=8, quantize=sys.argv[1] or None, max_loss=1.0)
print(penstock.pack(model, name="n", sample=sample, holdout=(sample, target), out=sys.argv[2],
                    options=options).manifest.content_digest)
"""


@pytest.mark.parametrize("quantize", ["", "int8"])
def test_the_same_net_has_the_same_digest_in_two_processes(tmp_path: Path, quantize: str) -> None:
    """Neither the exporter's traces nor the quantiser's names take part in the bytes."""
    digests = {
        subprocess.run([sys.executable, "-c", PACK, quantize, str(tmp_path)], capture_output=True, text=True,
                       check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert 1 == len(digests)


def script(net: Any) -> bytes:
    written = io.BytesIO()
    torch.jit.save(torch.jit.script(net.eval()), written)
    return written.getvalue()


class Reads(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.from_file("/etc/hostname", False, 1)


class Writes(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        torch.save(rows, "/tmp/penstock-must-not-exist")
        return rows


class Restores(nn.Module):
    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = False

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


@pytest.mark.parametrize(("net", "what"), [(Reads, "torch.from_file"), (Writes, "torch.save"), (Restores, "run when")])
def test_a_script_that_reaches_outside_is_never_loaded(net: Any, what: str) -> None:
    """Its code is read before torch sees it: files, and code that would run while loading."""
    with pytest.raises(BundleRefused, match=what):
        read_script(script(net()))


def test_a_script_file_is_packed_and_serves(rows: pd.DataFrame, tmp_path: Path) -> None:
    """A TorchScript file stays native, and answers what it answered."""
    net = module(2, nn.GELU()).eval()
    (tmp_path / "net.pt").write_bytes(script(net))
    model = penstock.ScriptModel(
        tmp_path / "net.pt", kind="classification", classes=("n", "y"), activation="softmax"
    )  # fmt: skip
    bundle = packed(model, rows, tmp_path)
    with torch.inference_mode():
        direct = torch.softmax(net(torch.tensor(rows.to_numpy(), dtype=torch.float32)).double(), 1).numpy()
    got = [list(one.probabilities.values()) for one in penstock.open(bundle.path).predict(rows)]
    assert ("native", True) == (bundle.flavour, bool(np.abs(direct - got).max() < 1e-6))


def test_pruned_and_quantised(rows: pd.DataFrame, tmp_path: Path) -> None:
    """Half of the hidden units go, then the layers get eight bits: the file is smaller and says what it lost."""
    target = np.where(rows["a"] > 0, "y", "n")
    model = penstock.TorchModel(module(2), kind="classification", classes=("n", "y"), activation="softmax")
    options = penstock.PackOptions(golden_rows=16, prune=0.5, quantize="int8", max_loss=1.0)
    bundle = penstock.pack(model, name="net", sample=rows, holdout=(rows, target), out=tmp_path, options=options)
    done = bundle.part("compression.json", Compression)
    assert "8 of 16" in done.steps[0] and "int8" in done.steps[1]
    assert 150 == done.judged_rows


def test_what_cannot_be_narrower_is_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    """Units are left out of Sequential modules of Linear layers; others are told so."""
    options = penstock.PackOptions(golden_rows=16, prune=0.5)
    with pytest.raises(PackRefused, match=r"Halved is no nn\.Sequential"):
        penstock.pack(penstock.TorchModel(Halved(), kind="regression"), name="net", sample=rows,
                      holdout=(rows, rows["a"]), out=tmp_path, options=options)  # fmt: skip
