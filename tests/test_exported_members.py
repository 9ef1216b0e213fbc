"""What each package exports is what it says that it exports."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = sorted(
    ".".join(file.parent.relative_to(SOURCE).parts) for file in (SOURCE / "penstock").rglob("__init__.py")
)


def re_exports(package: str) -> list[str]:
    """The public names that the package's __init__.py imports."""
    tree = ast.parse((SOURCE / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    aliases = [
        alias
        for node in tree.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module != "__future__")
        for alias in node.names
    ]
    return sorted(name for alias in aliases if not (name := alias.asname or alias.name).startswith("_"))


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "penstock"])
def test_all_is_what_is_imported(package: str) -> None:
    """`__all__` has each re-export of the package, nothing else, and nothing twice."""
    assert re_exports(package) == sorted(getattr(importlib.import_module(package), "__all__", []))


def test_the_root_gives_each_name_that_it_promises() -> None:
    """Each name in the root's `__all__` is there, and `dir` shows it."""
    root = importlib.import_module("penstock")
    promised = getattr(root, "__all__", [])
    assert [name for name in promised if not hasattr(root, name) or name not in dir(root)] == []
    assert len(promised) == len(set(promised))
