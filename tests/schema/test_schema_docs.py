"""The examples in `docs/schema.md` are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.errors import SchemaViolation
from penstock.schema import Check, Field
from penstock.schema.yaml_form import schema_from_yaml

PAGE = (Path(__file__).parents[2] / "docs/schema.md").read_text(encoding="utf-8")


def block(language):
    """The first code block of that language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL).group(1)


def test_the_examples_work():
    """The YAML of the page is a schema, its Python runs on it, and its message is the one that is raised."""
    space = {"text": block("yaml")}
    exec(block("python"), space)  # noqa: S102  # the own page is run as a reader would run it
    assert space["columns"]["年龄"].tolist() == [30.0]
    assert space["columns"]["visits"].tolist() == [0.0]
    row = {"年龄": 200, "plan": "x", "balance": 1, "email": "", "since": "2026-01-31T09:30:00Z"}
    with pytest.raises(SchemaViolation) as caught:
        Check(schema_from_yaml(space["text"])).from_objects([row])
    assert str(caught.value) in PAGE


def test_every_option_is_described():
    """Each option of a field has its line in the table."""
    described = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert set(Field.__struct_fields__) <= described
