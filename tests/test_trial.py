"""A trial load, in a process of its own: why a bundle cannot be served here, and that nothing else suffers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest

from broken import changed_byte, failing_golden_row, killing, missing_library
from penstock.settings import ControlSettings, Settings
from penstock.trial import failure_of


@pytest.mark.parametrize("name", ["iris", "growth"])
def test_what_can_be_served(bundles: dict[str, Path], name: str) -> None:
    """A compiled bundle and a native one, loaded and proven: nothing speaks against them."""
    assert None is failure_of(bundles[name], Settings())


def test_a_changed_byte(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The file that was changed is named."""
    why = failure_of(changed_byte(bundles["iris"], tmp_path), Settings())
    assert why is not None and why.startswith("model.onnx: ") and "it was changed" in why


def test_a_failing_golden_row(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The row, the original's answer and this machine's are said."""
    why = failure_of(failing_golden_row(bundles["iris"], tmp_path), Settings())
    assert why is not None and why.startswith("golden row 0: the original answered label = ")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed here")
def test_a_missing_library(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The library is named, with what to install."""
    why = failure_of(missing_library(bundles["iris"], tmp_path), Settings())
    assert why is not None and "pip install 'penstock[tensorflow]'" in why


def test_a_graph_that_kills_its_process(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The process that loads it dies, and this one says of what."""
    assert "the process that loaded it was killed by SIGSEGV" == failure_of(
        killing(bundles["iris"], tmp_path), Settings()
    )


def test_what_takes_too_long(bundles: dict[str, Path]) -> None:
    """After `control.try_s` it is given up: no Python starts within a hundredth of a second."""
    control = msgspec.structs.replace(ControlSettings(), try_s=0.01)
    assert "it did not load and prove itself within 0.01 s (control.try_s)" == failure_of(
        bundles["iris"], Settings(control=control)
    )


def test_a_process_that_ends_without_a_word(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that ends the process: how it ended is said, and what it printed last."""
    (tmp_path / "onnxruntime.py").write_text("import os, sys\nprint('no GLIBC', file=sys.stderr)\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent.parent / 'src'}")
    assert "the process that loaded it exited with 3 and no word; it printed last: no GLIBC" == failure_of(
        bundles["iris"], Settings()
    )
