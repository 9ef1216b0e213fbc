"""The protocols: each a file with two pure functions around `Predict`, and no logic of its own."""

from penstock.server.protocols.own import Own
from penstock.server.protocols.short import Short

__all__ = ["Own", "Short"]
