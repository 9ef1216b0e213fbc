"""The page at `/docs`: the OpenAPI document as one self-contained HTML page that asks nobody else for anything.

All texts are escaped here, as models' names, fields, examples and descriptions come from bundles.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

import msgspec

from penstock.server.docs_assets import SCRIPT, STYLE

Json = dict[str, Any]

_SHOWN_VALUES: Final = 12
_DEEPEST: Final = 6


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


DOCS_HEADERS: Final[list[tuple[bytes, bytes]]] = [
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]
"""Headers of the page. Its one style and one script are allowed by digest; inline attributes and eval are not."""


class _Row(msgspec.Struct, frozen=True):
    """One line of a table of members: where it is, what it takes, what it means."""

    path: str
    kind: str
    is_required: bool
    meaning: str


class _Operation(msgspec.Struct, frozen=True):
    """One method on one path, as the document has it."""

    path: str
    method: str
    spec: Json


def docs_page(document: Json) -> bytes:
    """The page for an OpenAPI document made by `openapi_document`; UTF-8. Send it with `DOCS_HEADERS`."""
    info = document["info"]
    sections = "".join(_section(tag, operations, document) for tag, operations in _by_tag(document).items())
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="told">{escape(info["description"])}</p>'
        f'<p class="soft">The same for programs: <a href="/openapi.json">/openapi.json</a></p>'
        f"<main>{sections}</main><script>{SCRIPT}</script></body></html>"
    ).encode()


def _by_tag(document: Json) -> dict[str, list[_Operation]]:
    found: dict[str, list[_Operation]] = {}
    for path, item in document["paths"].items():
        for method in ("get", "post", "put", "delete"):
            if method in item:
                operation = _Operation(path, method, item[method])
                found.setdefault(operation.spec["tags"][0], []).append(operation)
    return found


def _section(tag: str, operations: list[_Operation], document: Json) -> str:
    return f"<h2>{escape(tag)}</h2>" + "".join(_operation(operation, document) for operation in operations)


def _operation(operation: _Operation, document: Json) -> str:
    spec = operation.spec
    request = spec.get("requestBody", {}).get("content", {}).get("application/json")
    answer = next(iter(spec["responses"]["200"]["content"].values()))["schema"]
    # A model's own operation is what one comes for: it has an example and is typed.
    is_open = " open" if spec["tags"][0] == "Models" and request and "example" in request else ""
    parts = [f'<p class="told">{escape(spec.get("description", ""))}</p>']
    if "{" not in operation.path and _is_shown(spec):
        parts.append(_trial(operation, request))
    if request:
        parts += ["<h3>Request</h3>", _table(_members(request["schema"], document))]
    parts += ["<h3>Answer</h3>", _table(_members(answer, document)), _errors(spec["responses"], document)]
    return (
        f'<details{is_open}><summary><span class="method {operation.method}">{operation.method.upper()}</span> '
        f'<code>{escape(operation.path)}</code> <span class="soft">{escape(spec["summary"])}</span></summary>'
        f"<div>{''.join(parts)}</div></details>"
    )


def _is_shown(spec: Json) -> bool:
    """Whether a browser can show the answer as text: an archive is for programs."""
    return not any(media.startswith("application/x-") for media in spec["responses"]["200"]["content"])


def _table(rows: Iterable[_Row]) -> str:
    lines = [
        f"<tr><td><code>{escape(row.path)}</code></td><td>{escape(row.kind)}</td>"
        f"<td>{'required' if row.is_required else ''}</td><td>{escape(row.meaning)}</td></tr>"
        for row in rows
    ]
    if not lines:
        return '<p class="soft">Without members of its own.</p>'
    head = "<tr><th>member</th><th>takes</th><th></th><th>meaning</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(lines)}</table></div>'


def _errors(responses: Json, document: Json) -> str:
    told = {status: _resolved(response, document)["description"] for status, response in responses.items()}
    lines = [
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(description)}</td></tr>"
        for status, description in told.items()
        if status != "200"
    ]
    return f'<h3>Errors</h3><div class="wide"><table>{"".join(lines)}</table></div>' if lines else ""


def _trial(operation: _Operation, request: Json | None) -> str:
    """A ready curl line, and a form that sends the example to the server that the page came from."""
    address = f'<span class="origin">http://127.0.0.1:8080</span>{escape(operation.path)}'
    if not request:
        curl, area = f"curl {address}", ""
    else:
        example = request.get("example", {})
        sent = shlex.quote(json.dumps(example, ensure_ascii=False))
        curl = f"curl {address} -H 'Content-Type: application/json' -d {escape(sent)}"
        pretty = escape(json.dumps(example, indent=2, ensure_ascii=False))
        # A newline right after the tag is dropped by the parser, so that one is given.
        area = f'<textarea spellcheck="false" aria-label="Request body">\n{pretty}</textarea>'
    return (
        f"<h3>Try it</h3><pre>{curl}</pre>"
        f'<div class="try" data-path="{escape(operation.path)}">{area}<button type="button">Send</button>'
        '<pre hidden aria-live="polite"></pre></div>'
    )


def _members(schema: Json, document: Json) -> Iterator[_Row]:
    """The members of a body, lists of objects unfolded (`instances[].age`); other objects are told in one line."""
    yield from _unfolded(schema, "", document, depth=0)


def _unfolded(schema: Json, path: str, document: Json, *, depth: int) -> Iterator[_Row]:
    schema = _resolved(schema, document)
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        member = _resolved(member, document)
        here = f"{path}{name}"
        yield _Row(here, _kind(member, document), name in required, _meaning(member))
        items = _resolved(member.get("items", {}), document)
        if items.get("properties") and depth < _DEEPEST:
            yield from _unfolded(items, f"{here}[].", document, depth=depth + 1)


def _kind(schema: Json, document: Json) -> str:
    """What a schema takes, in a few words: `number or null, 0 to 130`, `one of "basic", "plus"`."""
    schema = _resolved(schema, document)
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        values = [json.dumps(value, ensure_ascii=False) for value in schema["enum"]]
        more = f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
        return "one of " + ", ".join(values[:_SHOWN_VALUES]) + more
    for word in ("anyOf", "oneOf"):
        if word in schema and "properties" not in schema:
            return " or ".join(dict.fromkeys(_kind(part, document) for part in schema[word]))
    kinds = schema.get("type", "any value")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if kinds == "array":
        items = _resolved(schema.get("items", {}), document)
        words = "list of objects" if items.get("properties") else f"list of {_kind(items, document)}"
    elif kinds == "object" and schema.get("properties"):
        names = list(schema["properties"])
        words += " of " + ", ".join(names[:_SHOWN_VALUES]) + (" …" if len(names) > _SHOWN_VALUES else "")
    return words + _bounds(schema)


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        bounds = f", {low} to {high}"
    elif low is not None:
        bounds = f", from {low}"
    else:
        bounds = f", up to {high}" if high is not None else ""
    if "maxLength" in schema:
        bounds += f", at most {schema['maxLength']} characters"
    return bounds + (f", {schema['format']}" if "format" in schema else "")


def _meaning(schema: Json) -> str:
    parts = [schema["description"]] if schema.get("description") else []
    if "default" in schema:
        parts.append(f"Default {json.dumps(schema['default'], ensure_ascii=False)}.")
    return " ".join(parts)


def _resolved(schema: Json, document: Json) -> Json:
    """`schema`, or what its reference into the document names."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
