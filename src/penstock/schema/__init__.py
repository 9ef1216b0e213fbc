"""What a row is: fields, the schema, the compiled check, and rows as columns."""

from penstock.schema.check import Batch, Check, Row
from penstock.schema.columns import MISSING_TEXT, Columns
from penstock.schema.field import Field, FieldType, Scalar, Schema
from penstock.schema.walk import Findings, Form

__all__ = [
    "MISSING_TEXT",
    "Batch",
    "Check",
    "Columns",
    "Field",
    "FieldType",
    "Findings",
    "Form",
    "Row",
    "Scalar",
    "Schema",
]
