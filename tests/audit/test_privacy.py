"""What may be kept of a call: pseudonyms, and policies for payloads."""

from __future__ import annotations

import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Privacy, Pseudonyms, RequestIds, keeps, open_pseudonyms
from penstock.audit.pseudonyms import is_pseudonym
from penstock.errors import SegmentError


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_a_pseudonym_is_of_one_text(one: str, other: str) -> None:
    """Only the same text has the same pseudonym; key, client id and another secret each give another."""
    names = Pseudonyms(b"secret")
    assert (one == other) == (names.of_key(one) == names.of_key(other))
    assert 3 == len({names.of_key(one), names.of_client_id(one), Pseudonyms(b"other").of_key(one)})
    assert is_pseudonym(names.of_key(one))


@given(st.binary(max_size=64), st.text())
def test_a_pseudonym_is_an_hmac(secret: bytes, text: str) -> None:
    """It is the first half of HMAC-SHA256 of the kind and the text, so anyone with the secret can make it."""
    wanted = hmac.new(secret, b"key\0" + text.encode(errors="surrogatepass"), "sha256").hexdigest()[:32]
    assert f"hmac:{wanted}" == Pseudonyms(secret).of_key(text)


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    """Many that open a new home at once have one secret, readable by its owner only, and nothing is left beside it."""
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: open_pseudonyms(tmp_path / "home").of_key("k"), range(16)))
    assert 1 == len(set(found))
    assert [("audit.key", 0o600)] == [
        (path.name, stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "home").iterdir()
    ]


@pytest.mark.parametrize("content", ["", "abcd", "not hexadecimal", "é"])
def test_a_foreign_secret_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is none of ours is named, and not written over."""
    (tmp_path / "audit.key").write_text(content)
    with pytest.raises(SegmentError, match="restore it from a backup"):
        open_pseudonyms(tmp_path)
    assert content == (tmp_path / "audit.key").read_text()


def test_nothing_is_hashed_that_is_not_there() -> None:
    """None stays None; without a secret texts stay as they are."""
    hashed, clear = Privacy(Pseudonyms(b"secret")), Privacy()
    assert (None, None, "k") == (hashed.key(None), hashed.client_id(None), clear.key("k"))
    assert is_pseudonym(hashed.client_id("k"))


def test_policies_are_of_models() -> None:
    """A model without one keeps all, and so does a call that names none."""
    privacy = Privacy(policies={"a": "none", "b": 0.25})
    assert ["none", 0.25, "full", "full"] == [privacy.policy(model) for model in ("a", "b", "c", None)]


def test_a_share_is_of_the_request_ids() -> None:
    """About the share of calls is kept, the same ones each time, and a larger share has those of a smaller one."""
    ids = RequestIds()
    drawn = [ids.next() for _ in range(4000)]
    kept = {share: {one for one in drawn if keeps(share, one) == "full"} for share in (0.0, 0.1, 0.5, 1.0)}
    assert (set(), set(drawn)) == (kept[0.0], kept[1.0])
    assert kept[0.1] < kept[0.5]
    assert 300 < len(kept[0.1]) < 500
    assert kept[0.1] == {one for one in drawn if keeps(0.1, one) == "full"}
    assert ["full", "features", "none"] == [keeps(policy, drawn[0]) for policy in ("full", "features", "none")]
