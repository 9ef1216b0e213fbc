"""Where a bundle comes from: who packed it, with what, on which machine. Describes; decides nothing."""

from __future__ import annotations

import getpass
import platform
import socket
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from penstock.bundle.digest import sha256
from penstock.bundle.dvc import DvcReference
from penstock.errors import PackRefused

_LONGEST_PARAM = 200

_LIBRARIES = (
    *("numpy", "onnxruntime", "scikit-learn", "skl2onnx", "onnx", "pandas", "skops", "scipy"),
    *("xgboost", "xgboost-cpu", "lightgbm", "catboost", "torch", "tensorflow"),
)


class Environment(msgspec.Struct, frozen=True):
    """`environment.json`: what the model was packed with."""

    python: str
    platform: str
    libraries: dict[str, str]


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an imported model came from.

    - `kind`: the layout. `location`: the file's or folder's name, or an MLflow URI.
    - `files`: the digests of the files that were read. `facts`: what they say of themselves (parameters, versions).
    - `sample`: how the sample was made, where none was shipped or given; None when it is of training rows.
    - `notes`: what the importer points out.
    """

    kind: str
    location: str
    files: dict[str, str]
    facts: dict[str, str] = {}
    sample: str | None = None
    notes: tuple[str, ...] = ()


class Provenance(msgspec.Struct, frozen=True):
    """`provenance.json`: `packed_by` is the operating system's user@host, unverified; `git_commit` ends in `+` when
    the working tree had changes; `notes` are what inference pointed out; `params` the estimator's own parameters;
    `mlflow_run` and `dvc` are what the packer says of the training run and its data.
    """

    packed_by: str
    model_class: str
    sample_rows: int
    sample_digest: str
    git_commit: str | None = None
    description: str | None = None
    notes: Sequence[str] = ()
    params: dict[str, str] = {}
    origin: Origin | None = None
    mlflow_run: str | None = None
    dvc: DvcReference | None = None


def environment() -> Environment:
    """This process' environment."""
    return Environment(platform.python_version(), platform.platform(), installed(_LIBRARIES))


def installed(libraries: Sequence[str]) -> dict[str, str]:
    """The versions of those of `libraries` that are installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def params_of(estimator: Any) -> dict[str, str]:
    """The plain parameters of an estimator and its steps, as text; none for what has no `get_params`."""
    if not hasattr(estimator, "get_params"):
        return {}
    plain = {key: value for key, value in estimator.get_params().items() if isinstance(value, bool | int | float | str)}
    return {key: str(value)[:_LONGEST_PARAM] for key, value in sorted(plain.items())}


def digest_of(path: Path) -> str:
    """The digest of a file. Raises PackRefused when it cannot be read."""
    try:
        return sha256(path.read_bytes())
    except OSError as error:
        raise PackRefused(path.name, f"it cannot be read: {error.strerror}", "Check the path") from error


def user_at_host() -> str:
    """Who the operating system says it is; unverified."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def git_commit() -> str | None:
    """The commit of the working directory, with `+` when it has changes; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
