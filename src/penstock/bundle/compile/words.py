"""Bags of words: CountVectorizer and TfidfVectorizer of one text column, with scikit-learn's own token pattern.

Lower-casing happens before the graph, by Python's `str.lower`: no operator knows its rules for the Turkish dotted I and
the final sigma. Tokens are found by a class of characters that is written out from what Python's `\\w` matches.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import MICROSOFT, Graph, is_field, lowered_field
from penstock.bundle.compile.refusal import NotCompilable

_PATTERN = r"(?u)\b\w\w+\b"
_PAD = "\uffff"
_SURROGATES = range(0xD800, 0xE000)


def count_vectorizer(graph: Graph, vectorizer: Any, features: Features, step: str) -> Features:
    """How often each word (or row of words) of the vocabulary is in the text."""
    counts = _counts(graph, vectorizer, features, step)
    graph.recipe.append(f"{step}: words by Python's own lower-casing and classes of characters")
    return _columns(graph, counts)


def tfidf_vectorizer(graph: Graph, vectorizer: Any, features: Features, step: str) -> Features:
    """Counts, weighted by the rarity of the word, divided by the row's norm; all in double."""
    out = _counts(graph, vectorizer, features, step)
    width = graph.widths[out]
    if vectorizer.sublinear_tf:
        none = graph.add("Equal", [out, graph.constant(np.array(0.0))])
        safe = graph.add("Where", [none, graph.constant(np.array(1.0)), out])
        grown = graph.add("Add", [graph.add("Log", [safe]), graph.constant(np.array(1.0))])
        out = graph.add("Where", [none, out, grown], width=width)
    if vectorizer.use_idf:
        out = graph.add(
            "Mul", [out, graph.constant(np.asarray(vectorizer.idf_, np.float64).reshape(1, -1))], width=width
        )
    if vectorizer.norm is not None:
        out = _normed(graph, out, vectorizer.norm)
    graph.recipe.append(f"{step}: words by Python's own lower-casing and classes of characters, weights in double")
    return _columns(graph, out)


def _columns(graph: Graph, tensor: str) -> Features:
    width = graph.widths[tensor]
    return tuple(Feature(tensor=tensor, index=index, kind="number", sparse=True) for index in range(width))


def _normed(graph: Graph, tensor: str, norm: str) -> str:
    axes = graph.constant(np.array([1], np.int64))
    if norm == "l1":
        size = graph.add("ReduceSum", [graph.add("Abs", [tensor]), axes], keepdims=1)
    else:
        squares = graph.add("ReduceSum", [graph.add("Mul", [tensor, tensor]), axes], keepdims=1)
        size = graph.add("Sqrt", [squares])
    none = graph.add("Equal", [size, graph.constant(np.array(0.0))])
    whole = graph.add("Where", [none, graph.constant(np.array(1.0)), size], width=1)
    return graph.add("Div", [tensor, whole], width=graph.widths[tensor])


def _counts(graph: Graph, vectorizer: Any, features: Features, step: str) -> str:
    """`[n, words]` float64."""
    _require_plain(vectorizer, features, step)
    name = features[0].tensor
    text = graph.matrix(
        (Feature(tensor=lowered_field(name), index=0, kind="text"),) if vectorizer.lowercase else features
    )
    flat = graph.add("Reshape", [text, graph.constant(np.array([-1], np.int64))])
    words = graph.add(
        "Tokenizer", [flat], domain=MICROSOFT, tokenexp=token_pattern(), mark=0, pad_value=_PAD, mincharnum=1
    )
    counted = graph.add("TfIdfVectorizer", [words], **_vocabulary(vectorizer))
    width = len(vectorizer.vocabulary_)
    counts = graph.cast(counted, TensorProto.DOUBLE)
    graph.widths[counts] = width
    if vectorizer.binary:
        counts = graph.add("Min", [counts, graph.constant(np.array(1.0))], width=width)
    return counts


def _require_plain(vectorizer: Any, features: Features, step: str) -> None:
    """Raises NotCompilable naming the option that only Python can follow."""
    if len(features) != 1 or not is_field(features[0].tensor) or features[0].kind != "text":
        raise NotCompilable(step, "words of anything but one column of texts as it arrives")
    if features[0].nulls:
        raise NotCompilable(step, "words of a text that may be missing")
    low, high = vectorizer.ngram_range
    own = {
        "analyzer": vectorizer.analyzer != "word",
        "token_pattern": vectorizer.token_pattern != _PATTERN,
        "tokenizer": vectorizer.tokenizer is not None,
        "preprocessor": vectorizer.preprocessor is not None,
        "strip_accents": vectorizer.strip_accents is not None,
        "stop_words with rows of words": vectorizer.stop_words is not None and (low, high) != (1, 1),
        "dtype": np.dtype(vectorizer.dtype) not in (np.dtype(np.int64), np.dtype(np.float64)),
        "norm": getattr(vectorizer, "norm", None) == "max",
        # Only what the pattern finds can be met in a text.
        "vocabulary": any(not _is_found(term) for term in vectorizer.vocabulary_),
    }
    wrong = next((option for option, is_wrong in own.items() if is_wrong), None)
    if wrong is not None:
        raise NotCompilable(step, f"words with {wrong} of your own")


def _is_found(term: str) -> bool:
    return all(re.fullmatch(r"\w\w+", word) for word in term.split(" "))


def _vocabulary(vectorizer: Any) -> dict[str, Any]:
    """The attributes of ONNX's TfIdfVectorizer: a pool of terms by their number of words, and their columns."""
    terms = sorted(
        ((term.split(" "), int(column)) for term, column in vectorizer.vocabulary_.items()), key=lambda one: len(one[0])
    )
    longest = max(len(words) for words, _ in terms)
    starts: list[int] = []
    pool: list[str] = []
    for count in range(1, longest + 1):
        starts.append(len(pool))
        pool += [word for words, _ in terms if len(words) == count for word in words]
    return {
        "mode": "TF",
        "min_gram_length": min(len(words) for words, _ in terms),
        "max_gram_length": longest,
        "max_skip_count": 0,
        "ngram_counts": starts,
        "ngram_indexes": [column for _, column in terms],
        "pool_strings": pool,
    }


@cache
def token_pattern() -> str:
    r"""Two or more of the characters that Python's `\w` matches, as a pattern for RE2, whose own `\w` is ASCII's."""
    known = [code for code in range(sys.maxunicode + 1) if code not in _SURROGATES and _is_word(chr(code))]
    ranges: list[list[int]] = []
    for code in known:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    written = "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in ranges)
    return f"[{written}][{written}]+"


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
