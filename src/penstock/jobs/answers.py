"""Answers of many rows as arrays that two versions can be compared by: labels as codes, numbers in one layout."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import astuple

from penstock.bundle.outputs import Outputs, OutputSpec, class_key
from penstock.errors import OutputRefused
from penstock.routing import Decision

ABSTAINS: Final = "(abstains)"


class Answers(msgspec.Struct, frozen=True):
    """n answers.

    - `labels`: int64 [n], indices into `Layout.labels`; empty where the outputs have no label.
    - `numbers`: float64 [n, k] in the order of the layout: probabilities, targets, or the one value.
    - `beyond`: float64 [n]: the largest probability of a class that the candidate does not have; None: there is none.
    """

    labels: np.ndarray
    numbers: np.ndarray
    beyond: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)


class Layout:
    """How the answers of one candidate, and recorded ones beside them, become arrays. `labels` are the names of all
    labels met, the candidate's classes first; it grows. Not thread-safe.
    """

    def __init__(self, outputs: OutputSpec) -> None:
        self.outputs = outputs
        self.labels: list[str] = list(outputs.class_keys)
        self._codes: dict[str, int] = {name: code for code, name in enumerate(self.labels)}
        self.has_labels = outputs.kind in ("classification", "anomaly")
        self.keys = outputs.class_keys if outputs.has_probabilities else outputs.targets
        self.width = len(self.keys) if self.keys else int(outputs.kind != "classification")
        self.is_probability = outputs.has_probabilities

    def score_of(self, numbers: np.ndarray) -> np.ndarray | None:
        """The one number by which answers are ranked: the probability of the last of two classes, the largest of
        more, the value; None where there is no such number (labels only, several targets).
        """
        if self.is_probability:
            best: np.ndarray = numbers[:, 1] if self.width == 2 else numbers.max(axis=1)
            return best
        return numbers[:, 0] if self.width == 1 and not self.outputs.targets else None

    def typed(self, answers: Sequence[Any]) -> Answers:
        """Recorded answers that came as the structs of `recorded.answer_type`."""
        labels = self._coded([one.label for one in answers]) if self.has_labels else _NO_LABELS
        count = len(answers)
        if not self.width:
            return Answers(labels, np.empty((count, 0)))
        if not self.keys:
            return Answers(labels, np.array([one.value for one in answers], np.float64).reshape(count, 1))
        member = attrgetter("probabilities" if self.is_probability else "values")
        numbers = np.array([astuple(member(one)) for one in answers], np.float64)
        return Answers(labels, numbers.reshape(count, self.width))

    def plain(self, answers: Sequence[Any]) -> Answers:
        """Recorded answers that came as objects, of any version; what one does not say is NaN, a class that it does not
        have 0.
        """
        labels = self._coded([one.get("label") for one in answers]) if self.has_labels else _NO_LABELS
        member = "probabilities" if self.is_probability else "values"
        numbers, beyond = np.full((len(answers), self.width), np.nan), np.zeros(len(answers))
        for place, one in enumerate(answers):
            if not self.keys:
                numbers[place, :] = one.get("value", np.nan)
            elif isinstance(held := one.get(member), dict):
                absent = 0.0 if self.is_probability else np.nan
                numbers[place, :] = [held.get(name, absent) for name in self.keys]
                others = [value for name, value in held.items() if name not in self.keys]
                beyond[place] = max(others, default=0.0) if self.is_probability else 0.0
        return Answers(labels, numbers, beyond)

    def computed(self, outputs: Outputs) -> Answers:
        """The candidate's own. Raises ModelFailed for a label that is none of its classes."""
        count = len(next(iter(outputs.values())))
        name = next((name for name in ("probabilities", "values", "value") if name in outputs), None)
        numbers = np.empty((count, 0)) if name is None else np.asarray(outputs[name], np.float64)
        numbers = numbers.reshape(count, self.width)
        if not self.has_labels:
            return Answers(_NO_LABELS, numbers)
        labels = np.asarray(outputs["label"], np.int64)
        if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.outputs.classes):
            raise OutputRefused("the model answered a label that is none of its classes")
        return Answers(labels, numbers)

    def decided(self, answers: Answers, decision: Decision | None) -> Answers:
        """The same, with labels by `decision` where that can be made of them."""
        if decision is None or not self.is_probability or decision.label not in self.keys:
            return answers
        share = answers.numbers[:, self.keys.index(decision.label)]
        return msgspec.structs.replace(answers, labels=self._decided(share, decision))

    def said(self, answers: Answers, place: int) -> dict[str, Any]:
        """One answer, for people and JSON."""
        found: dict[str, Any] = {}
        if len(answers.labels):
            found["label"] = self.labels[answers.labels[place]]
        values = answers.numbers[place].tolist()
        if self.keys:
            found["probabilities" if self.is_probability else "values"] = dict(zip(self.keys, values, strict=True))
        elif values:
            found["value"] = values[0]
        return found

    def _decided(self, share: np.ndarray, decision: Decision) -> np.ndarray:
        """As `runtime.decision.decide_by`, of arrays: the band holds its lower end and not its upper one."""
        low, high = decision.abstain or (decision.threshold, decision.threshold)
        labels = np.where(share >= decision.threshold, self._code(decision.label), self._code(decision.otherwise))
        within = (low <= share) & (share < high)
        if within.any():
            labels[within] = self._code(ABSTAINS)
        return labels

    def _coded(self, labels: Sequence[Any]) -> np.ndarray:
        codes = self._codes
        try:
            found = [codes[label] for label in labels]  # texts that are known: nearly all
        except (KeyError, TypeError):
            found = [self._code(ABSTAINS if label is None else class_key(label)) for label in labels]
        return np.array(found, np.int64)

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.labels)
            self.labels.append(name)
        return code


_NO_LABELS: Final = np.empty(0, np.int64)


def picked(answers: Answers, places: Sequence[int]) -> Answers:
    """Some of the answers."""
    chosen = np.asarray(places, np.int64)
    labels = answers.labels[chosen] if len(answers.labels) else answers.labels
    beyond = None if answers.beyond is None else answers.beyond[chosen]
    return Answers(labels, answers.numbers[chosen], beyond)


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several parts, in order."""
    if len(parts) == 1:
        return parts[0]
    beyond = None
    if any(part.beyond is not None for part in parts):
        beyond = np.concatenate([np.zeros(len(part)) if part.beyond is None else part.beyond for part in parts])
    return Answers(
        np.concatenate([part.labels for part in parts]), np.concatenate([part.numbers for part in parts]), beyond
    )


def differences(champion: Answers, candidate: Answers) -> np.ndarray:
    """|Δ| of each pair: of its values, or the largest of its probabilities or targets. Zeros where there is no number,
    NaN where one of the two does not say it.
    """
    if not champion.numbers.shape[1]:
        return np.zeros(len(champion))
    found: np.ndarray = np.abs(champion.numbers - candidate.numbers).max(axis=1)
    return found if champion.beyond is None else np.maximum(found, champion.beyond)
