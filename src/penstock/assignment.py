"""Which arm of an experiment answers a caller: buckets that arms own, and a pure choice over them.

An experiment is a value: it says which of its 10,000 buckets each arm owns, so that every worker, every machine and a
replay give a caller the same arm. The champion owns what no arm does. `settled` makes the next value of an experiment
whose weights change; `split_of` makes it quick to look up, as far as the versions of a machine go; `assign` chooses.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

BUCKETS: Final = 10_000
CHAMPION_ARM: Final = "champion"
"""The arm of everybody whom no other arm has: what the alias `champion` names."""

_first_64_bits: Final = struct.Struct(">Q").unpack_from

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
Weight: TypeAlias = Annotated[int, Meta(ge=0, le=BUCKETS)]
Spans: TypeAlias = tuple[tuple[int, int], ...]
PlacedBy: TypeAlias = Literal["version", "alias", "rule", "mixed", "unavailable"]
"""Why a call takes no part in any evidence: it named a version or an alias, a rule gave it its arm, its rows have
several keys, or its arm cannot be served on this machine (then, and with several keys, the champion answers)."""


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A version beside the champion, by number or by alias, and its `weight`: how many of the buckets it has.

    `spans` are the places of those buckets in the experiment's order, each from one and up to before another; only
    `settled` sets them.
    """

    name: Name
    version: Annotated[int, Meta(ge=1)] | None = None
    alias: str | None = None
    weight: Weight = 0
    spans: Spans = ()

    def __post_init__(self) -> None:
        if self.name == CHAMPION_ARM:
            raise ValueError(f"{CHAMPION_ARM!r} is the arm of everybody else, and has what the others leave: omit it")
        if (self.version is None) is (self.alias is None):
            raise ValueError(f"Expected a version or an alias of the arm {self.name!r}, got both or neither: name one")


class ArmRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who is given `arm` whatever his bucket: calls whose `header` equals a text, whose rows' `field` equals a value,
    or whose key is one of `keys` (which the history then keeps in clear).
    """

    arm: Name
    header: str | None = None
    field: str | None = None
    equals: bool | int | float | str | None = None
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        said = [self.header is not None, self.field is not None, bool(self.keys)]
        if sum(said) != 1:
            raise ValueError(f"Expected `header`, `field` or `keys` in a rule of {self.arm!r}, got {sum(said)} of them")
        if (self.equals is None) is not bool(self.keys) or (self.header is not None and type(self.equals) is not str):
            raise ValueError(f"Expected `equals` beside `header` (a text) and `field` only, in a rule of {self.arm!r}")


class Goal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an A/B test is about: the `metric` whose mean is compared between each arm and the champion.

    - `conversion`: whether the feedback on a call `equals` this text (of what is no text, its JSON). `value`: the
      number that the feedback says. `score`: the answer's own number, which needs no feedback.
    - `label_delay_s`: how old a call is when its feedback is looked at; later feedback counts as none.
    - `is_missing_zero`: a call without feedback counts as 0; else it is left out.
    - `planned_calls`: of an arm and the champion; intervals are the narrowest there.
    """

    metric: Literal["conversion", "value", "score"] = "score"
    equals: str | None = None
    label_delay_s: Annotated[float, Meta(ge=0)] = 86_400.0
    is_missing_zero: bool = False
    planned_calls: Annotated[int, Meta(ge=1)] = 10_000

    def __post_init__(self) -> None:
        if (self.metric == "conversion") is (self.equals is None):
            raise ValueError(f"Expected `equals` with the metric `conversion` and no other, got {self.metric!r}")


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Arms beside the champion of one model. `salt` is hashed with a caller's key (none: the id); of its buckets the
    last `holdout` are given to no arm. The first of the `rules` that fits comes before the hash. With a `goal` it is an
    A/B test, which is judged.
    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    salt: str = ""
    arms: tuple[Arm, ...] = ()
    rules: tuple[ArmRule, ...] = ()
    holdout: Weight = 0
    goal: Goal | None = None

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected arms of different names, got {', '.join(names)}")
        taken = sum(arm.weight for arm in self.arms) + self.holdout
        if taken > BUCKETS:
            raise ValueError(f"Expected weights of at most {BUCKETS} with the holdout, got {taken}: lower an arm")
        for rule in self.rules:
            if rule.arm not in (*names, CHAMPION_ARM):
                raise ValueError(f"a rule gives the arm {rule.arm!r}; there is {', '.join((CHAMPION_ARM, *names))}")

    @property
    def hash_salt(self) -> bytes:
        """What a caller's key is hashed with."""
        return (self.salt or self.id).encode("utf-8", "surrogatepass")

    @property
    def versions(self) -> set[int]:
        """The versions that its arms name by number."""
        return {arm.version for arm in self.arms if arm.version is not None}


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """The arm and the version that a call is given. Without `placed_by` its key's bucket did it: such calls are what
    evidence is made of. `weights` are those in force on this machine, in buckets, the champion's among them.
    """

    experiment: str
    arm: str | None
    version: int
    bucket: int | None
    placed_by: PlacedBy | None
    weights: dict[str, int]


class Split(msgspec.Struct, frozen=True):
    """An experiment as one machine serves it. `owners` has for each bucket the place of its arm in `arms`, of which the
    first is the champion; the version of an arm that cannot be served is None.
    """

    experiment: Experiment
    salt: bytes
    arms: tuple[str, ...]
    versions: tuple[int | None, ...]
    champion: int
    owners: bytes
    weights: dict[str, int]
    key_field: str | None = None
    """The field of a row that is the caller's key where a call says none."""

    @property
    def reads_rows(self) -> bool:
        """Whether a rule looks at rows."""
        return any(rule.field is not None for rule in self.experiment.rules)


def settled(wanted: Experiment, before: Experiment | None = None) -> Experiment:
    """`wanted`, with the buckets that its arms own from now on, where `before` held until now.

    Each arm keeps its own; a lowered one gives the last it took back to the champion, a raised one takes from the
    champion. So callers move only between the champion and the arm whose weight changed, whatever the other arms do.
    Each arm takes what is free from a start of its own on, round the order: with nobody in the way, raising it again
    after lowering gives it the same callers. Raises ValueError where salt or holdout of a running experiment change,
    and where an arm could only be raised by what another gives back at the same time.
    """
    if before is not None and before.id != wanted.id:
        before = None  # another experiment: everybody is assigned anew
    if before is not None and (before.hash_salt, before.holdout) != (wanted.hash_salt, wanted.holdout):
        raise ValueError(
            f"salt and holdout of {wanted.id!r} are fixed while it runs, or callers would change arms: end it, and "
            "begin another with an id of its own"
        )
    size = BUCKETS - wanted.holdout
    owned = {} if before is None else {arm.name: _places(arm.spans) for arm in before.arms}
    kept = {arm.name: _nearest(owned.get(arm.name, ()), arm, wanted.id, size) for arm in wanted.arms}
    free = set(range(size)).difference(*owned.values())  # what is given back now is free from the next change on
    arms = []
    for arm in wanted.arms:
        have = kept[arm.name]
        lacks = arm.weight - len(have)
        if lacks > len(free):
            raise ValueError(
                f"the champion has {len(free)} buckets to give, and {arm.name!r} is to get {lacks} more: lower the "
                "other arms first, in a change of its own, so that callers go back to the champion in between"
            )
        more = _nearest(free, msgspec.structs.replace(arm, weight=lacks), wanted.id, size)
        free.difference_update(more)
        arms.append(msgspec.structs.replace(arm, spans=_spans({*have, *more})))
    return msgspec.structs.replace(wanted, arms=tuple(arms))


def split_of(
    experiment: Experiment,
    versions: Iterable[int],
    aliases: Mapping[str, int],
    key_field: str | None = None,
) -> Split:
    """`experiment` for a machine that serves these `versions` and `aliases`, `champion` among them.

    The buckets of an arm whose version is not there are the champion's here, and the weights say so.
    """
    there, order = set(versions), _order(experiment.id, BUCKETS - experiment.holdout)
    owners = bytearray(BUCKETS)
    meant: list[int | None] = [aliases[CHAMPION_ARM]]
    weights = {CHAMPION_ARM: BUCKETS}
    for place, arm in enumerate(experiment.arms, 1):
        number = arm.version if arm.alias is None else aliases.get(arm.alias)
        meant.append(number if number in there else None)
        weights[arm.name] = 0 if meant[-1] is None else arm.weight
        weights[CHAMPION_ARM] -= weights[arm.name]
        for owned in _places(arm.spans):
            owners[order[owned]] = place
    names = (CHAMPION_ARM, *(arm.name for arm in experiment.arms))
    champion = aliases[CHAMPION_ARM]
    return Split(
        experiment, experiment.hash_salt + b"|", names, tuple(meant), champion, bytes(owners), weights, key_field
    )


def bucket_of(salt: bytes, key: str) -> int:
    """The bucket of a caller: the first 53 bits of SHA-256 of `salt` (with its `|`) and key, scaled to the buckets."""
    try:
        text = key.encode()
    except UnicodeEncodeError:  # lone surrogates, as JSON may have them
        text = key.encode("utf-8", "surrogatepass")
    first: int = _first_64_bits(hashlib.sha256(salt + text).digest())[0]
    return (first >> 11) * BUCKETS >> 53


def assign(
    split: Split,
    key: str,
    *,
    headers: Mapping[bytes, bytes] | None = None,
    has: Callable[[str, object], bool] | None = None,
) -> Assigned:
    """The arm of a caller by `key` (our own request id, where there is none). `headers` are the call's, with names in
    lower case; `has` says whether a field of its rows equals a value. Pure, and the same in every process.
    """
    for rule in split.experiment.rules:
        if _fits(rule, key, headers or {}, has):
            place = split.arms.index(rule.arm)
            number = split.versions[place]
            arm = rule.arm if number is not None else CHAMPION_ARM
            return Assigned(split.experiment.id, arm, number or split.champion, None, "rule", split.weights)
    return assign_bucket(split, bucket_of(split.salt, key))


def assign_bucket(split: Split, bucket: int) -> Assigned:
    """The arm that owns a bucket."""
    place = split.owners[bucket]
    number = split.versions[place]
    if number is None:
        return Assigned(split.experiment.id, CHAMPION_ARM, split.champion, bucket, "unavailable", split.weights)
    return Assigned(split.experiment.id, split.arms[place], number, bucket, None, split.weights)


def placed(split: Split, version: int, placed_by: PlacedBy) -> Assigned:
    """A call that its caller gave `version`: of the arm that has it, if one does."""
    arm = split.arms[split.versions.index(version)] if version in split.versions else None
    return Assigned(split.experiment.id, arm, version, None, placed_by, split.weights)


def _fits(rule: ArmRule, key: str, headers: Mapping[bytes, bytes], has: Callable[[str, object], bool] | None) -> bool:
    if rule.header is not None:
        return headers.get(rule.header.lower().encode()) == str(rule.equals).encode()
    if rule.field is not None:
        return has is not None and has(rule.field, rule.equals)
    return key in rule.keys


@lru_cache(maxsize=16)
def _order(experiment: str, size: int) -> tuple[int, ...]:
    """The first `size` buckets, in the order that is the experiment's own."""
    salt = experiment.encode()
    return tuple(sorted(range(size), key=lambda bucket: hashlib.sha256(b"%b|%d" % (salt, bucket)).digest()))


def _nearest(places: Iterable[int], arm: Arm, experiment: str, size: int) -> list[int]:
    """Those of `places` that `arm` takes first and gives back last, as many as it weighs."""
    if not size:
        return []
    start = int.from_bytes(hashlib.sha256(f"{experiment}|{arm.name}".encode()).digest()[:7]) % size
    return sorted(places, key=lambda place: (place - start) % size)[: arm.weight]


def _places(spans: Spans) -> Iterable[int]:
    return [place for first, end in spans for place in range(first, end)]


def _spans(places: set[int]) -> Spans:
    found: list[list[int]] = []
    for place in sorted(places):
        if found and found[-1][1] == place:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1])
    return tuple((first, end) for first, end in found)
