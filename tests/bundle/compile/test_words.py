"""Bags of words: exact on Unicode texts, and rejected by the proof where a word is understood in another way."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import pytest
from customer_table import Case, compiled
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from penstock.bundle.compile import NotCompilable, blame, words
from penstock.bundle.compile.unicode_texts import worded_texts
from penstock.bundle.loaders.skops_file import dump_skops
from penstock.schema import Field, Schema

WORDS = re.split(" ", "the pump leaks Straße kalt 北京 大学 problème ΟΔΟΣ istanbul über ok no yes a noise loud")
SCHEMA = Schema(fields=(Field(name="text", type="string"),))


def texts(rows: int = 200) -> pd.DataFrame:
    """Short texts in several scripts."""
    random = np.random.default_rng(0)
    made = [" ".join(random.choice(WORDS, random.integers(1, 8))) for _ in range(rows)]
    return pd.DataFrame({"text": pd.Series(made, dtype=object)})


def fitted(vectorizer: Any, frame: pd.DataFrame) -> Pipeline:
    """A vectoriser of the text and a linear model behind it."""
    target = frame["text"].str.contains("leaks|loud").astype(int)
    columns = ColumnTransformer([("words", vectorizer, "text")])
    return Pipeline([("pre", columns), ("model", LogisticRegression())]).fit(frame, target)


def case_of(vectorizer: Any) -> Case:
    """The compiled pipeline."""
    frame = texts()
    return compiled(fitted(vectorizer, frame), frame, SCHEMA)


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(),
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(stop_words="english", norm="l1"),
        CountVectorizer(),
        CountVectorizer(binary=True, lowercase=False, ngram_range=(2, 3)),
    ],
    ids=repr,
)
def test_vectorisers_are_exact(vectorizer: Any) -> None:
    """Words, rows of words, their weights and norms are the original's, on Unicode texts too."""
    proof = case_of(vectorizer).proof(0)
    assert (True, 0, True) == (proof.is_exact, proof.flips, proof.rows["unknown"] > 200)


@pytest.mark.parametrize("pattern", [r"[a-z]+", r"\w\w+", r"[\p{L}\p{M}\p{N}_]{2,}"])
def test_other_words_are_rejected(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokeniser of ASCII, or one that takes combining marks for letters, is caught by the proof and blamed."""
    monkeypatch.setattr(words, "token_pattern", lambda: pattern)
    case = case_of(TfidfVectorizer())
    proven = case.proven(0)
    assert (False, "pre > words") == (proven.proof.is_exact, blame(case.original, proven, SCHEMA).step)


def test_lower_case_of_the_operator_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Python's lower-casing the dotted I and the final sigma give other words, and the proof finds some."""
    monkeypatch.setattr(words, "lowered_field", lambda tensor: tensor)
    assert not case_of(TfidfVectorizer()).proof(0).is_exact


@pytest.mark.parametrize(
    ("vectorizer", "reason"),
    [
        (TfidfVectorizer(analyzer="char"), "analyzer"),
        (TfidfVectorizer(strip_accents="unicode"), "strip_accents"),
        (CountVectorizer(token_pattern=r"[a-z]+"), "token_pattern"),
        (CountVectorizer(stop_words=["the"], ngram_range=(1, 2)), "stop_words"),
        (HashingVectorizer(n_features=16), "HashingVectorizer"),
    ],
    ids=["characters", "accents", "pattern", "stop words", "hashing"],
)
def test_what_only_python_can_follow_is_named(vectorizer: Any, reason: str) -> None:
    """Other options keep the model native, with the option and the step."""
    with pytest.raises(NotCompilable, match=reason) as refusal:
        case_of(vectorizer)
    assert refusal.value.step == "pre > words"


def test_token_pattern_is_pythons_word() -> None:
    """Character by character the class is what Python's own pattern matches."""
    ranges = re.findall(r"\\x\{([0-9a-f]+)\}-\\x\{([0-9a-f]+)\}", words.token_pattern().partition("][")[0])
    inside = {code for low, high in ranges for code in range(int(low, 16), int(high, 16) + 1)}
    sample = [*range(0x3000), *range(0x1F000, 0x1F700), 0x1D400, 0x4E00, 0xAC00, 0x10FFFF]
    assert [code for code in sample if re.fullmatch(r"\w", chr(code))] == [code for code in sample if code in inside]


def test_worded_texts_have_what_parts_words() -> None:
    """Combining marks, Turkish letters, ß, ideographs, emoji, controls and empty texts are there."""
    made = [str(text) for text in worded_texts(np.array(["one two", "drei", None], dtype=object))]
    wanted = {"\u0301", "\u0130", "\u0131", "\u00df", "\u5b57", "\U0001f600", "\x00", "\u200d"}
    assert (set(), True) == (wanted - set("".join(made)), any(unicodedata.normalize("NFD", t) != t for t in made))


def test_native_vectorisers_are_written_the_same_twice() -> None:
    """The address of the stop words, which the vectoriser keeps, is not written."""
    pipeline = fitted(HashingVectorizer(n_features=16, stop_words=["the"]), texts())
    pipeline.named_steps["pre"].named_transformers_["words"]._stop_words_id = 1
    first = dump_skops(pipeline)
    pipeline.named_steps["pre"].named_transformers_["words"]._stop_words_id = 2
    assert first == dump_skops(pipeline)
