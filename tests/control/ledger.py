"""The rules of the control plane once more, on plain lists and dicts: what `Control` is compared with."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from penstock.control.aliases import alias_of
from penstock.control.changes import Event
from penstock.errors import ControlError, InUse, MoveRefused, Unknown

Command = tuple[Any, ...]
Line = tuple[Any, ...]


WEIGHTS = (0, 500, 5000)
"""Of a rollout's places: as a shadow, and at its two steps."""


class Rolling(msgspec.Struct):
    """A rollout: of which version and content, against which champion, at which place; what holds it, and by hand."""

    version: int
    digest: str
    champion: int
    place: int = 0
    is_running: bool = True
    is_slow: bool = False
    is_held: bool = False
    is_approved: bool = False


class Kept(msgspec.Struct):
    """A model: digests by number less one (None: removed), what each alias means, the champions so far."""

    digests: list[str | None] = []
    aliases: dict[str, int] = {}
    champions: list[int] = []
    is_lazy: bool = False
    serving: dict[str, int] = {}
    rollout: Rolling | None = None
    aborted: list[str] = []
    weight: int = 0


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
        rolling = [model.rollout.version] if model.rollout is not None and model.rollout.is_running else []
        if number in [*named, *model.champions[-2:-1], *model.serving.values(), *rolling]:
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

    def _start(self, model: Kept, number: int, is_forced: bool) -> list[Line]:
        _require(model, number)
        digest = str(model.digests[number - 1])
        if model.aliases["champion"] == number:
            raise MoveRefused("", [], may_force=False)
        if model.rollout is not None and model.rollout.is_running:
            raise InUse("")
        if digest in model.aborted and not is_forced:
            raise MoveRefused("", [], may_force=True)
        model.rollout = Rolling(number, digest, model.aliases["champion"])
        return self._rolled(model, model.rollout, "start")

    def _roll(self, model: Kept, verdict: str) -> list[Line]:
        """What a controller has decided."""
        now = model.rollout
        if now is None or not now.is_running:
            return []
        is_overtaken = now.is_held or model.aliases["champion"] != now.champion
        is_known = {"hold": now.is_slow, "wait": not now.is_slow or is_overtaken, "go": is_overtaken}
        if is_known.get(verdict):
            return []
        if verdict == "go":
            now.is_slow = False
            if now.place + 1 == len(WEIGHTS):
                return self._rolled(model, now, "promote")
            now.place += 1
            return self._rolled(model, now, "advance")
        now.is_slow = verdict == "hold"
        return self._rolled(model, now, {"wait": "go_on"}.get(verdict, verdict))

    def _told(self, model: Kept, verb: str) -> list[Line]:
        """What a person says."""
        now = model.rollout
        if now is None or not now.is_running:
            raise Unknown("")
        is_known = {"hold": now.is_held, "resume": not (now.is_held or now.is_slow), "approve": now.is_approved}
        if is_known.get(verb):
            return []
        now.is_approved |= verb == "approve"
        if verb in ("hold", "resume"):
            now.is_held = verb == "hold"
        now.is_slow &= verb != "resume"
        return self._rolled(model, now, {"resume": "go_on"}.get(verb, verb))

    def _rolled(self, model: Kept, now: Rolling, what: str) -> list[Line]:
        """An event of a rollout, and what goes with it."""
        lines: list[Line] = [("rolled", what, now.place)]
        now.is_running = what not in ("abort", "promote")
        model.aborted = [one for one in model.aborted if one != now.digest] + [now.digest] * (what == "abort")
        if what in ("hold", "go_on", "approve"):
            return lines
        if now.is_running and now.place == 0:
            lines += self._move(model, "shadow", now.version)
        elif model.aliases.get("shadow") == now.version:
            lines += self._take(model, "shadow")
        weight = WEIGHTS[now.place] if now.is_running else 0
        if weight != model.weight:
            model.weight = weight
            lines.append(("weighed", weight))
        return lines + (self._move(model, "champion", now.version) if what == "promote" else [])


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
        "rolled": lambda: (change.what, 0 if change.stage == "shadow" else change.step + 1),
        "weighed": lambda: (0 if change.after is None else sum(arm.weight for arm in change.after.arms),),
    }
    return (event.model, event.kind, *told[event.kind]())
