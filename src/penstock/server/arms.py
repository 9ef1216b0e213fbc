"""A call of a model with an experiment: from its key, or its rows, to the arm that answers, read by that arm's schema.

Other calls never come here. Where the key stands in the envelope or in a field, rows are read by the champion's schema
first, and once more by the arm's if that is another version. What the champion cannot read is refused as without an
experiment; what only the arm cannot read is answered by the champion, and recorded as the arm's failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from penstock.assignment import Assigned, Split, assign, placed
from penstock.audit import FellBack, OfArm, opening_of
from penstock.errors import SchemaViolation
from penstock.runtime import Host, Served
from penstock.server.call import Asked, Call, Face, Spoken

Speak: TypeAlias = Callable[[Face, Served], Spoken]
"""Makes what a protocol needs of a loaded version."""


class Arms:
    """Gives calls to arms. One per worker, on its event loop; not thread-safe.

    Where keys are not hashed in records, one that is the value of a personal field is kept in none.
    """

    def __init__(self, host: Host, speak: Speak, *, is_hashed: bool) -> None:
        self._host = host
        self._speak = speak
        self._is_hashed = is_hashed

    def give(self, call: Call, split: Split, content: bytes) -> Served:
        """The version that `split` gives `call`, held and its rows read; it holds the one that it chose, as without an
        experiment, until then. Raises as the reader of a protocol does.
        """
        chosen = call.served
        if chosen is None:
            raise ValueError("a call is given to an arm once it has chosen a version")
        if call.version is not None or call.alias is not None:
            call.assigned = placed(split, chosen.model.version, "version" if call.version is not None else "alias")
            self._read(call, chosen, content)
            return chosen
        if not call.key or split.reads_rows:
            self._read(call, chosen, content)
        assigned = call.assigned = self._assigned(call, chosen, split)
        served = self._host.arm(chosen.model.name, assigned.version)
        if served is chosen:
            self._read(call, chosen, content)
            return chosen
        try:
            self._read(call, served, content)
        except SchemaViolation as violation:
            self._read(call, chosen, content)
            call.reply.fallback = FellBack("version", violation.code, served.model.version)
            return chosen
        served.hold()
        chosen.release()
        call.served, call.reply.model = served, served.model
        return served

    def _assigned(self, call: Call, chosen: Served, split: Split) -> Assigned:
        """By the key that the call says, or its rows, or else our own id of it. `call.key` is what is to be kept."""
        asked = call.asked
        key = call.key or (None if asked is None else asked.key)
        if not key and split.key_field is not None and asked is not None:
            keys = set(_values(asked, split.key_field))
            if len(keys) > 1:
                return placed(split, split.champion, "mixed")
            key = next((str(value) for value in keys if value is not None), None)
            is_personal = any(
                field.pii is not None for field in chosen.model.schema.fields if field.name == split.key_field
            )
            call.key = key if self._is_hashed or not is_personal else None
        return assign(split, key or call.reply.request_id, headers=call.headers, has=_has(asked))

    def _read(self, call: Call, served: Served, content: bytes) -> None:
        """Read the rows by the schema of `served`, unless that was done; the records' opening is that of the arm."""
        base = served.spoken.get(call.face.name) or self._speak(call.face, served)
        if call.spoken is None or call.spoken.read is not base.read:
            call.asked = base.read(content)
            call.rows = call.asked.rows
        call.spoken = base if call.assigned is None else _of_arm(base, call.face, served, call.assigned)


def _of_arm(base: Spoken, face: Face, served: Served, assigned: Assigned) -> Spoken:
    """The same, with the opening of records of calls on that arm; made once for each."""
    key = (face.name, assigned.arm)
    found: Spoken | None = served.spoken_by_arm.get(key)
    if found is None:
        model = served.model
        opening = opening_of(
            model=model.name,
            version=model.version,
            digest=model.digest,
            protocol=face.name,
            decision=served.decision,
            of_arm=OfArm(assigned.experiment, assigned.arm, assigned.weights),
        )
        found = served.spoken_by_arm[key] = Spoken(base.read, base.masker, opening, base.policy)
    return found


def _has(asked: Asked | None) -> Callable[[str, object], bool]:
    """Whether a field of all rows has a value; a truth value is no number here."""

    def has(field: str, equals: object) -> bool:
        values = [] if asked is None else _values(asked, field)
        return bool(values) and all(value == equals and _is_truth(value) is _is_truth(equals) for value in values)

    return has


def _values(asked: Asked, field: str) -> list[Any]:
    """A field of all rows; empty where the schema has none of that name."""
    kind = type(asked.rows[0])
    attribute = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)).get(field)
    return [] if attribute is None else [getattr(row, attribute) for row in asked.rows]


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)
