"""`schema.yaml`: a schema as text that people read and edit, and back again. The round trip is exact.

Scalars are read by the rules of YAML 1.2, so that `allowed: [no, yes]` are two texts and no booleans; what is written
reads the same under YAML 1.1 too. Aliases, tags and keys that stand twice are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from typing import Any, Final

import msgspec
import yaml

from penstock.errors import SchemaError
from penstock.schema.field import Field, Schema

_HEADER: Final = "# What one row is. Every option is described in docs/schema.md.\n"
_LONGEST_LIST: Final = 90
_NO_FOLDING: Final = 2**31
_BREAKS: Final = re.compile("[\r\n\x85\u2028\u2029]")
_NUMBER: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_RESOLVERS: Final = (
    ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(rf"(?:{_NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """The safe loader, with YAML 1.2 scalars, and without aliases and repeated keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way to name a loader's rules

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="aliases are not read here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="expected a word as key", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node)
        return (
            int(text)
            if re.fullmatch(r"[-+]?[0-9]+", text)
            else float(text.replace(".inf", "inf").replace(".nan", "nan"))
        )


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which also quotes what only YAML 1.2 would take for a number; short lists stand in one line."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, values: list[object]) -> yaml.Node:
    is_short = not any(isinstance(value, dict) for value in values) and len(repr(values)) < _LONGEST_LIST
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=is_short)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Line breaks of all kinds are folded into spaces unless they are escaped, which only double quotes can do.
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    # YAML 1.1 reads 1e17 as a text: it wants the point.
    text = repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text if "." in text else text.replace("e", ".0e"))


for _tag, _pattern, _firsts in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _firsts)
    _Dumper.add_implicit_resolver(_tag, _pattern, _firsts)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_float)


def schema_to_yaml(schema: Schema) -> str:
    """`schema` as YAML text: fields in their order, options that have their default left out."""
    plain: dict[str, Any] = msgspec.to_builtins(schema)
    fields = []
    for field in plain.pop("fields"):
        if "range" in field:
            field["range"] = [_whole(bound) for bound in field["range"]]
        fields.append({key: list(value) if isinstance(value, tuple) else value for key, value in field.items()})
    return _HEADER + yaml.dump(
        {**plain, "fields": fields}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NO_FOLDING
    )


def _whole(bound: float | None) -> float | None:
    """0 for 0.0, as a person would write it; -0.0 stays."""
    is_whole = bound is not None and abs(bound) < 2**53 and repr(bound).endswith(".0") and repr(bound) != "-0.0"
    return int(bound) if is_whole and bound is not None else bound


def schema_from_yaml(text: str) -> Schema:
    """The schema that `text` describes; raises SchemaError naming the field, or line and column, and the mend."""
    plain = mapping_from_yaml(text, "the schema", "fields")
    _refuse_unknown(plain, Schema, "at the top of the schema")
    fields = plain.get("fields")
    if not isinstance(fields, list):
        raise SchemaError("expected a list of fields under `fields`, got none: write `fields:`, and one `- name:` each")
    return Schema(fields=tuple(_field(field, index) for index, field in enumerate(fields)), on_extra=_on_extra(plain))


def mapping_from_yaml(text: str, what: str, first: str) -> dict[str, Any]:
    """The mapping that `text` holds. Raises SchemaError naming line and column, `what` it is and its `first` word."""
    try:
        loader = _Loader(text)
        try:
            plain = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise SchemaError(f"{what} is not readable YAML{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SchemaError(f"{what} is not readable YAML: {type(error).__name__}: {error}") from error
    if not isinstance(plain, dict):
        raise SchemaError(f"expected a mapping with `{first}`, got {type(plain).__name__}: write `{first}:` at the top")
    return plain


def _refuse_unknown(plain: dict[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    known = kind.__struct_fields__
    for key in plain:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"the options are {', '.join(known)}"
            raise SchemaError(f"unknown option `{key}` {where}: {mend}")


def _on_extra(plain: dict[str, Any]) -> Any:
    value = plain.get("on_extra", "refuse")
    if value not in {"refuse", "ignore"}:
        raise SchemaError(f"expected `on_extra` to be refuse or ignore, got {value!r}: choose one")
    return value


def _field(plain: Any, index: int) -> Field:
    if not isinstance(plain, dict):
        raise SchemaError(f"expected a mapping of options for field {index + 1}, got {plain!r}: begin with `- name:`")
    name = plain.get("name", f"number {index + 1}")
    _refuse_unknown(plain, Field, f"of field `{name}`")
    if "default" in plain and plain["default"] is None:
        raise SchemaError(f"field `{name}`: `default` cannot be null: name a value, or drop it and send null")
    try:
        return msgspec.convert(plain, Field)
    except msgspec.ValidationError as error:
        raise SchemaError(
            f"field `{name}`: {error}: mend that option (texts that look like numbers go in quotes)"
        ) from error
