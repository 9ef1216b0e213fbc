"""The commitment of a record: the part of its line that can be erased later without breaking the chain.

A line with a payload is `{"seq":…,…,"commitment":"<SHA-256>","salt":"<16 random bytes>",…}`: the envelope, the
commitment, then salt and payload. The commitment is the SHA-256 of what follows it, the closing brace included; the
chain covers the line without that. Erased, there are spaces in its place, so that what stands behind stays where it is.
The salt goes with the payload: nobody can prove by trying what was erased.
"""

from __future__ import annotations

import binascii
import hashlib
import os

_MARK = b',"commitment":"'  # nowhere else: a quote inside of a text is written as \\"
_HEX_BYTES = 64
_SALT_BYTES = 16
_POOL_BYTES = 64 * _SALT_BYTES  # a system call for as many records


class Salts:
    """Draws salts from the operating system, many at a time. Not thread-safe, not for use across a fork.

    `pool` has some, each 16 random bytes in hexadecimal. Take one by `(salts.pool or salts.filled()).pop()`.
    """

    def __init__(self) -> None:
        self.pool: list[bytes] = []

    def filled(self) -> list[bytes]:
        """The pool, with more in it."""
        self.pool += binascii.hexlify(os.urandom(_POOL_BYTES), b" ", _SALT_BYTES).split()
        return self.pool


def commitment_of(tail: bytes) -> bytes:
    """The commitment to `tail`, which is to follow it."""
    return binascii.hexlify(hashlib.sha256(tail).digest())


def erased(line: bytes) -> bytes | None:
    """The record's `line` without its payload, as the chain covers it; the line itself where it has none.

    None where what follows the commitment is neither what it names, nor nothing.
    """
    envelope, tail = parted(line)
    if tail is None:
        return line
    if commitment_of(tail) != envelope[-_HEX_BYTES - 1 : -1] and not is_blank(tail):
        return None
    return envelope + b"}\n"


def blanked(line: bytes) -> bytes:
    """The record's `line` with its payload erased, as long as it was; the line itself where it has none."""
    envelope, tail = parted(line)
    return line if tail is None else envelope + b" " * (len(tail) - 1) + b"}\n"


def is_erased(line: bytes) -> bool:
    """Whether the record had a payload that is gone."""
    tail = parted(line)[1]
    return tail is not None and is_blank(tail)


def is_blank(tail: bytes) -> bool:
    """Whether nothing is left of what follows a commitment."""
    return tail.startswith((b" ", b"}")) and tail.endswith(b"}") and not tail[:-1].strip(b" ")


def parted(line: bytes) -> tuple[bytes, bytes | None]:
    """The line up to the end of its commitment, and what follows without the newline."""
    at = line.find(_MARK)
    if at < 0:
        return line, None
    end = at + len(_MARK) + _HEX_BYTES + 1
    return line[:end], line[end:-1]
