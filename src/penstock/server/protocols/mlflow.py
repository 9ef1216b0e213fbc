"""MLflow's `/invocations`: a table or tensors in JSON, or CSV; labels or values as the model's `predict` gives them.

Source: mlflow/mlflow, `mlflow/pyfunc/scoring_server` (its server) and `mlflow/utils/proto_json_utils.py` (its client).
The bodies of MLflow 1 (`format=pandas-split` and `pandas-records`), which have no envelope, are read too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.errors import CallFailure, Unreadable
from penstock.schema import Check
from penstock.schema.prediction import Prediction
from penstock.server.call import Asked, Call, Reader
from penstock.server.failures import coded_error
from penstock.server.protocols.csv_rows import csv_rows
from penstock.server.protocols.forms import ABSENT, Rows, Sent, read_json, sent_columns, sent_rows
from penstock.server.protocols.pandas_values import json_value
from penstock.server.protocols.reading import generic

_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
PREDICT: Final = "predict"
PREDICT_PROBA: Final = "predict_proba"


class MlflowBody(msgspec.Struct, forbid_unknown_fields=True):
    """The envelope: exactly one form of rows. `columns`, `data` and `index` are those of MLflow 1's split form."""

    dataframe_split: msgspec.Raw = ABSENT
    dataframe_records: msgspec.Raw = ABSENT
    instances: msgspec.Raw = ABSENT
    inputs: msgspec.Raw = ABSENT
    params: dict[str, Any] | None = None
    columns: msgspec.Raw = ABSENT
    data: msgspec.Raw = ABSENT
    index: Any = None


class SplitFrame(msgspec.Struct, forbid_unknown_fields=True):
    """A data frame as pandas splits it; the index says nothing of a row. Columns that are numbers have no names."""

    data: msgspec.Raw
    columns: list[str | int] | None = None
    index: Any = None


_ENVELOPE: Final = msgspec.json.Decoder(MlflowBody)
_SPLIT: Final = msgspec.json.Decoder(SplitFrame)
_COLUMNS: Final = msgspec.json.Decoder(list[str | int])


class Mlflow:
    """JSON to `Asked`, reply or failure to bytes."""

    name = "mlflow"
    reads = writes = b"application/json"

    def open(self, call: Call) -> bytes:
        """The whole body; of MLflow 1's bare list of records, in the envelope that it has now."""
        is_list = call.body.lstrip(b" \t\r\n")[:1] == b"["
        return b'{"dataframe_records":' + call.body + b"}" if is_list else call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """As `reader_for`, of a model whose outputs are not known."""
        return self.reader_for(check, max_rows, None)

    def reader_for(self, check: Check, max_rows: int, spec: OutputSpec | None) -> Reader:
        """A function that reads a body for the schema of `check`; it refuses a method that the model has not."""
        rows = Rows(check, max_rows, mend=json_value)
        methods = _methods(spec)

        def read(envelope: MlflowBody) -> Asked:
            form = _form(envelope)
            wish = _method(envelope.params, methods)
            if form == "data":
                return _split(SplitFrame(envelope.data, _COLUMNS.decode(envelope.columns)), "$.data", rows, wish)
            text: msgspec.Raw = getattr(envelope, form)
            if form == "dataframe_split":
                return _split(_SPLIT.decode(text), "$.dataframe_split.data", rows, wish)
            typed = rows.columns if form == "inputs" and bytes(text)[:1] == b"{" else rows.rows
            return rows.asked(lambda: typed(text), lambda: _sent(text, form), wish)

        return lambda body: read_json(body, _ENVELOPE, read)

    def answer(self, call: Call) -> bytes:
        """`{"predictions": […]}`, one for each row: what the model's `predict`, or `predict_proba`, gives."""
        return _answer(call)

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """`{"error_code": …, "message": …}`."""
        return coded_error(failure, request_id)


class MlflowCsv:
    """CSV to `Asked`, reply or failure to bytes."""

    name = "mlflow-csv"
    reads = b"text/csv"
    writes = b"application/json"

    def open(self, call: Call) -> bytes:
        """The whole body."""
        return call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads CSV for the schema of `check`."""

        rows = Rows(check, max_rows, mend=json_value)

        def read(body: bytes) -> Asked:
            found = csv_rows(body, check.schema, max_rows)
            return rows.asked(
                lambda: rows.objects(msgspec.json.encode(found)), lambda: Sent(found, "$", "rows"), PREDICT
            )

        return read

    def answer(self, call: Call) -> bytes:
        """As to JSON."""
        return _answer(call)

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """As of JSON."""
        return coded_error(failure, request_id)


def _form(envelope: MlflowBody) -> str:
    forms = [name for name in (*_FORMS, "data") if bytes(getattr(envelope, name))]
    if len(forms) != 1:
        got = " and ".join(forms) or "none of them"
        raise Unreadable(f"Expected exactly one of {', '.join(_FORMS)}, got {got}: send the rows once")
    if bool(bytes(envelope.columns)) is not (forms == ["data"]):
        raise Unreadable("Expected `columns` together with `data`, as pandas splits a frame: send dataframe_split")
    return forms[0]


def _methods(spec: OutputSpec | None) -> tuple[str, ...]:
    return (PREDICT, PREDICT_PROBA) if spec is None or spec.has_probabilities else (PREDICT,)


def _method(params: dict[str, Any] | None, methods: Sequence[str]) -> str:
    """The method of the model whose answer is wanted."""
    params = params or {}
    method = params.get("predict_method", PREDICT)
    others = [name for name in params if name != "predict_method"]
    if others:
        raise Unreadable(f"Expected no other param than `predict_method`, got {others[0][:80]!r} - at `$.params`")
    if method not in methods:
        raise Unreadable(
            f"Expected a method that this model has ({' or '.join(methods)}), got {str(method)[:80]!r} - at "
            f"`$.params.predict_method`"
        )
    return str(method)


def _split(frame: SplitFrame, path: str, rows: Rows, wish: str) -> Asked:
    """A split frame: rows in the schema's order where the columns say so, or have no names."""
    columns, names = frame.columns, rows.names
    if columns is None or columns in ([*names], [*range(len(names))]):
        return rows.asked(lambda: rows.lists(frame.data), lambda: Sent(generic(bytes(frame.data)), path, "lists"), wish)
    objects = generic(bytes(frame.data))
    rows.require_count(Sent(objects, path, "lists"))
    sent = _named(objects, columns, path)
    return rows.asked(lambda: rows.rows(msgspec.json.encode(sent.objects)), lambda: sent, wish)


def _named(objects: Any, columns: Sequence[str | int], path: str) -> Sent:
    """Rows of a frame whose columns stand in another order, as objects."""
    if len(set(columns)) != len(columns):
        raise Unreadable(f"Expected each column once, got one of them twice - at `{path}`: drop or rename it")
    if not isinstance(objects, list) or not all(isinstance(row, list) for row in objects):
        return Sent(objects, path, "lists")
    for place, row in enumerate(objects):
        if len(row) != len(columns):
            raise Unreadable(
                f"Expected {len(columns)} values, as many as there are columns, got {len(row)} - at `{path}[{place}]`"
            )
    return Sent([dict(zip(map(str, columns), row, strict=True)) for row in objects], path, "rows")


def _sent(text: msgspec.Raw, form: str) -> Sent:
    objects = generic(bytes(text))
    return sent_columns(objects, f"$.{form}") if form == "inputs" else sent_rows(objects, f"$.{form}")


def _answer(call: Call) -> bytes:
    wish = PREDICT if call.asked is None else call.asked.wish
    found = _probabilities if wish == PREDICT_PROBA else _predicted
    return msgspec.json.encode({"predictions": [found(prediction) for prediction in call.reply.predictions]})


def _probabilities(prediction: Prediction) -> list[float] | None:
    return None if prediction.probabilities is None else list(prediction.probabilities.values())


def _predicted(prediction: Prediction) -> Any:
    """What `predict` gives for a row: the label, else the values in the order of the targets, else the value."""
    if prediction.label is not None:
        return prediction.label
    return prediction.value if prediction.values is None else list(prediction.values.values())
