"""Which flavour a net gets: its graph where that answers as the net does, else its own form, proven the same way."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec
import numpy as np

from penstock.bundle.compile import NotCompilable, Proven, prove
from penstock.bundle.flavour import Built
from penstock.bundle.load import loaded
from penstock.bundle.loaders.net import NetPredictor, feeds_of
from penstock.bundle.loaders.onnx import OnnxPredictor, load_onnx
from penstock.bundle.nets.graph import graph_of
from penstock.bundle.nets.model import NetModel, Opened
from penstock.bundle.predictor import Predictor
from penstock.bundle.subject import Subject
from penstock.bundle.verdict import Blame, Verdict
from penstock.errors import BundleRefused, PackRefused
from penstock.schema import Columns

_SHAPE_ROWS = 3
MOST_ROUNDED = 1e-4
_GRAPH_ONLY = "Export it again in double, or give the module itself"


def build_net(subject: Subject, *, trusted: Collection[str] = (), progress: Callable[[str], None]) -> Built:
    """Export and prove the net of `subject`; its double where single precision is too rough; else its own form.

    Raises PackRefused where nothing answers as the net does.
    """
    net = net_of(subject)
    progress("exporting the graph")
    try:
        data, candidate = graph_and_predictor(subject)
    except (NotCompilable, BundleRefused) as refusal:
        step = refusal.step if isinstance(refusal, NotCompilable) else "graph"
        reason = refusal.reason if isinstance(refusal, NotCompilable) else str(refusal)
        return _native(subject, Blame(step, reason, "It stays native: exact, but slower"), trusted, progress)
    proven = proven_on(subject, subject.original, candidate, progress)
    if proven.proof.is_exact:
        return _compiled(data, candidate, proven, ("the net's own graph, its probabilities in double",))
    if net.opened.doubled is not None:
        progress("single precision is too rough here: the same net in double")
        built = _in_double(subject, net.opened.doubled, progress)
        if built is not None:
            return built
    offence = proven.proof.offence
    off = "it fails" if offence is None else f"off by {offence.difference:.3g} on a row of {offence.origin}"
    return _native(subject, Blame("graph", f"the exported graph differs: {off}", _GRAPH_ONLY), trusted, progress)


def net_of(subject: Subject) -> NetModel:
    """The net of a subject that `net_subject` made."""
    net = subject.estimator
    if not isinstance(net, NetModel):
        raise PackRefused("module", f"{type(net).__name__} is no declared net", "Give a TorchModel or an OnnxModel")
    return net


def graph_and_predictor(subject: Subject) -> tuple[bytes, OnnxPredictor]:
    """The exported graph between our ends, and its predictor. Raises NotCompilable, BundleRefused."""
    net = net_of(subject)
    if net.opened.export is None:
        raise NotCompilable(net.model_class, "there is no exporter to ONNX for it")
    model, ends = net.opened.export(feeds_of(net.spec, _some(subject.columns)))
    data = graph_of(model, ends, net.spec, subject.outputs, width=net.width)
    return data, load_onnx(data, subject.schema, subject.outputs)


def proven_on(subject: Subject, original: Predictor, candidate: Predictor, progress: Callable[[str], None]) -> Proven:
    """The proof of `candidate` against `original` on the subject's rows; a net has no split thresholds."""
    return prove(
        original,
        candidate,
        estimator=None,
        schema=subject.schema,
        outputs=subject.outputs,
        columns=subject.columns,
        progress=progress,
    )


def _in_double(
    subject: Subject, doubled: Callable[[], Opened], progress: Callable[[str], None]
) -> Built | None:  # fmt: skip
    """The net in double, proven against its own double, where that one is the net itself but for float32's rounding:
    no label of the sample differs, and no number by more than `MOST_ROUNDED`.
    """
    net = net_of(subject)
    opened = doubled()
    spec = msgspec.structs.replace(net.spec, inputs=opened.inputs)
    double = msgspec.structs.replace(
        subject,
        estimator=msgspec.structs.replace(net, opened=opened, spec=spec),
        original=NetPredictor(opened.net, spec, subject.outputs),
    )
    try:
        data, candidate = graph_and_predictor(double)
    except (NotCompilable, BundleRefused):
        return None
    rounding = _rounding(subject, double)
    proven = proven_on(double, double.original, candidate, progress)
    if rounding is None or not proven.proof.is_exact:
        return None
    said = f"the net in double; its own single precision rounds the sample's answers by up to {rounding:.2g}"
    built = _compiled(data, candidate, proven, (said,))
    return msgspec.structs.replace(built, original=double.original)


def _rounding(subject: Subject, double: Subject) -> float | None:
    """How far the net's own answers on the sample are from those of its double; None where it is no rounding."""
    own, exact = subject.original.run(subject.columns), double.original.run(subject.columns)
    if "label" in own and (own["label"] != exact["label"]).any():
        return None
    gaps = [
        np.abs(own[name] - exact[name]) / (1.0 if name == "probabilities" else np.maximum(1.0, np.abs(exact[name])))
        for name in own
        if name != "label"
    ]
    largest = max(float(gap.max()) for gap in gaps)
    return largest if largest <= MOST_ROUNDED else None


def _compiled(data: bytes, candidate: OnnxPredictor, proven: Proven, recipe: tuple[str, ...]) -> Built:
    return Built(
        verdict=Verdict(flavour="onnx", recipe=recipe, proof=proven.proof),
        loader="onnx",
        model_file="model.onnx",
        data=data,
        predictor=candidate,
        adversarial=proven.adversarial,
    )


def _native(subject: Subject, why: Blame, trusted: Collection[str], progress: Callable[[str], None]) -> Built:
    net = net_of(subject)
    if net.opened.native is None:
        raise PackRefused(why.step, why.reason, _GRAPH_ONLY)
    file = net.opened.native(feeds_of(net.spec, _some(subject.columns)), net.spec)
    try:
        predictor = loaded(file.loader, file.data, subject.schema, subject.outputs, trusted=tuple(trusted))
    except BundleRefused as refusal:
        raise PackRefused(why.step, f"{why.reason}; and natively: {refusal}", "Write it with plain tensors") from None
    proven = proven_on(subject, subject.original, predictor, progress)
    if not proven.proof.is_exact:
        raise PackRefused(why.step, f"{why.reason}; and {file.name} differs from it too", "Write it with plain tensors")
    return Built(
        verdict=Verdict(flavour="native", native_because=why, proof=proven.proof),
        loader=file.loader,
        model_file=file.name,
        data=file.data,
        predictor=predictor,
        adversarial=proven.adversarial,
    )


def _some(columns: Columns) -> Columns:
    return {name: column[:_SHAPE_ROWS] for name, column in columns.items()}
