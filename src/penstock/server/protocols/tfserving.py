"""TensorFlow Serving's REST API: row form (`instances` to `predictions`) and column form (`inputs` to `outputs`).

Source: tensorflow/serving, `tensorflow_serving/g3doc/api_rest.md`. A model has one signature, `serving_default`, with
an input per field and one output: probabilities in the order of the classes, else values, else labels.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from penstock.errors import CallFailure, Unreadable
from penstock.schema import Check, Field
from penstock.schema.prediction import Prediction
from penstock.server.call import Asked, Call, Reader
from penstock.server.failures import plain_error
from penstock.server.protocols.forms import ABSENT, Rows, Sent, read_json, sent_columns, sent_rows
from penstock.server.protocols.reading import generic

SIGNATURE: Final = "serving_default"
_FORMS: Final = ("instances", "inputs")
_ANSWERS: Final = {"instances": "predictions", "inputs": "outputs"}
_TEXTS: Final = frozenset({"string", "category"})


class TfBody(msgspec.Struct, forbid_unknown_fields=True):
    """The envelope: the rows are read once it is known which of the two forms they have."""

    instances: msgspec.Raw = ABSENT
    inputs: msgspec.Raw = ABSENT
    signature_name: str | None = None


_ENVELOPE: Final = msgspec.json.Decoder(TfBody)


class TfServing:
    """Bytes to `Asked`, reply or failure to bytes. `verb` is the method in the path; only `predict` is answered."""

    reads = b"*/*"  # curl -d, as TensorFlow's documentation has it, says that JSON is a form
    writes = b"application/json"

    def __init__(self, verb: str = "predict") -> None:
        self.name = "tfserving" if verb == "predict" else f"tfserving-{verb}"
        self._verb = verb

    def open(self, call: Call) -> bytes:
        """The whole body: model, version and label are in the path. Raises Unreadable for other verbs."""
        if self._verb != "predict":
            raise Unreadable(
                f"Expected the method `predict`, got `{self._verb}`, which is for models that read tf.Example: "
                f"send the rows as instances to :predict"
            )
        return call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads a body for the schema of `check`."""
        rows = Rows(check, max_rows, mend=_mended)

        def read(envelope: TfBody) -> Asked:
            form = _form(envelope)
            text: msgspec.Raw = getattr(envelope, form)
            typed = rows.columns if form == "inputs" and bytes(text)[:1] == b"{" else rows.rows
            return rows.asked(lambda: typed(text), lambda: _sent(text, form), form)

        return lambda body: read_json(body, _ENVELOPE, read)

    def answer(self, call: Call) -> bytes:
        """`{"predictions": …}` for rows, `{"outputs": …}` for columns: one value or list per row."""
        form = "instances" if call.asked is None else call.asked.wish
        return msgspec.json.encode({_ANSWERS[form]: [tensor_of(prediction) for prediction in call.reply.predictions]})

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """`{"error": text}`."""
        return plain_error(failure, request_id)


def tensor_of(prediction: Prediction) -> Any:
    """One row of the only output: probabilities, else values, else the value, else the label; None if it abstains."""
    if prediction.probabilities is not None:
        return list(prediction.probabilities.values())
    if prediction.values is not None:
        return list(prediction.values.values())
    return prediction.label if prediction.value is None else prediction.value


def _form(envelope: TfBody) -> str:
    forms = [name for name in _FORMS if bytes(getattr(envelope, name))]
    if len(forms) != 1:
        got = "both" if forms else "neither"
        raise Unreadable(f'Expected either "instances" (rows) or "inputs" (columns), got {got}: send one of them')
    if envelope.signature_name not in (None, "", SIGNATURE):
        raise Unreadable(
            f"Expected the signature {SIGNATURE}, the only one of a model, got {envelope.signature_name[:40]!r} - at "
            f"`$.signature_name`: leave it out"
        )
    return forms[0]


def _sent(text: msgspec.Raw, form: str) -> Sent:
    objects = generic(bytes(text))
    return sent_columns(objects, f"$.{form}") if form == "inputs" else sent_rows(objects, f"$.{form}")


def _mended(field: Field, value: Any) -> Any:
    """A text that came as `{"b64": …}`; what is no Base64 of UTF-8 stays, for the check to refuse."""
    if field.type not in _TEXTS or not isinstance(value, dict) or list(value) != ["b64"]:
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (TypeError, ValueError, binascii.Error):
        return value
