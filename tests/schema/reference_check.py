"""The slow obvious check: the value table of `wire.md`, read off row by row, on JSON decoded by the standard library.

It shares nothing with `penstock.schema.check`: numbers stay texts until the table has judged them.
"""

from __future__ import annotations

import datetime
import json
import re
from fractions import Fraction

import numpy as np

INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)


class Number(str):
    """The text of a JSON number."""


class Refused(Exception):
    """The reference does not take the value."""


def decoded(text):
    """`text` as JSON in which numbers are `Number`s; of a key that stands twice, the last counts."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def column_values(schema, text, form):
    """Per field the list of final values of the rows in `text`, or Refused."""
    plain = decoded(text)
    if form == "table":
        rows = rows_of_table(schema, plain)
    elif form == "lists":
        rows = [row_of_list(schema, row) for row in plain]
    else:
        rows = plain
    finals = [final_row(schema, row) for row in rows]
    return {field.name: [row[field.name] for row in finals] for field in schema.fields}


def row_of_list(schema, row):
    """A row given by place as a row given by name."""
    if not isinstance(row, list) or len(row) != len(schema.fields):
        raise Refused
    return dict(zip(schema.names, row, strict=True))


def rows_of_table(schema, table):
    """A table as rows."""
    if any(not isinstance(column, list) for name, column in table.items() if name in schema.names):
        raise Refused
    if schema.on_extra == "refuse" and set(table) - set(schema.names):
        raise Refused
    known = {name: column for name, column in table.items() if name in schema.names}
    for field in schema.fields:
        if field.name not in known and not has_default(field):
            raise Refused
    lengths = {len(column) for column in known.values()}
    if len(lengths) > 1:
        raise Refused
    count = lengths.pop() if lengths else 0
    return [{name: column[position] for name, column in known.items()} for position in range(count)]


def has_default(field):
    """Whether the field names a default."""
    return isinstance(field.default, bool | int | float | str)


def final_row(schema, row):
    """The final values of one row given by name."""
    if not isinstance(row, dict):
        raise Refused
    if schema.on_extra == "refuse" and set(row) - set(schema.names):
        raise Refused
    final = {}
    for field in schema.fields:
        if field.name in row:
            final[field.name] = final_value(field, row[field.name])
        elif has_default(field):
            final[field.name] = final_value(field, as_decoded(field.default))
        else:
            raise Refused
    return final


def as_decoded(value):
    """A value of the schema as `decoded` would give it."""
    return decoded(json.dumps(value))


def final_value(field, value):
    """One line of the table per type."""
    if field.coerce == "lenient":
        return final_lenient(field, value)
    if value is None:
        if field.nullable:
            return None
        raise Refused
    judge = {
        "float": final_float,
        "int": final_int,
        "bool": final_bool,
        "string": final_text,
        "category": final_text,
        "timestamp": final_instant,
    }[field.type]
    return judge(field, value)


def final_lenient(field, value):
    """Any scalar is read as the type; null and what cannot be read become the default."""
    if isinstance(value, list | dict):
        raise Refused
    read = read_text(value) if field.type in ("string", "category") else read_number(field, value)
    if read is None:
        if not has_default(field):
            raise Refused
        read = field.default
    return final_text(field, read) if isinstance(read, str) else within(field, read)


def read_number(field, value):
    """A number, true as 1, or a text that spells a number; an int cuts fractions off."""
    if value in (True, False):
        exact = Fraction(int(value))
    elif isinstance(value, str) and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", value, re.ASCII):
        is_exact = isinstance(value, Number) and re.fullmatch(r"-?\d+", value) is not None
        if not (is_exact and field.type == "int") and float(value) in (float("inf"), float("-inf")):
            return None
        exact = Fraction(value) if is_exact else Fraction(float(value))
    else:
        return None
    if field.type == "float":
        return float(exact)
    whole = int(exact)
    if abs(whole) > 2**53:
        raise Refused
    return whole


def read_text(value):
    """A text as it is; a number or truth value as Python writes it."""
    if isinstance(value, Number):
        return str(int(value)) if re.fullmatch(r"-?\d+", value) else str(float(value))
    return value if value is None or isinstance(value, str) else str(value)


def final_float(field, value):
    """A float takes any number that a double holds."""
    if not isinstance(value, Number):
        raise Refused
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise Refused
    return within(field, number)


def final_int(field, value):
    """An int takes an integer number; 3.0 and 1e2 only with coerce."""
    if not isinstance(value, Number):
        raise Refused
    is_written_whole = re.fullmatch(r"-?\d+", value) is not None
    if not is_written_whole and not field.coerce:
        raise Refused
    # 1e-400 is 0.0 as a double, and what is written with a point or exponent is read as one.
    exact = Fraction(value) if is_written_whole else Fraction(float(value))
    if exact.denominator != 1 or abs(exact) > 2**53:
        raise Refused
    return within(field, int(exact))


def within(field, number):
    """Range and allowed values."""
    if field.range is not None:
        low, high = field.range
        if (low is not None and number < low) or (high is not None and number > high):
            raise Refused
    if field.allowed is not None and all(number != one for one in field.allowed):
        raise Refused
    return float(number)


def final_bool(_, value):
    """A bool takes true and false."""
    if value is True or value is False:
        return float(value)
    raise Refused


def final_text(field, value):
    """A text is a string; a category outside `allowed` goes as `on_unknown` says."""
    if not isinstance(value, str) or isinstance(value, Number) or value == "\uffffmissing":
        raise Refused
    if field.allowed is None or value in field.allowed or field.on_unknown == "accept":
        return value
    if field.on_unknown == "map":
        return field.unknown_as
    raise Refused


def final_instant(_, value):
    """A timestamp is RFC 3339 text with an offset, to the nearest microsecond, as nanoseconds in 64 bits."""
    found = INSTANT.fullmatch(value) if isinstance(value, str) and not isinstance(value, Number) else None
    if found is None:
        raise Refused
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    sign, offset_hour, offset_minute = found.groups()[7:]
    if hour > 23 or minute > 59 or second > 59 or int(offset_hour or 0) > 23 or int(offset_minute or 0) > 59:
        raise Refused
    try:
        days = datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError:
        raise Refused from None
    offset = (1 if sign == "+" else -1) * (int(offset_hour or 0) * 60 + int(offset_minute or 0))
    seconds = days * 86400 + hour * 3600 + (minute - offset) * 60 + second
    microseconds = seconds * 10**6 + (int(((found.group(7) or "") + "0000000")[:7]) + 5) // 10
    if not -(2**63) < microseconds * 1000 < 2**63:
        raise Refused
    return np.datetime64(microseconds * 1000, "ns")
