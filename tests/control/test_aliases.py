"""How aliases and versions may be spelled."""

from __future__ import annotations

import pytest

from penstock.control.aliases import alias_of, version_of
from penstock.errors import Unknown

DIGESTS = {1: "sha256:" + "a" * 64, 2: "sha256:" + "b" * 64, 4: "sha256:" + "b" * 63 + "c"}


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("champion", "champion"),
        ("Production", "champion"),
        ("STAGING", "candidate"),
        ("archived", None),
        ("v1.2-b", "v1.2-b"),
    ],
)
def test_stages_and_names(spelling: str, expected: str | None) -> None:
    """Stages are spellings of aliases; other names are themselves."""
    assert expected == alias_of(spelling)


@pytest.mark.parametrize("spelling", ["", "3", "Blue", "a b", "-a", "a/b", "ä", "x" * 65, "champion\n"])
def test_what_names_no_alias(spelling: str) -> None:
    """Numbers, capitals and everything that would be odd in an URL are refused."""
    with pytest.raises(Unknown, match="cannot name an alias"):
        alias_of(spelling)


def test_versions_by_name() -> None:
    """The latest, a digest, and its beginning where no other begins so."""
    assert [4, 1, 1, 4] == [
        version_of("churn", DIGESTS, spelling)
        for spelling in ("latest", "sha256:" + "a" * 64, "sha256:aaaaaaaa", "sha256:" + "b" * 63 + "c")
    ]


@pytest.mark.parametrize("spelling", ["sha256:bbbbbbbb", "sha256:aa", "newest", "", "sha256:" + "d" * 64, "1.0"])
def test_what_names_no_version(spelling: str) -> None:
    """What is ambiguous, too short or unknown is refused, naming what there is."""
    with pytest.raises(Unknown, match=r"is no version of 'churn': expected a number \(1, 2, 4\)"):
        version_of("churn", DIGESTS, spelling)


def test_of_nothing_there_is_no_latest() -> None:
    """A model without versions has no latest one."""
    with pytest.raises(Unknown, match="nothing"):
        version_of("churn", {}, "latest")
