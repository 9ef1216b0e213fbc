"""Events in words, for the commands that show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.control.changes import (
        Erased,
        Event,
        Exported,
        Moved,
        Retained,
        Rolled,
        Serving,
        Tried,
        Weighed,
        Who,
    )


def who_of(who: Who) -> str:
    """Who it was, marked where nobody has verified it."""
    return who.name if who.is_verified else f"{who.name} (unverified)"


def reason_of(event: Event) -> str:
    """The reason that was given, as the end of a line."""
    return f': "{event.reason}"' if event.reason else ""


def told_of(event: Event) -> str:
    """What happened."""
    from penstock.control.changes import (
        Erased,
        Exported,
        Moved,
        Published,
        Removed,
        Retained,
        Rolled,
        Serving,
        Tried,
        Weighed,
    )
    from penstock.control.declared import Configure, differences

    match event.change:
        case Published() as change:
            return f"published version {change.version} ({change.digest[:19]}…, {change.flavour})"
        case Moved() as change:
            return _moved(change)
        case Removed() as change:
            return f"removed version {change.version}"
        case Tried() as change:
            return _tried(change)
        case Serving() as change:
            return _serving(change)
        case Weighed() as change:
            return _weighed(change)
        case Rolled() as change:
            return _rolled(change)
        case Exported() as change:
            return _exported(change)
        case Erased() as change:
            return _erased(change)
        case Retained() as change:
            return _retained(change)
        case change:
            changed = differences([Configure(event.model, change.before, change.after)])
            return f"configured {', '.join(one.what for one in changed)}"


def _moved(change: Moved) -> str:
    was, now = ("nothing" if number is None else f"version {number}" for number in (change.before, change.after))
    told = f"{change.alias}: {was} → {now}" + " (rollback)" * change.is_rollback
    return f"{told}; overruled: {'; '.join(change.overruled)}" if change.overruled else told


def _weighed(change: Weighed) -> str:
    if change.after is None:
        return "ended the experiment" + ("" if change.before is None else f" {change.before.id}")
    shares = ", ".join(f"{arm.name} {arm.weight / 100:g} %" for arm in change.after.arms)
    told = f"experiment {change.after.id}: {shares}"
    return f"{told}; overruled: {'; '.join(change.overruled)}" if change.overruled else told


def _rolled(change: Rolled) -> str:
    where = f"step {change.step + 1}" if change.stage == "step" else change.stage
    done = {
        "start": f"began at {where}",
        "advance": f"goes on to {where}",
        "hold": f"held at {where}",
        "go_on": f"goes on at {where}",
        "approve": "approved",
        "abort": "aborted",
        "promote": "done: champion",
    }[change.what]
    why = "; ".join(one.text for one in change.why if one.code != "by_hand")
    return f"rollout of version {change.version}: {done}" + (f": {why}" if why else "")


def _tried(change: Tried) -> str:
    if change.why is None:
        return f"version {change.version} loads on {change.node}, and answers as at packing"
    return f"version {change.version} cannot be served on {change.node}: {change.why}"


def _serving(change: Serving) -> str:
    if not change.after:
        return f"{change.node} serves it no more"
    return (
        f"{change.node} answers {', '.join(f'{alias} by version {number}' for alias, number in change.after.items())}"
    )


def _exported(change: Exported) -> str:
    of = f" ({change.conditions})" if change.conditions else ""
    return f"exported {change.lines:,} lines{of} to {change.path} on {change.node}"


def _erased(change: Erased) -> str:
    told = f"erased the payloads of {change.records:,} records on {change.node}"
    told += f"; and from {', '.join(change.exports)}" if change.exports else ""
    return told + (f"; to be erased by hand from {', '.join(change.by_hand)}" if change.by_hand else "")


def _retained(change: Retained) -> str:
    days = change.first_day if change.first_day == change.last_day else f"{change.first_day} to {change.last_day}"
    what = f"{change.records:,} records in {change.files} files ({change.size_bytes / 1e6:,.1f} MB) of {days}"
    return f"removed {what} on {change.node}: {'; '.join(change.rules)}"
