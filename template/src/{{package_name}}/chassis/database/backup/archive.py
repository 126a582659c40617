"""The file of a backup.

- The first line is the header, JSON in plain text: what this is, whose, of when, of which schema.
- Then come the rows, compressed with gzip, and encrypted when there is a key: a line with a table's name, then one with
  the values of each row, table by table; at the end a line with the number of rows of each.
- The last 65 bytes are the SHA-256 of everything before them, in hexadecimal, and a line feed.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from . import BackupError, encryption
from .values import pack, unpack

FORMAT = {"format": "service-backup", "version": 1}
_SIGNATURE = orjson.dumps(FORMAT)[:-1] + b","
_SUM_BYTES = 65
_BLOCK_BYTES = 1_048_576
_GZIP = 31  # zlib's word for its own largest window with the header of gzip

Row = tuple[str, Sequence[Any]]


@dataclass(frozen=True)
class Header:
    """`database` is the kind, `revision` the schema's; `salt` is empty where nothing is encrypted."""

    service: str
    release: str
    database: str
    revision: str
    created: str
    tables: dict[str, list[str]]
    salt: str = ""


def write(file: BinaryIO, header: Header, rows: Iterable[Row], key: bytes | None) -> Counter[str]:
    """Write a backup; return how many rows each table has."""
    counts: Counter[str] = Counter()
    line = orjson.dumps(FORMAT | asdict(header)) + b"\n"
    blocks = _compressed(_lines(rows, counts))
    if key:
        blocks = encryption.encrypted(blocks, key, bytes.fromhex(header.salt), line)
    digest = hashlib.sha256(line)
    file.write(line)
    for block in blocks:
        digest.update(block)
        file.write(block)
    file.write(digest.hexdigest().encode() + b"\n")
    return counts


class Archive:
    """A backup that is there.

    Raises:
        BackupError: the file is none; or, of every method, it is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._line = file.readline(_BLOCK_BYTES * 16)
        if not self._line.startswith(_SIGNATURE):
            raise BackupError(f"{path} is no backup of a service, or of a form that this release does not know")
        try:
            fields = orjson.loads(self._line)
            self.header = Header(**{name: value for name, value in fields.items() if name not in FORMAT})
        except (orjson.JSONDecodeError, TypeError):
            raise BackupError(f"{path} is damaged: its first line cannot be read") from None

    def check_rows(self, key: bytes | None) -> None:
        """Read every row, and do nothing with it."""
        for _ in self.rows(key):
            pass

    def check_sum(self) -> None:
        """Compare the file with the sum at its end."""
        digest, length = hashlib.sha256(), self._path.stat().st_size - _SUM_BYTES
        with self._path.open("rb") as file:
            for block in _blocks(file, length):
                digest.update(block)
            if length < len(self._line) or file.read() != digest.hexdigest().encode() + b"\n":
                raise BackupError(f"{self._path} is damaged: its content does not match its checksum")

    def rows(self, key: bytes | None) -> Iterator[Row]:
        """Yield every row with its table's name, and at the end make sure that none is missing."""
        counts: Counter[str] = Counter()
        table = ""
        try:
            for line in _split(_decompressed(self._payload(key))):
                entry = orjson.loads(line)
                if isinstance(entry, str):
                    table = entry
                elif isinstance(entry, list):
                    counts[table] += 1
                    yield table, [unpack(value) for value in entry]
                elif entry == {"rows": counts}:
                    return
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{self._path} is damaged: {error}") from None
        raise BackupError(f"{self._path} is damaged: rows are missing")

    def _payload(self, key: bytes | None) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(len(self._line))
            blocks = _blocks(file, self._path.stat().st_size - _SUM_BYTES - len(self._line))
            if not self.header.salt:
                yield from blocks
            elif key:
                yield from encryption.decrypted(blocks, key, bytes.fromhex(self.header.salt), self._line)
            else:
                raise BackupError(f"{self._path} is encrypted; set BACKUP_KEY to the key that it was made with")


def _lines(rows: Iterable[Row], counts: Counter[str]) -> Iterator[bytes]:
    current = None
    for table, values in rows:
        if table != current:
            current = table
            yield orjson.dumps(table)
        counts[table] += 1
        yield orjson.dumps([pack(value) for value in values])
    yield orjson.dumps({"rows": counts})


def _compressed(lines: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(wbits=_GZIP)
    for line in lines:
        yield gzip.compress(line + b"\n")
    yield gzip.flush()


def _decompressed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what was compressed, never more than a block at once, however well it was."""
    gunzip = zlib.decompressobj(wbits=_GZIP)
    for block in blocks:
        while block:
            yield gunzip.decompress(block, _BLOCK_BYTES)
            block = gunzip.unconsumed_tail
    yield gunzip.flush()


def _split(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (block := file.read(min(length, _BLOCK_BYTES))):
        length -= len(block)
        yield block
