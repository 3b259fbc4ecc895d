"""Values as a shared store keeps them: compressed, tied to their place, and sealed or at least signed.

    version | form | …
    form 1:  tag (16) | zstd                                  signed with keyed BLAKE2b
    form 2:  key ID (4) | nonce (12) | AES-GCM(zstd)          sealed

Tag and seal cover the head and the place as well, so a value that was damaged, moved to another place or written by
somebody without the key is none.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Sequence
from typing import Any

import zstandard

_SIGNED, _SEALED = b"\x01\x01", b"\x01\x02"
_TAG, _ID, _NONCE = 16, 4, 12
_LARGEST = 128 * 1024 * 1024  # bytes that a value may unfold to


class _Zstd(threading.local):
    """Its objects are not for several threads at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor()
        self.decompressor = zstandard.ZstdDecompressor()


class Seals:
    """Makes values of what is to be kept, and the other way round. On any thread.

    `secret` signs, where there are no `keys`; with keys (32 bytes each) values are sealed by the first, and opened by
    all of them.
    """

    def __init__(self, secret: bytes, keys: Sequence[bytes] = ()) -> None:
        self._zstd = _Zstd()
        self.adapt(secret, keys)

    def adapt(self, secret: bytes, keys: Sequence[bytes]) -> None:
        """Go on with others."""
        self.secret = secret
        self._ciphers: dict[bytes, Any] = {}
        if keys:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra: not there for everybody

            self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers), b"")

    def close(self, packed: bytes, place: bytes) -> bytes:
        """The value for some bytes. `place`: where it belongs, such as its tenant and key."""
        body = self._zstd.compressor.compress(packed)
        if not self._first:
            return b"".join([_SIGNED, self._tag(body, place), body])
        head = _SEALED + self._first
        nonce = os.urandom(_NONCE)
        return b"".join([head, nonce, self._ciphers[self._first].encrypt(nonce, body, head + place)])

    def open(self, value: bytes, place: bytes) -> bytes | None:
        """The bytes in a value; None if it is damaged, or not from here."""
        match value[:2]:
            case b"\x01\x01" if not self._first:
                tag, body = value[2 : 2 + _TAG], value[2 + _TAG :]
                if not hmac.compare_digest(tag, self._tag(body, place)):
                    return None
            case b"\x01\x02" if (cipher := self._ciphers.get(value[2 : 2 + _ID])) is not None:
                head, nonce = value[: 2 + _ID], value[2 + _ID : 2 + _ID + _NONCE]
                if len(nonce) < _NONCE:
                    return None
                from cryptography.exceptions import InvalidTag

                try:
                    body = cipher.decrypt(nonce, value[2 + _ID + _NONCE :], head + place)
                except InvalidTag:
                    return None
            case _:
                return None
        try:
            if zstandard.frame_content_size(body) > _LARGEST:
                return None
            return self._zstd.decompressor.decompress(body)
        except zstandard.ZstdError:
            return None

    def _tag(self, body: bytes, place: bytes) -> bytes:
        tag = hashlib.blake2b(_SIGNED, digest_size=_TAG, key=self.secret, person=b"cache value")
        tag.update(len(place).to_bytes(4, "little") + place)
        tag.update(body)
        return tag.digest()


def _id_of(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_ID, person=b"cache key ID").digest()
