"""The messages of `oip.proto`, out of its compiled form, in a pool of descriptors of their own.

Clients of other makers register the same names in the process-wide pool, where one of two would be refused.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "inference.GRPCInferenceService"


@cache
def pool() -> Any:
    """The pool that knows the protocol's messages and service."""
    compiled = resources.files("penstock.server.rpc").joinpath("oip.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled)
    known = descriptor_pool.DescriptorPool()
    for file in files.file:
        known.AddSerializedFile(file.SerializeToString())
    return known


@cache
def message(name: str) -> Any:
    """The class of the message called `name`, such as `ModelInferRequest`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"inference.{name}"))
