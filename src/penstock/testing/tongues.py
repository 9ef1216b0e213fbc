"""Each protocol as a caller speaks it, plainly written: rows in, what was heard out. For the check of `contract.py`.

Written by hand rather than with the protocols' own clients, which `make clients` asks in environments of their own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import httpx
import msgspec
import numpy as np

from penstock.client.arrow import arrow_stream
from penstock.schema.prediction import Prediction

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Heard(msgspec.Struct, frozen=True):
    """What came back: the HTTP status, one answer per row, and the id that the record has.

    `said` is the error's text. An answer is what `Tongue.told` makes of a prediction.
    """

    status: int
    answers: list[Any]
    request_id: str
    said: str = ""


class Tongue(msgspec.Struct, frozen=True, kw_only=True):
    """How a protocol is spoken.

    `protocol` is its name in the record; `path` has `{model}`, or the model is named by a header. `write` makes a body
    of rows, with headers; `read` makes answers of a body; `told` says what an answer holds of a prediction.
    """

    name: str
    protocol: str
    path: str
    write: Callable[[Rows], tuple[bytes, dict[str, str]]]
    read: Callable[[httpx.Response], list[Any]]
    told: Callable[[Prediction], Any]
    has_nulls: bool = True

    def ask(self, http: httpx.Client, model: str, rows: Rows) -> Heard:
        """Put `rows` to `model` and hear what comes back."""
        body, headers = self.write(rows)
        headers = {"content-type": JSON, "x-penstock-model": model, **headers}
        response = http.post(self.path.format(model=model), content=body, headers=headers)
        request_id = response.headers.get("x-penstock-request-id", "")
        if response.status_code == 200:
            return Heard(200, self.read(response), request_id)
        return Heard(response.status_code, [], request_id, _said(response.json()))


def _said(body: Any) -> str:
    error = body.get("error", body.get("message", ""))
    return error if isinstance(error, str) else str(error["message"])


def _json(body: Any) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(body), {}


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    """Rows as a list of values per field."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _whole(prediction: Prediction) -> Any:
    return msgspec.to_builtins(prediction)


def _told_short(prediction: Prediction) -> Any:
    told: dict[str, Any] = {"prediction": plain(prediction)}
    return told if prediction.probabilities is None else {**told, "probabilities": prediction.probabilities}


def plain(prediction: Prediction) -> Any:
    """The label, else the value, else the values: what a model's `predict` gives."""
    if prediction.label is not None:
        return prediction.label
    return prediction.value if prediction.values is None else prediction.values


def _numbers(prediction: Prediction) -> Any:
    return plain(prediction) if prediction.probabilities is None else list(prediction.probabilities.values())


def _arrow(rows: Rows) -> tuple[bytes, dict[str, str]]:
    return arrow_stream(columns_of(rows)), {"content-type": ARROW}


def _from_arrow(response: httpx.Response) -> list[Any]:
    import pyarrow.ipc

    rows = pyarrow.ipc.open_stream(response.content).read_all().to_pylist()
    return [_nested(row) for row in rows]


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of an Arrow answer as a prediction: `probabilities.yes` is the member `yes` of `probabilities`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        member, dot, key = name.partition(".")
        if dot:
            found.setdefault(member, {})[key] = value
        else:
            found[name] = value
    return found


def _csv(rows: Rows) -> tuple[bytes, dict[str, str]]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows[0])
    writer.writerows([["" if value is None else value for value in row.values()] for row in rows])
    return text.getvalue().encode(), {"content-type": "text/csv"}


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    """A tensor of the Open Inference Protocol; a missing number is NaN, which its JSON writes as null."""
    kinds = {type(value) for value in values if value is not None}
    datatype = "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "BYTES" if kinds == {str} else "FP64"
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}


def _v2(rows: Rows) -> tuple[bytes, dict[str, str]]:
    return _json({"inputs": [_tensor(name, values) for name, values in columns_of(rows).items()]})


_KINDS: Final = {"BOOL": "u1", "INT64": "<i8", "FP64": "<f8"}


def _v2_binary(rows: Rows) -> tuple[bytes, dict[str, str]]:
    parts, tensors = [], []
    for name, values in columns_of(rows).items():
        tensor = _tensor(name, values)
        tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            texts = [value.encode() for value in values]
            raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        else:
            raw = np.array(
                [np.nan if value is None else value for value in values], _KINDS[tensor["datatype"]]
            ).tobytes()
        parts.append(raw)
        tensors.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
    head = msgspec.json.encode({"inputs": tensors, "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return b"".join([head, *parts]), headers


def _from_v2(response: httpx.Response) -> list[Any]:
    length = int(response.headers.get("inference-header-content-length", len(response.content)))
    head, tail = msgspec.json.decode(response.content[:length]), response.content[length:]
    tensors, values = [], []
    for tensor in head["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        values.append(tensor["data"] if size is None else tail[:size])
        tensors.append((tensor["name"], tensor["datatype"], tensor["shape"]))
        tail = tail[size or 0 :]
    return answers_of(tensors, values)


def answers_of(tensors: Sequence[tuple[str, str, list[int]]], values: Sequence[list[Any] | bytes]) -> list[Any]:
    """One dict per row out of tensors (name, datatype, shape), whose values are listed or raw."""
    found: dict[str, list[Any]] = {}
    for (name, datatype, shape), held in zip(tensors, values, strict=True):
        listed = _of_bytes(datatype, held) if isinstance(held, bytes) else held
        found[name] = np.reshape(np.array(listed, object), shape).tolist()
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _of_bytes(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        values: list[Any] = np.frombuffer(raw, _KINDS[datatype]).tolist()
        return [bool(value) for value in values] if datatype == "BOOL" else values
    texts, place = [], 0
    while place < len(raw):
        end = place + 4 + int.from_bytes(raw[place : place + 4], "little")
        texts.append(raw[place + 4 : end].decode())
        place = end
    return texts


def _told_v2(prediction: Prediction) -> Any:
    whole: dict[str, Any] = msgspec.to_builtins(prediction)
    return {name: list(value.values()) if isinstance(value, dict) else value for name, value in whole.items()}


def _predictions(response: httpx.Response) -> list[Any]:
    answers: list[Any] = response.json()["predictions"]
    return answers


def _outputs(response: httpx.Response) -> list[Any]:
    answers: list[Any] = response.json()["outputs"]
    return answers


def _proba(rows: Rows) -> tuple[bytes, dict[str, str]]:
    return _json({"dataframe_records": list(rows)})


def _split(rows: Rows) -> tuple[bytes, dict[str, str]]:
    return _json({"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}})


_PREDICT: Final = "/v1/models/{model}/predict"
_TF: Final = "/v1/models/{model}:predict"

TONGUES: Final = (
    Tongue(
        name="instances",
        protocol="penstock",
        write=lambda rows: _json({"instances": list(rows)}),
        read=_predictions,
        path=_PREDICT,
        told=_whole,
    ),
    Tongue(
        name="columns",
        protocol="penstock",
        write=lambda rows: _json({"columns": columns_of(rows)}),
        read=_predictions,
        path=_PREDICT,
        told=_whole,
    ),
    Tongue(name="arrow", protocol="penstock-arrow", write=_arrow, read=_from_arrow, path=_PREDICT, told=_whole),
    Tongue(
        name="short",
        protocol="short-batch",
        path="/batch_predict",
        write=lambda rows: _json({"features": list(rows)}),
        read=_predictions,
        told=_told_short,
    ),
    Tongue(name="v2", protocol="v2", path="/v2/models/{model}/infer", write=_v2, read=_from_v2, told=_told_v2),
    Tongue(
        name="v2-binary", protocol="v2", path="/v2/models/{model}/infer", write=_v2_binary, read=_from_v2, told=_told_v2
    ),
    Tongue(
        name="tf-rows",
        protocol="tfserving",
        path=_TF,
        write=lambda rows: _json({"instances": list(rows)}),
        read=_predictions,
        told=_numbers,
    ),
    Tongue(
        name="tf-columns",
        protocol="tfserving",
        path=_TF,
        write=lambda rows: _json({"inputs": columns_of(rows)}),
        read=_outputs,
        told=_numbers,
    ),
    Tongue(name="mlflow-records", protocol="mlflow", path="/invocations", write=_proba, read=_predictions, told=plain),
    Tongue(name="mlflow-split", protocol="mlflow", path="/invocations", write=_split, read=_predictions, told=plain),
    Tongue(name="mlflow-csv", protocol="mlflow-csv", path="/invocations", write=_csv, read=_predictions, told=plain),
)
"""Every protocol over HTTP, and each of its forms."""
