"""`make sizes`: what each extra takes on disk, installed with the constraints into an empty virtual environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = ("", "[sklearn]", "[pack]", "[arrow]", "[xgboost]", "[lightgbm]", "[catboost]", "[mlflow]", "[otel]")
MIB_BYTES = 1 << 20


def main() -> None:
    """Print a Markdown table."""
    print("| install | MiB | packages |\n| --- | --- | --- |")
    for extra in EXTRAS:
        size_bytes, packages = measured(extra)
        print(f"| `pip install 'penstock{extra}'` | {size_bytes / MIB_BYTES:,.0f} | {packages} |")


def measured(extra: str) -> tuple[int, int]:
    """Bytes and number of packages that `extra` adds to an empty environment, compiled files included."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = Path(name) / "bin" / "python"
        site = Path(name) / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        empty_bytes, empty = size_of(site), len(list(site.glob("*.dist-info")))
        command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*command, f"{ROOT}{extra}"], check=True)
        return size_of(site) - empty_bytes, len(list(site.glob("*.dist-info"))) - empty


def size_of(directory: Path) -> int:
    """The bytes of all files below `directory`."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
