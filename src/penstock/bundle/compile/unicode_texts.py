"""Texts made to part two writings of "a word": the sample's own words with what Unicode has between and inside them."""

from __future__ import annotations

import unicodedata

import numpy as np

_BASES = 6
_SPACES = "\u200b\u200c\u200d\u00a0\u2028\u00ad\t\n\r\x00\x1f\x7f\ufeff\u200f"
_CASES = "\u0130\u0131\u00df\u1e9e\u03a3\u03c2\ufb01\u01c5\u0149\u1fb3\u1c80\U0001d400"
_SCRIPTS = "\u0301\u0307\u0345\u5b57\u3099\u30fc\u0e31\u094d\u0663\u00b2\u2167\u00bd\U0001e4d0\U0010ffff\ufffd"
_SIGNS = (
    "_",
    "'",
    "\u2019",
    "-",
    "\u2010",
    ".",
    "/",
    "@",
    "\U0001f600",
    "\U0001f469\u200d\U0001f4bb",
    "\U0001f1e9\U0001f1ea",
)
_MARKS = (*_SPACES, *_CASES, *_SCRIPTS, *_SIGNS)
"""Joiners and spaces of no width, controls; letters whose case is special; combining marks, ideographs, digits of other
scripts, code points younger than some tables; punctuation, emoji.
"""


def worded_texts(column: np.ndarray) -> list[object]:
    """Texts of a column (its rows spread evenly) changed in case and normal form, cut, joined, and with each mark
    between words, inside a word and at the ends.
    """
    known = [text for text in column if text]
    bases = [known[place] for place in np.unique(np.linspace(0, len(known) - 1, _BASES).astype(int))] if known else []
    out: list[object] = ["\u0130", "\u039f\u0394\u039f\u03a3", "\u039f\u0394\u039f\u03a3 x", "e\u0301", "\u00e9"]
    for base in bases:
        out += [base.upper(), base.lower(), base.title(), base.swapcase(), base.casefold(), base[: len(base) // 2]]
        out += [unicodedata.normalize(form, base) for form in ("NFC", "NFD", "NFKC", "NFKD")]
        out += [f"{base} {base}", " ".join(reversed(base.split(" ")))]
    for place, mark in enumerate(_MARKS):
        base = bases[place % len(bases)] if bases else "word"
        words = base.split() or ["word"]
        out += [
            mark.join(words),
            f"{words[0][:2]}{mark}{words[0][2:]}",
            f"{mark}{base}{mark}",
            f"{words[0]}{mark} {words[-1]}",
        ]
    return out
