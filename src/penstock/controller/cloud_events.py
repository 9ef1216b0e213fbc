"""An event as its receivers get it: a CloudEvent 1.0 in structured mode, signed as Standard Webhooks 1.0 say. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from penstock.control.changes import Event

SOURCE: Final = "/penstock"
MEDIA: Final = "application/cloudevents+json; charset=utf-8"

_PREFIX: Final = "whsec_"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0, the attributes that are used. `id` is the same at each attempt, and nowhere else."""

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    data: Event


def cloud_event(event: Event) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of the request that tells of `event`."""
    # Revisions begin anew in another home, whose events may go to the same receiver: the time tells them apart.
    identity = f"{event.revision}-{(event.at - _EPOCH) // _TICK}"
    told = CloudEvent(
        id=identity,
        type=f"dev.penstock.model.{event.kind}",
        subject=f"models/{event.model}" if event.model else "audit",
        time=event.at,
        data=event,
    )
    return msgspec.json.encode(told), {"content-type": MEDIA, "webhook-id": identity}


def signed(secret: str, identity: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """Headers with the time of this attempt, and HMAC-SHA256 over id, time and body.

    The key is the secret's own bytes, or what stands in Base64 behind `whsec_`.
    """
    stamp = str(int(at.timestamp()))
    mark = hmac.digest(key_of(secret), f"{identity}.{stamp}.".encode() + body, hashlib.sha256)
    return {"webhook-timestamp": stamp, "webhook-signature": f"v1,{base64.b64encode(mark).decode()}"}


def key_of(secret: str) -> bytes:
    """The key that a secret of the settings stands for."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            return secret.encode()
    return secret.encode()
