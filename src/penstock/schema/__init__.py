"""What a row is: fields, the schema, the compiled check, and rows as columns."""

from penstock.schema.columns import Columns
from penstock.schema.field import Field, FieldType, Scalar, Schema

__all__ = ["Columns", "Field", "FieldType", "Scalar", "Schema"]
