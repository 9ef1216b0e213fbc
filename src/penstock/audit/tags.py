"""Values that JSON cannot hold, as tags: what goes into a record comes out of it, to the last bit.

JSON has no NaN, no infinities and no bytes; msgspec writes the first as null and the last as plain text, so both would
be lost without a trace. `tag` is the slow path for values that hold such things; `untag` is its inverse.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec

from penstock.errors import SegmentError

_SAFE_INT = 2**63
_PLAIN_TYPES = frozenset({type(None), str, bool, datetime, msgspec.Raw})


class Masked(msgspec.Struct, frozen=True, rename={"pii": "$masked"}):
    """Stands in a record where personal data was; `pii` is the class of the value ("email"), never the value."""

    pii: str


def tag(value: object) -> msgspec.Raw:
    """`value` as JSON text with every part that JSON cannot hold tagged; put it into a record as it is.

    - NaN and the infinities: `{"$float": "nan" | "inf" | "-inf"}`
    - bytes: `{"$bytes": base64}`
    - ints outside of 64 bits, which other readers of JSON would round: `{"$int": hexadecimal}`
    - text with lone surrogates, which UTF-8 refuses: `{"$text": base64 of its UTF-16}`
    - a key of a dict that starts with "$" gets one "$" more, so that nothing of this is ever mistaken for data.

    Structs become objects under their encoded names and come back as dicts; tuples come back as lists, datetimes as
    RFC 3339 text. Raises TypeError for any other type
    and for keys that are no text.
    """
    return msgspec.Raw(msgspec.json.encode(_tagged(value)))


def is_plain(value: object) -> bool:
    """Whether all numbers in `value` are such as msgspec's JSON holds; bytes and keys are not looked at."""
    if type(value) in _PLAIN_TYPES:
        return True
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return -_SAFE_INT <= value < _SAFE_INT
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return not isinstance(value, msgspec.Struct) or all(map(is_plain, msgspec.structs.astuple(value)))


def untag(value: Any) -> Any:
    """The value that `tag` was given, from its parsed JSON. Raises SegmentError for a tag that it does not know."""
    if isinstance(value, list):
        return [untag(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(key, content)] = value.items()
        if key.startswith("$") and not key.startswith("$$"):
            return _untagged(key, content)
    return {_unescaped(key): untag(item) for key, item in value.items()}


def _tagged(value: object) -> object:
    """`value` with tags, as builtins that msgspec writes without loss."""
    # Tuples of types, not unions: a union is built anew at each call, which costs more than the rest.
    if isinstance(value, str):
        return _tagged_text(value)
    if value is None or isinstance(value, (bool, datetime, msgspec.Raw, Masked)):
        return value
    if isinstance(value, float):
        return float(value) if isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, int):
        return int(value) if -_SAFE_INT <= value < _SAFE_INT else {"$int": hex(value)}
    if isinstance(value, (list, tuple)):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        return {_escaped(key): _tagged(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        return _tagged_struct(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"Expected a value made of JSON types, bytes and structs, got {type(value).__name__}: convert it")


def _tagged_struct(value: msgspec.Struct) -> object:
    """The struct as an object under its encoded names; fields that are UNSET are left out, as msgspec does."""
    fields = zip(value.__struct_encode_fields__, msgspec.structs.astuple(value), strict=True)
    return {_escaped(name): _tagged(item) for name, item in fields if item is not msgspec.UNSET}


def _tagged_text(value: str) -> object:
    """`value`, or its tag where it has lone surrogates."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$text": base64.b64encode(value.encode("utf-16-le", "surrogatepass")).decode()}
    return value


def _escaped(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"Expected text as the key of an object in a record, got {type(key).__name__}: convert it")
    return "$" + key if key.startswith("$") else key


def _unescaped(key: str) -> str:
    if key.startswith("$$"):
        return key[1:]
    if key.startswith("$"):
        raise SegmentError(
            f"Expected a tag to stand alone in its object, got `{key}` beside other keys: not our record"
        )
    return key


def _untagged(key: str, content: Any) -> Any:
    """The value of one tag."""
    try:
        if key == "$float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if key == "$bytes":
            return base64.b64decode(content, validate=True)
        if key == "$int":
            return int(content, 16)
        if key == "$text":
            return base64.b64decode(content, validate=True).decode("utf-16-le", "surrogatepass")
        if key == "$masked" and isinstance(content, str):
            return Masked(content)
    except (TypeError, ValueError, binascii.Error) as error:
        raise SegmentError(f"Expected the content of a `{key}` tag, got something else: {error}") from error
    raise SegmentError(f"Expected one of the tags of docs/audit.md, got `{key}`: not a record of this version")
