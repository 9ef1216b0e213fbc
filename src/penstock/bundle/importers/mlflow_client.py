"""The home of MLflow's library: models downloaded by URI, and bundles recorded in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from penstock.bundle.bundle import Bundle
from penstock.bundle.evaluation import Evaluation
from penstock.bundle.provenance import Provenance
from penstock.errors import MissingExtra, PackRefused, PenstockError

_MOST_PARAMS: Final = 100


def download(uri: str, place: Path, tracking_uri: str | None) -> Path:
    """The folder of the model at `models:/…` or `runs:/…`, downloaded to `place`. Raises PackRefused, MissingExtra."""
    mlflow = _mlflow("downloading a model from MLflow")
    try:
        return Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(place), tracking_uri=tracking_uri)
        )
    except Exception as error:  # MLflow raises its own and those of its many stores
        said = f"{type(error).__name__}: {_first_line(error)}"
        advice = "Check the URI, and the server that --tracking-uri or MLFLOW_TRACKING_URI names"
        raise PackRefused(uri, f"MLflow did not give it ({said})", advice) from error


def log_bundle(bundle: Bundle, *, tracking_uri: str | None = None, experiment: str | None = None) -> str:
    """Record a sealed bundle in a new MLflow run: parameters, metrics, tags, and its files as artifacts in `bundle/`.

    Returns the run's id. Raises MissingExtra without MLflow, PenstockError when the server does not take it.
    """
    mlflow = _mlflow("recording a bundle in MLflow")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    try:
        known = client.get_experiment_by_name(experiment or "Default")
        place = known.experiment_id if known is not None else client.create_experiment(experiment or "Default")
        run = client.create_run(place, run_name=bundle.path.stem, tags=_tags(bundle)).info.run_id
        _log(client, run, bundle)
    except Exception as error:  # MLflow raises its own and those of its many stores
        said = f"{type(error).__name__}: {_first_line(error)}"
        raise PenstockError(f"MLflow did not take the run ({said}): the bundle is at {bundle.path}") from error
    return str(run)


def _log(client: Any, run: str, bundle: Bundle) -> None:
    for key, value in _params(bundle).items():
        client.log_param(run, key, value)
    for key, number in _metrics(bundle).items():
        client.log_metric(run, key, number)
    if bundle.path.is_dir():
        client.log_artifacts(run, str(bundle.path), artifact_path="bundle")
    else:
        client.log_artifact(run, str(bundle.path), artifact_path="bundle")
    client.set_terminated(run)


def _tags(bundle: Bundle) -> dict[str, str]:
    return {
        "penstock.model": bundle.manifest.name,
        "penstock.digest": bundle.manifest.content_digest,
        "penstock.flavour": bundle.flavour,
    }


def _params(bundle: Bundle) -> dict[str, str]:
    provenance = bundle.part("provenance.json", Provenance)
    if provenance is None:
        return {}
    own = {"model_class": provenance.model_class, "sample_rows": str(provenance.sample_rows)}
    return own | dict(list(provenance.params.items())[:_MOST_PARAMS])


def _metrics(bundle: Bundle) -> dict[str, float]:
    evaluation = bundle.part("evaluation.json", Evaluation)
    proof = bundle.proof
    measured = {} if evaluation is None else {**evaluation.stated, **evaluation.metrics}
    if proof is None:
        return measured
    return measured | {
        "proof.largest_difference": proof.largest_difference,
        "proof.flips": float(proof.flips),
        "proof.rows": float(sum(proof.rows.values())),
    }


def require_mlflow() -> None:
    """Raise MissingExtra where MLflow's library is not installed: before an hour of packing, not after it."""
    _mlflow("recording a bundle in MLflow")


def _mlflow(purpose: str) -> Any:
    try:
        import mlflow
    except ImportError:
        raise MissingExtra("mlflow", "mlflow", purpose) from None
    return mlflow


def _first_line(said: object) -> str:
    return str(said).strip().partition("\n")[0][:300]
