"""The rules of the control plane once more, on plain lists and dicts: what `Control` is compared with."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from penstock.control.aliases import alias_of
from penstock.control.changes import Event
from penstock.errors import ControlError, InUse, Unknown

Command = tuple[Any, ...]
Line = tuple[Any, ...]


class Kept(msgspec.Struct):
    """A model: digests by number less one (None: removed), what each alias means, the champions so far."""

    digests: list[str | None] = []
    aliases: dict[str, int] = {}
    champions: list[int] = []
    is_lazy: bool = False
    serving: dict[str, int] = {}


class Ledger:
    """What ought to be, and a line for each thing that happened."""

    def __init__(self) -> None:
        self.models: dict[str, Kept] = {}
        self.lines: list[Line] = []

    def do(self, command: Command) -> list[Line] | type[ControlError]:
        """What a command changes, or the kind of error it ends with, having changed nothing."""
        after = copy.deepcopy(self.models)
        verb, name, *rest = command
        if verb != "publish" and name not in after and verb != "serve":
            return Unknown
        try:
            lines = getattr(self, f"_{verb}")(after.setdefault(name, Kept()), *rest)
        except ControlError as error:
            return type(error)
        if lines:
            self.models = after
        told = [(name, *line) for line in lines]
        self.lines += told
        return told

    def would_change(self, command: Command) -> bool:
        """Whether a command changes anything now."""
        trial = copy.deepcopy(self)
        return isinstance(told := trial.do(command), list) and bool(told)

    def _publish(self, model: Kept, content: int) -> list[Line]:
        digest = f"sha256:{content}"
        if digest in model.digests:
            return []
        model.digests.append(digest)
        lines: list[Line] = [("published", len(model.digests))]
        if len(model.digests) == 1:
            lines += self._give(model, "champion", 1)
        return lines

    def _move(self, model: Kept, spelling: str, number: int | None) -> list[Line]:
        alias = alias_of(spelling)
        if alias is None:
            _require(model, number or 0)
            named = [one for one, meant in model.aliases.items() if meant == number]
            return [line for one in named for line in self._take(model, one)]
        if number is None:
            return self._take(model, alias)
        if model.aliases.get(alias) == number:
            return []
        _require(model, number)
        return self._give(model, alias, number)

    def _give(self, model: Kept, alias: str, number: int) -> list[Line]:
        model.aliases.pop(alias, None)
        model.aliases[alias] = number
        if alias == "champion":
            model.champions.append(number)
        return [("moved", alias, number)]

    def _take(self, model: Kept, alias: str) -> list[Line]:
        if alias not in model.aliases:
            return []
        if alias == "champion":
            raise InUse("")
        del model.aliases[alias]
        return [("moved", alias, None)]

    def _rollback(self, model: Kept) -> list[Line]:
        if len(model.champions) < 2:
            raise Unknown("")
        number = model.champions[-2]
        del model.champions[-2:]
        return self._give(model, "champion", number)

    def _remove(self, model: Kept, number: int) -> list[Line]:
        _require(model, number)
        named = list(model.aliases.values())
        if number in [*named, *model.champions[-2:-1], *model.serving.values()]:
            raise InUse("")
        model.digests[number - 1] = None
        left = [one for one in model.champions if one != number]
        model.champions = [one for place, one in enumerate(left) if place == 0 or one != left[place - 1]]
        return [("removed", number)]

    def _configure(self, model: Kept, is_lazy: bool) -> list[Line]:
        if model.is_lazy == is_lazy:
            return []
        model.is_lazy = is_lazy
        return [("configured", is_lazy)]

    def _serve(self, model: Kept, node: str, version: int | None) -> list[Line]:
        if model.serving.get(node) == version:
            return []
        model.serving.pop(node, None)
        if version is not None:
            model.serving[node] = version
        return [("serving", node, {} if version is None else {"champion": version})]


def _require(model: Kept, number: int) -> None:
    if not 0 < number <= len(model.digests) or model.digests[number - 1] is None:
        raise Unknown("")


def line_of(event: Event) -> Line:
    """An event as a line of the ledger."""
    change: Any = event.change
    told = {
        "published": lambda: (change.version,),
        "moved": lambda: (change.alias, change.after),
        "removed": lambda: (change.version,),
        "configured": lambda: (change.after.options.is_lazy,),
        "serving": lambda: (change.node, change.after),
    }
    return (event.model, event.kind, *told[event.kind]())
