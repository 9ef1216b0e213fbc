"""What TorchScript code may call, read as text: no torch needed."""

from __future__ import annotations

import pytest

from penstock.bundle.loaders.script_scan import refuse_effects
from penstock.errors import BundleRefused

BODY = """
class Net(Module):
  __parameters__ = ["weight", ]
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    _0 = __torch__.torch.nn.functional.layer_norm
    first = self.first
    y = torch.relu_(torch.linear((first).forward(x, ), CONSTANTS.c0))
    {line}
    return _0(y, [8], )
"""


def scan(line: str, trusted: tuple[str, ...] = ()) -> None:
    refuse_effects({"module/code/__torch__.py": BODY.format(line=line).encode()}, trusted)


def test_code_that_computes_passes() -> None:
    """Operators of the list, their variants in place, the program's own methods and functions."""
    scan("z = torch.mul(y, 2, )")


@pytest.mark.parametrize(
    "line",
    [
        "z = torch.save(y, 'f')",
        "z = torch.from_file('f', True, 1)",
        "z = ops.aten.from_file('f')",
        "t = torch",
        "z = torch.relu",
        "z = (torch).save(y, 'f')",
        "z = getattr(torch, 'save')(y, 'f')",
        "z = fork(y)",
        "z = [torch.save][0](y, 'f')",
        "z = annotate(__torch__.torch.classes.x.Y, y)",
        "z = (lambda: torch.save)()(y, 'f')",
        "def __setstate__(self, state: int) -> None: pass",
    ],
)
def test_what_reaches_outside_is_refused(line: str) -> None:
    """Operators beyond the list by any name or way, C++ classes, and code that would run while loading."""
    with pytest.raises(BundleRefused):
        scan(line)


def test_the_server_may_trust_one_more() -> None:
    """By its full name, and no other."""
    scan("z = torch.fft_fft(y)", ("torch.fft_fft",))
    with pytest.raises(BundleRefused, match=r"torch\.fft_fft"):
        scan("z = torch.fft_fft(y)", ("torch.fft",))


@pytest.mark.parametrize("name", ["module/code/x.pyc", "module/code/x.py"])
def test_what_cannot_be_read_is_refused(name: str) -> None:
    """Only source that parses is let through."""
    with pytest.raises(BundleRefused):
        refuse_effects({name: b"def ("}, ())
