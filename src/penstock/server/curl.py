"""A `curl` line that works: for `serve`, `inspect`, the demo and the API page."""

from __future__ import annotations

import shlex

import msgspec

from penstock.runtime import Version
from penstock.schema import Schema
from penstock.schema.json_schema import example_row


def curl_line(url: str, model: Version) -> str:
    """A shell line that asks `model` at `url` for one valid row."""
    return curl_of(url, model.name, model.schema)


def curl_of(url: str, name: str, schema: Schema) -> str:
    """A shell line that asks the model called `name` for one valid row of `schema`."""
    body = msgspec.json.encode({"instances": [example_row(schema)]}).decode()
    return f"curl -s {url}/v1/models/{name}/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}"
