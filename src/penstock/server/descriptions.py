"""What is said of the models that are served, and of versions that ought to be: for `/v1/models` and the API document.

A dormant version is described as any other: what rows and answers are is known before it is loaded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.routing import CHAMPION, Routes
from penstock.runtime import Dormant, Host, Served
from penstock.schema.json_schema import example_row, json_schema
from penstock.server.openapi import ModelDoc
from penstock.server.protocols.tf_models import failed_status, version_status


def names_of(host: Host) -> list[str]:
    """The models that are served, and those of which a version is wanted that could not be loaded."""
    return sorted({*host.table.models, *(name for name, _, _ in (key.rpartition("/") for key in host.failures))})


def described(host: Host, name: str) -> dict[str, Any]:
    """One model, in the words of our own API and of TensorFlow Serving's status."""
    routes = host.table.models.get(name, Routes({}, {}))
    numbers = sorted(routes.versions)
    failures = failures_of(host, name)
    states = [version_status(number) for number in reversed(numbers)]
    return {
        "name": name,
        "ready": CHAMPION in routes.aliases,
        "model_version_status": [
            *(failed_status(number, why) for number, why in failures.items() if int(number) not in numbers),
            *states,
        ],
        "versions": [_version(host.choose(name, number, None), number) for number in numbers],
        "aliases": dict(routes.aliases),
        "options": msgspec.to_builtins(routes.options),
        "failures": failures,
        **_experiment(host, name, routes),
    }


def _experiment(host: Host, name: str, routes: Routes) -> dict[str, Any]:
    """The experiment and its weights in force here: an arm whose version is not served has none."""
    split = host.choose(name, None, CHAMPION).split if CHAMPION in routes.aliases else None
    return {} if split is None else {"experiment": {"id": split.experiment.id, "weights": split.weights}}


def failures_of(host: Host, name: str) -> dict[str, str]:
    """By its number, why a version of a model that is wanted could not be loaded; the newest first."""
    split = [(key.rpartition("/"), why) for key, why in host.failures.items()]
    found = [(int(number), why) for (model, _, number), why in split if model == name]
    return {str(number): why for number, why in sorted(found, reverse=True)}


def shown(host: Host, name: str) -> Served:
    """The version that a model is described by: its champion, else its newest. Raises NotFound naming what there is."""
    routes = host.table.models.get(name)
    has_champion = routes is None or CHAMPION in routes.aliases or not routes.versions
    return host.choose(name, None if routes is None or has_champion else max(routes.versions), None)


def doc_of(host: Host, name: str) -> ModelDoc:
    """What the API document says of a model."""
    routes, served = host.table.models[name], shown(host, name)
    schema = served.model.schema
    return ModelDoc(
        name=name,
        versions=tuple(sorted(routes.versions)),
        aliases=tuple(sorted(routes.aliases)),
        row_schema=json_schema(schema),
        example=example_row(schema),
        outputs=served.model.bundle.outputs,
        optional=_optional(served),
    )


def _optional(served: Served) -> frozenset[str]:
    """The outputs that an answer may lack: a label that is not decided, or all of them where a fallback abstains."""
    if served.fallback is not None and served.fallback.kind == "abstain":
        return frozenset(served.model.bundle.outputs.names)
    return frozenset() if served.decision is None or served.decision.abstain is None else frozenset({"label"})


def _version(served: Served, number: int) -> dict[str, Any]:
    model = served.model
    return {
        "version": number,
        "digest": model.digest,
        "flavour": model.bundle.manifest.flavour,
        "loaded": not isinstance(model, Dormant),
        "cost_us": round(model.cost.row_us, 1),
        "cost_64_us": round(model.cost.rows_64_us, 1),
        "memory_bytes": model.cost.memory_bytes,
        "breaker": served.breaker.state,
    }
