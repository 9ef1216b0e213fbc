"""What gets imported: serving a compiled bundle needs none of the libraries that packing needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"pandas", "sklearn", "skl2onnx", "onnx", "skops", "joblib", "pyarrow", "fastapi", "scipy", "polars", "torch"}
HEAVY |= {"duckdb", "opentelemetry", "requests", "google", "structlog", "prometheus_client", "grpc"}


def loaded_by(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    whole = f"import sys\n{code}\nprint('\\n'.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", whole, *arguments], capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    return set(done.stdout.split())


def test_the_root_is_light() -> None:
    """`import penstock` loads no library that is not in every Python."""
    light = {"numpy", "onnxruntime", "uvicorn", "uvloop", "httpx", "msgspec", "rich", "typer"}
    assert set() == (HEAVY | light) & loaded_by("import penstock")


def test_serving_a_compiled_bundle(bundles: dict[str, Path]) -> None:
    """The server's modules and a loaded, answering compiled model load nothing of what packing needs."""
    code = (
        "import penstock.app, penstock.loading, penstock.server.http.asgi, penstock.settings\n"
        "from pathlib import Path\n"
        "from penstock.settings import Settings\n"
        "model = penstock.loading.load_model(Path(sys.argv[1]), 1, Settings())\n"
        "assert model.predict({'sepal_length': 5.1, 'sepal_width': 3.5, 'petal_length': 1.4, 'petal_width': 0.2})"
    )
    loaded = loaded_by(code, str(bundles["iris"]))
    assert set() == HEAVY & loaded
    assert {"numpy", "onnxruntime", "uvicorn", "msgspec"} <= loaded


def test_the_command_line_is_light() -> None:
    """`penstock --help` loads neither models nor the server."""
    code = (
        "from penstock.cli import main\n"
        "sys.argv = ['penstock', '--help']\n"
        "import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()"
    )
    assert set() == (HEAVY | {"numpy", "onnxruntime", "uvicorn"}) & loaded_by(code)


def test_the_client_is_light() -> None:
    """`penstock.Client` loads httpx and no runtime."""
    loaded = loaded_by("import penstock; penstock.Client")
    assert set() == (HEAVY | {"onnxruntime", "uvicorn"}) & loaded
    assert "httpx" in loaded
