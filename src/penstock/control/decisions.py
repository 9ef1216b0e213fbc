"""What an operator's command changes, given the state: pure. No change is an empty list: each is idempotent.

What speaks against a move (rules, schema, the load on this machine) is found before, in `gate.py`, and passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.control.changes import Change, Configured, ModelConfig, Moved, Published, Removed
from penstock.control.state import ModelState, State
from penstock.errors import Conflict, InUse, Unknown
from penstock.routing import CHAMPION


def publish(state: State, name: str, published: Published) -> list[Change]:
    """A bundle becomes the next version, and the first one of a model its champion; the same content only once.

    `published.version` is set here.
    """
    model = state.models.get(name, ModelState(name))
    if model.with_digest(published.digest) is not None:
        return []
    number = model.next_version
    changes: list[Change] = [msgspec.structs.replace(published, version=number)]
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


def rollback(state: State, name: str) -> list[Change]:
    """The champion is the version again that was it before. Raises Unknown if there was none."""
    model = state.model(name)
    if len(model.champions) < 2:
        raise Unknown(
            f"{name!r} has had no champion before version {model.aliases.get(CHAMPION)}: nothing to go back to"
        )
    before, after = model.champions[-1], model.champions[-2]
    return [Moved(alias=CHAMPION, before=before, after=after, is_rollback=True)]


def remove(state: State, name: str, number: int) -> list[Change]:
    """A version goes. Raises InUse while an alias names it or a rollback would go back to it."""
    model = state.model(name)
    version = model.version(number)
    naming = sorted(alias for alias, named in model.aliases.items() if named == number)
    if naming:
        raise InUse(f"version {number} of {name!r} is {', '.join(naming)}: move the alias first")
    if len(model.champions) > 1 and model.champions[-2] == number:
        raise InUse(
            f"`penstock rollback {name}` would go back to version {number}: deploy another before it is removed"
        )
    return [Removed(version=number, digest=version.published.digest)]


def configure(state: State, name: str, config: ModelConfig) -> list[Change]:
    """What is declared of a model is replaced."""
    model = state.model(name)
    return [] if model.config == config else [Configured(before=model.config, after=config)]


def require_revision(state: State, name: str, revision: int | None) -> None:
    """Raise Conflict if the model has changed since `revision`, which is what the caller had read."""
    model = state.models.get(name)
    now = 0 if model is None else model.revision
    if revision is not None and revision != now:
        raise Conflict(
            f"{name!r} is at revision {now}, and you had read {revision}: look at what was changed, and decide anew"
        )
