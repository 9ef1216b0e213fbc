"""What a bundle is, in one value: for `inspect --json`, and the tables that `inspect` prints."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.compression.record import COMPRESSION_FILE, Compression
from penstock.bundle.evaluation import Evaluation
from penstock.bundle.manifest import Manifest
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.provenance import Environment, Provenance
from penstock.bundle.verdict import Verdict
from penstock.schema import Schema


class Description(msgspec.Struct, frozen=True):
    """Everything that a bundle says of itself but its model, golden rows and reference profile."""

    path: str
    manifest: Manifest
    schema: Schema
    outputs: OutputSpec
    verdict: Verdict
    golden_rows: int
    evaluation: Evaluation | None
    environment: Environment | None
    provenance: Provenance | None
    compression: Compression | None = None


def description_of(bundle: Bundle) -> Description:
    """The description of `bundle`. Raises BundleRefused for a describing file that cannot be read."""
    return Description(
        path=str(bundle.path),
        manifest=bundle.manifest,
        schema=bundle.schema,
        outputs=bundle.outputs,
        verdict=bundle.verdict,
        golden_rows=len(bundle.golden.rows),
        evaluation=bundle.part("evaluation.json", Evaluation),
        environment=bundle.part("environment.json", Environment),
        provenance=bundle.part("provenance.json", Provenance),
        compression=bundle.part(COMPRESSION_FILE, Compression),
    )


def summary(bundle: Bundle) -> list[tuple[str, object]]:
    """The lines that matter most: name, flavour and why, the proof, the digest."""
    verdict = bundle.verdict
    lines: list[tuple[str, object]] = [("bundle", bundle.path), ("model", bundle.manifest.name)]
    lines.append(("digest", bundle.manifest.content_digest))
    lines.append(("flavour", bundle.flavour))
    if verdict.native_because is not None:
        why = verdict.native_because
        lines += [("because", f"{why.step}: {why.reason}"), ("advice", why.advice)]
    if verdict.proof is not None:
        lines += _of_proof(verdict)
    compression = bundle.part(COMPRESSION_FILE, Compression)
    if compression is not None:
        lines += _of_compression(compression)
    lines.append(("golden rows", len(bundle.golden.rows)))
    provenance = bundle.part("provenance.json", Provenance)
    if provenance is not None and provenance.origin is not None:
        lines.append(("imported from", f"{provenance.origin.kind}: {provenance.origin.location}"))
        lines += [("sample", provenance.origin.sample)] if provenance.origin.sample is not None else []
    if provenance is not None:
        lines += _of_lineage(provenance)
    return lines


def _of_proof(verdict: Verdict) -> list[tuple[str, object]]:
    proof = verdict.proof
    if proof is None:
        return []
    rows = ", ".join(f"{count:,} {origin}" for origin, count in proof.rows.items() if count)
    lines: list[tuple[str, object]] = [
        ("proof", "exact" if proof.is_exact else "rejected"),
        ("rows compared", rows),
        ("largest difference", f"{proof.largest_difference:.3g} (allowed {proof.tolerance:g})"),
        ("labels flipped", proof.flips),
    ]
    if proof.thresholds.total:
        met = proof.thresholds
        lines.append(
            (
                "split thresholds",
                f"{met.total:,}: {met.met:,} met, {met.straddled:,} straddled, {met.unreachable:,} unreachable, "
                f"{met.out_of_budget:,} out of budget",
            )
        )
    if proof.refused:
        refused = ", ".join(f"{count:,} {origin}" for origin, count in proof.refused.items())
        lines.append(("refused by the original", refused))
    return lines


def _of_compression(done: Compression) -> list[tuple[str, object]]:
    before, after, far = done.before, done.after, done.distance
    metric = done.metric
    return [
        *(("compressed", step) for step in done.steps),
        ("size", f"{before.size_bytes:,} bytes before, {after.size_bytes:,} after"),
        ("one row", f"{before.one_row_us:,.1f} us before, {after.one_row_us:,.1f} us after"),
        (f"{done.many_rows} rows", f"{before.many_rows_us:,.1f} us before, {after.many_rows_us:,.1f} us after"),
        (
            metric,
            f"{before.metrics[metric]:.5f} before, {after.metrics[metric]:.5f} after on {done.judged_rows:,} rows "
            f"(at most {done.max_loss:g} may be lost)",
        ),
        (
            "from the original",
            f"largest {far.largest:.3g}, mean {far.mean:.3g}, {far.flips:,} of {far.rows:,} labels flipped",
        ),
    ]


def _of_lineage(provenance: Provenance) -> list[tuple[str, object]]:
    """What the packer knew of where the model comes from; nothing of it is checked."""
    lines: list[tuple[str, object]] = []
    if provenance.git_commit is not None:
        lines.append(("git commit", provenance.git_commit))
    if provenance.mlflow_run is not None:
        lines.append(("MLflow run", provenance.mlflow_run))
    if provenance.dvc is not None:
        lines.append(("data in DVC", f"{provenance.dvc.path}, md5 {provenance.dvc.md5}"))
    return lines


def fields(schema: Schema) -> list[tuple[Any, ...]]:
    """One line per field: name, type, missing, values, personal data."""
    return [(field.name, field.type, _missing(field), _values(field), field.pii or "") for field in schema.fields]


def _missing(field: Any) -> str:
    words = ["null"] if field.nullable else []
    if field.default is not msgspec.UNSET:
        words.append(f"absent = {field.default!r}")
    return ", ".join(words)


def _values(field: Any) -> str:
    words = []
    if field.range is not None:
        low, high = field.range
        words.append(f"{'' if low is None else low:}..{'' if high is None else high}")
    if field.allowed is not None:
        shown = ", ".join(str(value) for value in field.allowed[:6])
        words.append(shown + (f", … ({len(field.allowed)})" if len(field.allowed) > 6 else ""))
        if field.type == "category":
            words.append({"refuse": "no others", "accept": "others too", "map": f"others = {field.unknown_as}"}[
                field.on_unknown
            ])  # fmt: skip
    return "; ".join(words)
