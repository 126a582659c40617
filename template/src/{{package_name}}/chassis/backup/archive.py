"""The files of backups: their format, names and retention.

A backup is a compressed tar, encrypted with age (https://age-encryption.org) if there is a key. It holds
`manifest.json`, the signature of that file, and the dump. `age` and `tar` open it without this code.
The signature proves the origin of a backup. Encryption alone does not, because anyone can encrypt for a public key.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyrage  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from . import BackupError

_FORMAT = 1
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.hmac"
_MAGIC = b"age-encryption.org/"
# The first bytes of a backup by a release before 0.3.
_OLD_MAGIC = b'{"format":"service-backup"'
_TIME = "%Y%m%dT%H%M%S.%f"
# Limits for a file that somebody may have crafted. The header of an age file has less than a kilobyte, and the time to
# read it grows with the square of its size. Deflate makes data at most 1,032 times smaller.
_LARGEST_HEADER_BYTES = 16_384
_LARGEST_MANIFEST_BYTES = 1_048_576
_LARGEST_RATIO = 1_040


class Key:
    """An age identity such as `AGE-SECRET-KEY-1...`, alone or in the commented output of `age-keygen`.

    Raises:
        ValueError: The text is not an age identity.
    """

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
        try:
            self._identity = pyrage.x25519.Identity.from_str("".join(lines))
        except pyrage.IdentityError:
            raise ValueError(
                "is not an age identity; use a key that `backup --new-key` or `age-keygen` prints"
            ) from None

    def encrypt(self, source: Path, target: Path) -> None:
        pyrage.encrypt_file(str(source), str(target), [self._identity.to_public()])

    def decrypt(self, source: Path, target: Path) -> None:
        """Decrypt a file.

        Raises:
            BackupError: It was encrypted with another key, or was changed.
        """
        try:
            pyrage.decrypt_file(str(source), str(target), [self._identity])
        except (pyrage.DecryptError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise BackupError(
                f"{source} is damaged, or encrypted with another key than BACKUP_KEY: {reason}"
            ) from error

    def sign(self, content: bytes) -> bytes:
        """Return the HMAC-SHA-256 of a text, in hexadecimal digits."""
        return hmac.new(str(self._identity).encode(), content, "sha256").hexdigest().encode()


def new_key() -> str:
    """Return a new identity."""
    return str(pyrage.x25519.Identity.generate())


@dataclass(frozen=True)
class Manifest:
    """The description of a backup. `sha256` is the checksum of the dump."""

    service: str
    release: str
    created: str
    database: str
    revision: str
    tables: list[str]
    tool: str
    server: str
    sha256: str = ""
    format: int = _FORMAT


# -- format ------------------------------------------------------------------------------------------------------------


def pack(target: Path, dump: Path, manifest: Manifest, key: Key | None) -> None:
    """Write the file of a backup. With a key, it needs additional disk space for the compressed dump."""
    raw = json.dumps(asdict(manifest), indent=2, ensure_ascii=False).encode()
    small = {_MANIFEST: raw, _SIGNATURE: key.sign(raw)} if key else {_MANIFEST: raw}
    plain = target.with_name(f"{target.name}.plain") if key else target
    # Unlike the default, this format has one header of 512 bytes for each member, however large that is.
    with tarfile.open(plain, "w:gz", compresslevel=6, format=tarfile.GNU_FORMAT) as archive:
        for name, content in small.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
        archive.add(dump, dump.name)
    if key:
        key.encrypt(plain, target)
        plain.unlink()


def unpack(path: Path, dump: Path, key: Key | None) -> Manifest:
    """Write the dump of a backup to the path `dump`, verify every byte, and return the manifest.

    Memory and time are limited for any file, unlike with `tarfile`, which reads names and headers of any size.

    Raises:
        BackupError: The file is not a backup, is damaged, or was not made with this key.
    """
    _require_key(path, key)
    plain = dump.with_name(f"{dump.name}.tar.gz") if key else path
    if key:
        key.decrypt(path, plain)
    try:
        with gzip.open(plain) as stream:
            manifest = _read_manifest(path, stream, key)
            _read_dump(path, stream, dump, plain.stat().st_size * _LARGEST_RATIO)
            # A tar ends with less than two records of zeros. The second read reaches the checksum of the compression.
            if stream.read(2 * tarfile.RECORDSIZE).strip(b"\0") or stream.read(1):
                raise ValueError("something follows its dump")
        if checksum(dump) != manifest.sha256:
            raise ValueError("its dump does not match its manifest")
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, ValueError, LookupError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise BackupError(f"{path} is damaged or not a backup ({reason}); use another backup") from error
    return manifest


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_key(path: Path, key: Key | None) -> None:
    """Reject a file that is encrypted with another key, or not encrypted although a key is set."""
    if path.exists() and not path.is_file():
        raise BackupError(f"{path} is not a file; name a file of a backup")
    with path.open("rb") as file:
        begin = file.read(_LARGEST_HEADER_BYTES)
    if begin.startswith(_OLD_MAGIC):
        raise BackupError(f"{path} was made by a release before 0.3; restore it with the image of that release")
    is_encrypted = begin.startswith(_MAGIC)
    if is_encrypted and not key:
        raise BackupError(f"{path} is encrypted; set BACKUP_KEY to the key that it was made with")
    if key and not is_encrypted:
        raise BackupError(f"{path} is not encrypted; unset BACKUP_KEY to restore it if you trust its origin")
    if is_encrypted and b"\n--- " not in begin:
        raise BackupError(f"{path} is damaged: its header has no end; use another backup")


def _next_member(stream: gzip.GzipFile, name: str) -> int:
    """Read the header of the next member, which must be a file with this name, and return its size."""
    member = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "replace")
    if member.name != name or member.type != tarfile.REGTYPE or member.size < 0:
        raise ValueError(f"{name} is missing")
    return member.size


def _read_small(stream: gzip.GzipFile, name: str) -> bytes:
    size = _next_member(stream, name)
    if size > _LARGEST_MANIFEST_BYTES:
        raise ValueError(f"its {name} is too large")
    padded = -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return stream.read(padded)[:size]


def _read_dump(path: Path, stream: gzip.GzipFile, dump: Path, largest_bytes: int) -> None:
    size, free = _next_member(stream, dump.name), shutil.disk_usage(dump.parent).free
    if size > largest_bytes:
        raise ValueError("its dump is cut off")
    if size > free:
        raise BackupError(f"{path} needs {size} bytes in {dump.parent}, which has {free}; free some space")
    with dump.open("wb") as target:
        for start in range(0, size, 1_048_576):
            target.write(stream.read(min(1_048_576, size - start)))


def _read_manifest(path: Path, stream: gzip.GzipFile, key: Key | None) -> Manifest:
    raw = _read_small(stream, _MANIFEST)
    if key and not hmac.compare_digest(_read_small(stream, _SIGNATURE), key.sign(raw)):
        raise BackupError(f"{path} is not signed with BACKUP_KEY, so anybody may have made it; use another backup")
    values = json.loads(raw)
    if not isinstance(values, dict) or not all(str(value).isprintable() for value in values.values()):
        raise ValueError("its manifest is invalid")
    if values["format"] != _FORMAT:
        raise BackupError(f"{path} has the format {values['format']}; restore it with a newer release")
    return TypeAdapter(Manifest).validate_python(values)


# -- folder ------------------------------------------------------------------------------------------------------------


def path_for(directory: Path, service: str, moment: datetime, *, is_encrypted: bool) -> Path:
    """Return the path of a backup: `orders-20260701T020000.000Z.tar.gz`, or `.tar.gz.age`, with its time in UTC."""
    name = f"{_plain(service)}-{moment.astimezone(UTC).strftime(_TIME)[:-3]}Z.tar.gz"
    return directory / (f"{name}.age" if is_encrypted else name)


def found(directory: Path, service: str) -> list[tuple[datetime, Path]]:
    """Return the backups of a service with their times, the newest first."""
    form = re.compile(re.escape(_plain(service)) + r"-(\d{8}T\d{6}\.\d{3})Z\.tar\.gz(\.age)?")
    named = [(form.fullmatch(path.name), path) for path in directory.glob("*.tar.gz*")]
    times = [(datetime.strptime(name[1], _TIME).replace(tzinfo=UTC), path) for name, path in named if name]
    return sorted(times, reverse=True)


@contextmanager
def work_folder(directory: Path, service: str) -> Iterator[Path]:
    """Create a folder for unencrypted data that only this user can read, and delete it afterwards."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = TemporaryDirectory(".part", f".{_plain(service)}-", directory, ignore_cleanup_errors=True)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}; use another path (got '{directory}')"
        raise BackupError(f"BACKUP_DIRECTORY: {problem}") from error
    with folder as name:
        yield Path(name)


def publish(part: Path, directory: Path, service: str, moment: datetime, *, is_encrypted: bool) -> Path:
    """Rename a complete file once it is on the disk, so that a partial file never looks like a backup.

    Two backups may begin in the same millisecond. The later one then gets the next name that is free.
    """
    part.chmod(0o600)
    _sync(part)
    while (path := path_for(directory, service, moment, is_encrypted=is_encrypted)).exists():
        moment += timedelta(milliseconds=1)
    part.rename(path)
    _sync(directory)
    return path


def prune(directory: Path, service: str, keep_count: int, keep_days: int, now: datetime, *, kept: Path | None) -> int:
    """Delete backups beyond a number or an age, but neither the newest nor `kept`. Return how many were deleted.

    If the clock was set back, the backup that was just made is not the newest. Incomplete files of killed commands are
    deleted after a day.
    """
    oldest = now - timedelta(days=keep_days)
    old = [(time, path) for time, path in found(directory, service)[1:] if path != kept]
    expired = [path for index, (time, path) in enumerate(old, 1) if index >= keep_count or time < oldest]
    for path in expired:
        path.unlink(missing_ok=True)
    for part in directory.glob(f".{_plain(service)}-*.part"):
        if part.stat().st_mtime < (now - timedelta(days=1)).timestamp():
            shutil.rmtree(part, ignore_errors=True)
    return len(expired)


def _plain(service: str) -> str:
    """Return a service's name in characters that every file system accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", service)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
