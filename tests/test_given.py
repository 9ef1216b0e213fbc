"""Bundles of the command line as what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.bundle.manifest import manifest_of
from penstock.errors import BundleRefused
from penstock.given import given, is_given
from penstock.routing import CHAMPION, NOTHING


def test_numbers_in_their_order(bundles: dict[str, Path]) -> None:
    """Bundles of one name are its versions 1, 2, … as they were given; the first is the champion."""
    made = given([bundles["iris"], bundles["churn"], bundles["iris"]], "churn")
    digest = manifest_of(bundles["iris"]).content_digest
    assert {1: digest, 2: digest} == made.table.models["iris"].versions
    assert {CHAMPION: 1} == made.table.models["iris"].aliases
    assert (bundles["iris"], bundles["churn"]) == (made.path("iris", 2), made.path("churn", 1))
    assert ("churn", True, False) == (made.table.default_model, is_given(made), is_given(NOTHING))


def test_no_bundle(tmp_path: Path) -> None:
    """What is no bundle is refused by name."""
    with pytest.raises(BundleRefused, match="nope"):
        given([tmp_path / "nope"])
