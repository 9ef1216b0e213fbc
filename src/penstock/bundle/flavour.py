"""Which flavour a model gets: compiled where that is proven exact, else native, and the bundle says why."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from penstock.bundle.compile import NotCompilable, Proven, blame, compile_graph, last_step, prove
from penstock.bundle.compression.record import Compression
from penstock.bundle.load import loaded
from penstock.bundle.loaders.boosted_pipeline import boosted_file
from penstock.bundle.loaders.onnx import load_onnx
from penstock.bundle.loaders.sklearn import SklearnPredictor, dump_skops
from penstock.bundle.native_file import NativeFile
from penstock.bundle.predictor import Predictor
from penstock.bundle.speed import is_slower, measured, said
from penstock.bundle.subject import Subject
from penstock.bundle.verdict import Blame, Verdict
from penstock.errors import BundleRefused
from penstock.schema import Columns


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """The model file, its loaded predictor, the verdict, and the rows that the proof made against it.

    `original` is what the proof compared it with, where that is not the subject's own original but what was made of it
    (a net in double). `compression` is what was done to make the model smaller, if anything was.
    """

    verdict: Verdict
    loader: str
    model_file: str
    data: bytes
    predictor: Predictor
    adversarial: Columns
    original: Predictor | None = None
    compression: Compression | None = None


def build(subject: Subject, *, budget: int, trusted: Collection[str] = (), progress: Callable[[str], None]) -> Built:
    """Compile and prove `subject`; keep it native when either fails.

    Raises PackRefused naming the step that can be neither.
    """
    progress("compiling")
    try:
        compiled = compile_graph(subject.estimator, subject.schema, subject.outputs)
        candidate = load_onnx(compiled.graph, subject.schema, subject.outputs)
    except NotCompilable as refusal:
        return _native(subject, Blame(refusal.step, refusal.reason, _STAYS_NATIVE), None, trusted)
    except BundleRefused as refusal:
        return _native(subject, Blame("graph", str(refusal), _STAYS_NATIVE), None, trusted)
    proven = prove(
        subject.original,
        candidate,
        estimator=subject.estimator,
        schema=subject.schema,
        outputs=subject.outputs,
        columns=subject.columns,
        budget=budget,
        progress=progress,
    )
    if not proven.proof.is_exact:
        progress("looking for the step that differs")
        return _native(subject, blame(_fitted(subject), proven, subject.schema), proven, trusted)
    progress("timing original and graph")
    speed = measured(subject.original, candidate, subject.columns)
    if is_slower(speed):
        slow = _native(subject, Blame(last_step(subject.estimator), said(speed), _FASTER_NATIVE), proven, trusted)
        return msgspec.structs.replace(slow, verdict=msgspec.structs.replace(slow.verdict, speed=speed))
    return Built(
        verdict=Verdict(flavour="onnx", recipe=compiled.recipe, proof=proven.proof, speed=speed),
        loader="onnx",
        model_file="model.onnx",
        data=compiled.graph,
        predictor=candidate,
        adversarial=proven.adversarial,
    )


_FASTER_NATIVE = "It stays native: as exact, and faster. Nothing needs to be done"
_STAYS_NATIVE = "It stays native: exact, but slower. docs/exactness.md lists what is compiled"


def _fitted(subject: Subject) -> SklearnPredictor:
    return SklearnPredictor(subject.estimator, subject.schema, subject.outputs)


def _native(subject: Subject, why: Blame, proven: Proven | None, trusted: Collection[str]) -> Built:
    file = boosted_file(subject.estimator, trusted) or NativeFile(
        "sklearn", "model.skops", dump_skops(subject.estimator, trusted)
    )
    nothing: Columns = {name: column[:0] for name, column in subject.columns.items()}
    return Built(
        verdict=Verdict(flavour="native", native_because=why, proof=None if proven is None else proven.proof),
        loader=file.loader,
        model_file=file.name,
        data=file.data,
        predictor=loaded(file.loader, file.data, subject.schema, subject.outputs, trusted=tuple(trusted)),
        adversarial=nothing if proven is None else proven.adversarial,
    )
