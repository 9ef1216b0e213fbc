"""`Pseudonyms`: keyed hashes in place of the callers' keys and client ids, which are often names of people.

The same text gives the same pseudonym as long as the home keeps its key file, so records can still be found and joined
by whoever knows the text and may read the file; without the file a text cannot be guessed by trying.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from penstock.errors import SegmentError

KEY_FILE = "audit.key"
_SECRET_BYTES = 32
_SHOWN_BYTES = 16
_BLOCK_BYTES = 64
_PREFIX = "hmac:"


class Pseudonyms:
    """HMAC-SHA256 of a text under the home's secret, its first 128 bits as `hmac:<hexadecimal>`. Pure, thread-safe.

    A key and a client id that are the same text have different pseudonyms. The secret has at most 64 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # RFC 2104 by hand, for the hot path: two hashes take half the time of one `hmac.digest`.
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self._inner, self._outer = bytes(one ^ 0x36 for one in block), bytes(one ^ 0x5C for one in block)

    def of_key(self, key: str) -> str:
        """What stands in a record for the key of an entity."""
        return self._of(b"key\0", key)

    def of_client_id(self, client_id: str) -> str:
        """What stands in a record for the caller's own id of a call."""
        return self._of(b"client\0", client_id)

    def sign(self, data: bytes) -> str:
        """HMAC-SHA256 of `data` as hexadecimal, for entries that only who has the secret can write."""
        return hmac.digest(self._secret, b"sign\0" + data, "sha256").hex()

    def _of(self, kind: bytes, text: str) -> str:
        digest = sha256(self._inner + kind + text.encode(errors="surrogatepass")).digest()
        return _PREFIX + sha256(self._outer + digest).hexdigest()[: 2 * _SHOWN_BYTES]


def is_pseudonym(text: str | None) -> bool:
    """Whether `text` is one, or looks like it."""
    return text is not None and text.startswith(_PREFIX) and len(text) == len(_PREFIX) + 2 * _SHOWN_BYTES


def open_pseudonyms(home: Path) -> Pseudonyms:
    """By the secret in `<home>/audit.key`, which is made (mode 0600) where there is none; several processes may do so
    at once. Raises SegmentError for a file that cannot be read, or is none of ours.
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise SegmentError(f"Expected to read or make the key file {path}, but: {error.strerror}") from error
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise SegmentError(f"Expected 64 hexadecimal digits in {path}, got something else: restore it from a backup")
    return Pseudonyms(secret)


def _make(path: Path) -> None:
    """Written beside and linked, so that nobody sees half of it, and the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
