"""Where a bundle comes from: who packed it, with what, on which machine. Describes; decides nothing."""

from __future__ import annotations

import getpass
import platform
import socket
import subprocess
from collections.abc import Sequence
from importlib import metadata

import msgspec

_LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "skl2onnx", "onnx", "pandas", "skops", "scipy")


class Environment(msgspec.Struct, frozen=True):
    """`environment.json`: what the model was packed with."""

    python: str
    platform: str
    libraries: dict[str, str]


class Provenance(msgspec.Struct, frozen=True):
    """`provenance.json`: `packed_by` is the operating system's user@host, unverified; `git_commit` ends in `+` when
    the working tree had changes; `notes` are what inference pointed out.
    """

    packed_by: str
    model_class: str
    sample_rows: int
    sample_digest: str
    git_commit: str | None = None
    description: str | None = None
    notes: Sequence[str] = ()


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
