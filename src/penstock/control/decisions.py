"""What an operator's command changes, given the state: pure. No change is an empty list: each is idempotent.

What speaks against a move (rules, schema, the load on this machine) is found before, in `gate.py`, and passed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from penstock.assignment import Experiment, settled
from penstock.control.changes import Change, Configured, ModelConfig, Moved, Published, Removed, Serving, Tried, Weighed
from penstock.control.state import ModelState, State
from penstock.errors import Conflict, InUse, MoveRefused, Unknown
from penstock.routing import CHAMPION, listed

_SERVES: Final = "answers by it"


def publish(state: State, name: str, published: Published) -> list[Change]:
    """A bundle becomes the next version, and the first one of a model its champion; the same content only once.

    `published.version` is set here. A metric that is no finite number is left out: nothing can be compared with it.
    """
    model = state.models.get(name, ModelState(name))
    if model.with_digest(published.digest) is not None:
        return []
    number = model.next_version
    metrics = {metric: value for metric, value in published.metrics.items() if math.isfinite(value)}
    changes: list[Change] = [msgspec.structs.replace(published, version=number, metrics=metrics)]
    if not model.versions:
        changes.append(Moved(alias=CHAMPION, after=number))
    return changes


def move(state: State, name: str, alias: str, number: int | None, *, overruled: Sequence[str] = ()) -> list[Change]:
    """`alias` names version `number` from now on, or nothing. Raises Unknown, and InUse for the last champion."""
    model = state.model(name)
    before = model.aliases.get(alias)
    if number is not None:
        model.version(number)
    elif alias == CHAMPION and before is not None:
        raise InUse(f"{name!r} answers by its champion: deploy another version instead of taking the alias away")
    if before == number:
        return []
    return [Moved(alias=alias, before=before, after=number, overruled=tuple(overruled))]


def archive(state: State, name: str, number: int) -> list[Change]:
    """No alias names version `number` any more. Raises Unknown, and InUse for the champion."""
    named = state.model(name).version(number).number
    aliases = [alias for alias, meant in state.model(name).aliases.items() if meant == named]
    return [change for alias in aliases for change in move(state, name, alias, None)]


def rollback(state: State, name: str) -> list[Change]:
    """The champion is the version again that was it before. Raises Unknown if there was none."""
    model = state.model(name)
    if model.rollback_to is None:
        now = model.aliases.get(CHAMPION)
        raise Unknown(f"{name!r} has had no champion before version {now}: nothing to go back to; deploy a version")
    return [Moved(alias=CHAMPION, before=model.champions[-1], after=model.rollback_to, is_rollback=True)]


def remove(state: State, name: str, number: int, *, is_forced: bool = False) -> list[Change]:
    """A version goes. Raises InUse while anything refers to it; forced, a machine that serves it does not count."""
    model = state.model(name)
    version = model.version(number)
    uses = [use for use in uses_of(model, number) if not (is_forced and use.endswith(_SERVES))]
    if uses:
        raise InUse(f"version {number} of {name!r} is not removed: {'; '.join(uses)}")
    return [Removed(version=number, digest=version.published.digest)]


def uses_of(model: ModelState, number: int) -> Iterator[str]:
    """What refers to a version, each with what to do about it; nothing if it may go."""
    if named := model.aliases_of(number):
        yield f"it is {', '.join(named)}: move the alias first"
    if model.rollback_to == number:
        yield f"`penstock rollback {model.name}` would go back to it: deploy another version first"
    fallback = model.config.options.fallback
    if fallback is not None and fallback.version == number:
        yield "the declared fallback answers by it: declare another first"
    if number in model.arms:
        yield "an arm of the experiment answers by it: end the experiment first"
    if model.rollout is not None and model.rollout.is_running and model.rollout.version == number:
        yield f"its rollout is under way: `penstock rollout abort {model.name}` first"
    for node, aliases in sorted(model.serving.items()):
        if number in aliases.values() and number not in model.aliases.values():
            yield f"the machine {node} still {_SERVES}"


def configure(state: State, name: str, config: ModelConfig) -> list[Change]:
    """What is declared of a model is replaced. Raises Unknown for a fallback's version that there is not."""
    model = state.model(name)
    fallback = config.options.fallback
    if fallback is not None and fallback.version is not None:
        model.version(fallback.version)
    return [] if model.config == config else [Configured(before=model.config, after=config)]


def weigh(state: State, name: str, experiment: Experiment | None, *, overruled: Sequence[str] = ()) -> list[Change]:
    """The experiment of a model is this one from now on, or none; which buckets its arms own is decided here.

    Raises Unknown for versions and aliases that there are not, and MoveRefused where callers would change arms.
    """
    model = state.model(name)
    for arm in () if experiment is None else experiment.arms:
        if arm.version is not None:
            model.version(arm.version)
        elif arm.alias not in model.aliases:
            raise Unknown(
                f"no alias {arm.alias!r} of {name!r} for the arm {arm.name!r}; there is {listed(model.aliases)}"
            )
    try:
        after = None if experiment is None else settled(experiment, model.experiment)
    except ValueError as error:
        raise MoveRefused(f"the experiment of {name!r} stays as it is", [str(error)], may_force=False) from error
    if after == model.experiment:
        return []
    return [Weighed(before=model.experiment, after=after, overruled=tuple(overruled))]


def note(state: State, name: str, seen: Tried | Serving) -> list[Change]:
    """What a machine has seen, unless the state says so already, or the version is gone since."""
    model = state.models.get(name, ModelState(name))
    if isinstance(seen, Serving):
        before = model.serving.get(seen.node, {})
        return [] if before == seen.after else [msgspec.structs.replace(seen, before=before)]
    version = model.versions.get(seen.version)
    if version is None or version.is_removed:
        return []
    is_known = version.failures.get(seen.node) == seen.why and (seen.why is not None or seen.node in version.tried)
    return [] if is_known else [seen]


def require_revision(state: State, name: str, revision: int | None) -> None:
    """Raise Conflict if the model has changed since `revision`, which is what the caller had read."""
    model = state.models.get(name)
    now = 0 if model is None else model.revision
    if revision is not None and revision != now:
        raise Conflict(
            f"{name!r} is at revision {now}, and you had read {revision}: look at what was changed, and decide anew"
        )
