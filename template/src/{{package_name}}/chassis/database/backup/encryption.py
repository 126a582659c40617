"""Encryption of a stream: AES-256-GCM in numbered chunks, of which the last is marked.

It is the STREAM construction (https://eprint.iacr.org/2015/189): a chunk that is changed, moved, left out or missing at
the end does not open. Each file has a key of its own, made from yours and a random salt (HKDF, RFC 5869), so that the
numbers can begin at 0 in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import KEY_BYTES, BackupError

SALT_BYTES = 32
_CHUNK_BYTES = 65_536
_TAG_BYTES = 16
_PURPOSE = b"service-backup 1"


def encrypted(blocks: Iterable[bytes], key: bytes, salt: bytes, header: bytes) -> Iterator[bytes]:
    """Yield the chunks of what `blocks` are together. `header` is not encrypted, and cannot be changed either."""
    cipher = _cipher(key, salt)
    for number, is_last, chunk in _chunks(blocks, _CHUNK_BYTES):
        yield cipher.encrypt(_nonce(number, is_last), chunk, header)


def decrypted(blocks: Iterable[bytes], key: bytes, salt: bytes, header: bytes) -> Iterator[bytes]:
    """Yield what was encrypted.

    Raises:
        BackupError: it is another key, or not what was written.
    """
    cipher = _cipher(key, salt)
    for number, is_last, chunk in _chunks(blocks, _CHUNK_BYTES + _TAG_BYTES):
        try:
            yield cipher.decrypt(_nonce(number, is_last), chunk, header)
        except InvalidTag:
            if number:
                raise BackupError("the file is damaged: its encrypted part is not what was written") from None
            raise BackupError("the file was encrypted with another key than BACKUP_KEY") from None


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, _PURPOSE).derive(key))


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _chunks(blocks: Iterable[bytes], size: int) -> Iterator[tuple[int, bool, bytes]]:
    """Cut a stream into chunks of `size`, and number them; there is always a last one, of at most that size."""
    number, held = 0, bytearray()
    for block in blocks:
        held += block
        while len(held) > size:
            yield number, False, bytes(held[:size])
            del held[:size]
            number += 1
    yield number, True, bytes(held)
