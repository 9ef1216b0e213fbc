"""Pictures for reports, as SVG text to stand in a page: bars, lines with bands, matrices; and the page around them.

Pure functions. Everything that comes from outside is escaped here, so callers pass plain texts. A page loads nothing:
it has no script, and its policy forbids every source, so it may be mailed and opened anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

_WIDTH: Final = 640
_HEIGHT: Final = 240
_LEFT: Final = 64
_TOP: Final = 12
_FOOT: Final = 46
_TICKS: Final = 4
_MOST_LABELS: Final = 12
_CELL: Final = 34
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66717d; --line: #d5dbe1; --a: #2f6f9f; --b: #d9822b;
  --c: #4c9a6a; --d: #a4538c; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #98a4b0; --line: #3a4550; --paper: #151b21; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
div.wide { overflow-x: auto; } figure { margin: .5rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
p.note { color: var(--soft); } svg { max-width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .hot { fill: #b3261e; } svg .cell { fill: var(--a); }
svg .a { fill: var(--a); } svg .b { fill: var(--b); } svg .c { fill: var(--c); } svg .d { fill: var(--d); }
svg .line { fill: none; stroke-width: 1.8; } svg .line.a { stroke: var(--a); } svg .line.b { stroke: var(--b); }
svg .line.c { stroke: var(--c); } svg .line.d { stroke: var(--d); } svg .band { opacity: .18; }
"""
_COLOURS: Final = "abcd"


class Line(msgspec.Struct, frozen=True):
    """A line through points from left to right; with `low` and `high`, a band around it. All of one length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], *, caption: str) -> str:
    """Up to four series of bars side by side, one group for each label; values that are not finite have no bar."""
    top = _highest(value for values in series.values() for value in values)
    width = (_WIDTH - _LEFT) / max(1, len(labels))
    share = width * 0.8 / max(1, len(series))
    parts = [_axis(0.0, top)]
    for place, (name, values) in enumerate(series.items()):
        for index, value in enumerate(values):
            if math.isfinite(value) and value > 0:
                x, y = _LEFT + index * width + width * 0.1 + place * share, _y(value, 0.0, top)
                said = escaped(f"{name}, {labels[index]}: {figure(value)}")
                parts.append(
                    f'<rect class="{_colour(place)}" x="{x:.1f}" y="{y:.1f}" width="{max(share - 1, 0.5):.1f}" '
                    f'height="{_bottom() - y:.1f}"><title>{said}</title></rect>'
                )
    step = math.ceil(len(labels) / _MOST_LABELS)
    for index in range(0, len(labels), max(1, step)):
        parts.append(_text(_LEFT + (index + 0.5) * width, _bottom() + 15, _short(labels[index], 14), anchor="middle"))
    return _svg(parts, caption, list(series), _HEIGHT)


def lines(given: Sequence[Line], *, caption: str, levels: Mapping[str, float] | None = None) -> str:
    """Up to four lines with their bands over one horizontal axis; `levels` are drawn across, with their names."""
    levels = levels or {}
    xs = [x for line in given for x in line.x if math.isfinite(x)] or [0.0, 1.0]
    ys = [y for line in given for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
    ys = [*ys, *levels.values()] or [0.0, 1.0]
    (left, right), (low, high) = _spread(min(xs), max(xs)), _spread(min(ys), max(ys))
    across = _WIDTH - _LEFT

    def at(x: float, y: float) -> str:
        return f"{_LEFT + (x - left) / (right - left) * across:.1f},{_y(y, low, high):.1f}"

    parts = [_axis(low, high)]
    for name, level in levels.items():
        y = _y(level, low, high)
        parts.append(f'<path class="grid" stroke-dasharray="4 3" d="M{_LEFT} {y:.1f}H{_WIDTH}"/>')
        parts.append(_text(_WIDTH, y - 4, _short(name, 40), anchor="end"))
    for place, line in enumerate(given):
        if line.low and line.high:
            around = [at(*p) for p in zip(line.x, line.high, strict=True)]
            around += reversed([at(*p) for p in zip(line.x, line.low, strict=True)])
            parts.append(f'<polygon class="band {_colour(place)}" points="{" ".join(around)}"/>')
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        parts.append(f'<polyline class="line {_colour(place)}" points="{" ".join(points)}"/>')
    for x, anchor in ((left, "start"), (right, "end")):
        place_x = _LEFT if anchor == "start" else _WIDTH
        parts.append(_text(place_x, _bottom() + 15, figure(x), anchor=anchor))
    return _svg(parts, caption, [line.name for line in given], _HEIGHT)


def matrix(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float]], *, caption: str) -> str:
    """A table of shaded cells: rows against columns. Cells off the diagonal, by name, are what one looks for."""
    most = _highest(value for row in cells for value in row)
    width = min(120.0, (_WIDTH - 2 * _LEFT) / max(1, len(columns)))
    left = 2 * _LEFT
    parts = []
    for index, name in enumerate(columns):
        parts.append(_text(left + (index + 0.5) * width, 14, _short(name, int(width / 7)), anchor="middle"))
    for down, (row_name, row) in enumerate(zip(rows, cells, strict=True)):
        y = 22 + down * _CELL
        parts.append(_text(left - 8, y + _CELL / 2 + 4, _short(row_name, 18), anchor="end"))
        for across, (name, value) in enumerate(zip(columns, row, strict=True)):
            kind = "cell" if name == row_name else "hot"
            shade = 0.08 + 0.6 * (value / most) if value > 0 else 0.0
            x = left + across * width
            parts.append(
                f'<rect class="{kind}" opacity="{shade:.3f}" x="{x:.1f}" y="{y}" width="{width - 2:.1f}" '
                f'height="{_CELL - 2}"><title>{escaped(f"{row_name} → {name}: {figure(value)}")}</title></rect>'
            )
            parts.append(_text(x + width / 2, y + _CELL / 2 + 4, figure(value), anchor="middle"))
    return _svg(parts, caption, [], 30 + _CELL * len(rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of texts and numbers, escaped; None is an empty cell."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, *parts: str, note: str = "") -> str:
    """A heading, a note below it (both plain text), and parts that are HTML already."""
    said = f'<p class="note">{escaped(note)}</p>' if note else ""
    return f"<section><h2>{escaped(title)}</h2>{said}{''.join(parts)}</section>"


def page(title: str, *parts: str) -> str:
    """One self-contained HTML page of `parts`, which are HTML already; `title` is plain text."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escaped(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def escaped(text: object) -> str:
    """`text` so that HTML shows it, also inside an attribute; control characters and lone surrogates are replaced."""
    safe = "".join(one if one.isprintable() or one in " \n" else "\N{REPLACEMENT CHARACTER}" for one in str(text))
    return html.escape(safe, quote=True)


def figure(value: float) -> str:
    """A number for people: four digits, thousands apart, integers whole."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _svg(parts: Sequence[str], caption: str, names: Sequence[str], height: int) -> str:
    legend = []
    x = float(_LEFT)
    for place, name in enumerate(names if len(names) > 1 else ()):
        legend.append(f'<rect class="{_colour(place)}" x="{x:.0f}" y="{height - 14}" width="10" height="10"/>')
        legend.append(_text(x + 14, height - 5, _short(name, 40), anchor="start"))
        x += 30 + 6.5 * min(len(name), 40)
    said = escaped(caption)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH + 8} {height}" width="{_WIDTH + 8}" role="img" aria-label="{said}">'
        f"{''.join([*parts, *legend])}</svg><figcaption>{said}</figcaption></figure>"
    )


def _axis(low: float, high: float) -> str:
    parts = []
    for tick in range(_TICKS + 1):
        value = low + (high - low) * tick / _TICKS
        y = _y(value, low, high)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH}"/>')
        parts.append(_text(_LEFT - 6, y + 4, figure(value), anchor="end", soft=True))
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str, soft: bool = False) -> str:
    kind = ' class="soft"' if soft else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'


def _y(value: float, low: float, high: float) -> float:
    return _bottom() - (value - low) / (high - low) * (_bottom() - _TOP)


def _bottom() -> float:
    return float(_HEIGHT - _FOOT)


def _highest(values: Iterable[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=0.0) or 1.0


def _spread(low: float, high: float) -> tuple[float, float]:
    """The two ends of an axis, which never fall together."""
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _short(text: str, length: int) -> str:
    return text if len(text) <= max(length, 2) else f"{text[: max(length, 2) - 1]}…"


def _cell(value: object) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{escaped(figure(value))}</td>'
    return f"<td>{escaped(value)}</td>"
