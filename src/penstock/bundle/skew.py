"""The environment rule: which libraries a bundle's loader needs, and whether those here are the ones of packing.

A compiled bundle is decided by its golden rows alone. A native one runs the library that fitted it, whose behaviour
may change with any minor version on rows that no golden row meets; so another minor version is refused.
"""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.parts import read_parts
from penstock.bundle.provenance import Environment, installed
from penstock.errors import BundleRefused

_LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    "sklearn": ("scikit-learn",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "torchscript": ("torch",),
    "savedmodel": ("tensorflow",),
}
_PARTS: Final = {"model.ubj": "xgboost", "model.txt": "lightgbm", "model.cbm": "catboost"}
_EXTRAS: Final = {"scikit-learn": "sklearn"}
_TWINS: Final = {"xgboost": "xgboost-cpu"}
"""Two distributions of one library; either serves what the other has packed."""


class Skew(msgspec.Struct, frozen=True):
    """One library that the bundle's loader needs: its version at packing and here (None: not known, not there)."""

    library: str
    packed: str | None
    here: str | None

    @property
    def is_refused(self) -> bool:
        """Whether both versions are known and their major or minor numbers differ."""
        return self.packed is not None and self.here is not None and minor(self.packed) != minor(self.here)

    @property
    def extra(self) -> str:
        """The extra of Penstock that brings the library."""
        return _EXTRAS.get(self.library, self.library)


def skews(bundle: Bundle) -> list[Skew]:
    """What the bundle's loader needs, beside what is installed. Raises BundleRefused for an unreadable file."""
    environment = bundle.part("environment.json", Environment)
    packed = {} if environment is None else environment.libraries
    return [Skew(name, _version(name, packed), _version(name, _installed(name))) for name in libraries_of(bundle)]


def libraries_of(bundle: Bundle) -> tuple[str, ...]:
    """The libraries that run this bundle's model; none for a compiled one."""
    loader = bundle.manifest.loader
    if loader == "boosted_pipeline":
        parts = read_parts(bundle.model_bytes, bundle.manifest.model_file)
        return ("scikit-learn", *(library for name, library in _PARTS.items() if name in parts))
    return _LIBRARIES.get(loader, ())


def require_same_minor(bundle: Bundle) -> None:
    """Raise BundleRefused when a library of a native bundle is here in another minor version than at packing."""
    for skew in skews(bundle):
        if skew.is_refused:
            raise BundleRefused(
                f"environment.json: a native bundle of {skew.library} {skew.packed}; {skew.here} is installed, "
                f"another minor version, which may answer differently: install {skew.library}=={skew.packed}, pack it "
                "again here, or set native.allow_version_skew = true, and its golden rows alone decide"
            )


def minor(version: str) -> tuple[str, ...]:
    """The first two numbers of a version, as text."""
    return tuple(version.split(".")[:2])


def _installed(name: str) -> dict[str, str]:
    return installed([name, _TWINS.get(name, name)])


def _version(name: str, versions: dict[str, str]) -> str | None:
    return versions.get(name) or versions.get(_TWINS.get(name, name))
