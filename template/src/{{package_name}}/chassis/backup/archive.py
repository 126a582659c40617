"""The file of a backup: a compressed tar, which is encrypted with age (https://age-encryption.org) if there is a key.

It holds `manifest.json`, the signature of that file, and the dump. `age` and `tar` open it without this code.
The signature proves the origin of a backup. Encryption alone does not, because anyone can encrypt for a public key.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyrage  # type: ignore[import-untyped]

from . import BackupError

_FORMAT = 1
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.hmac"
_MAGIC = b"age-encryption.org/"
# The first bytes of a backup by a release before 0.3.
_OLD_MAGIC = b'{"format":"service-backup"'


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


def pack(target: Path, dump: Path, manifest: Manifest, key: Key | None) -> None:
    """Write the file of a backup. With a key, it needs additional disk space for the compressed dump."""
    raw = json.dumps(asdict(manifest), indent=2, ensure_ascii=False).encode()
    plain = target.with_name(f"{target.name}.plain") if key else target
    with tarfile.open(plain, "w:gz", compresslevel=6) as archive:
        _add(archive, _MANIFEST, raw)
        if key:
            _add(archive, _SIGNATURE, key.sign(raw))
        archive.add(dump, dump.name)
    if key:
        key.encrypt(plain, target)
        plain.unlink()


def unpack(path: Path, dump: Path, key: Key | None) -> Manifest:
    """Write the dump of a backup to the path `dump`, verify every byte, and return the manifest.

    Raises:
        BackupError: The file is not a backup, is damaged, or was not made with this key.
    """
    with path.open("rb") as file:
        _require_key(path, file.read(len(_OLD_MAGIC)), key)
    plain = dump.with_name(f"{dump.name}.tar.gz") if key else path
    small: dict[str, bytes] = {}
    manifest = None
    if key:
        key.decrypt(path, plain)
    with _damage_reported(path):
        with gzip.open(plain) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member) or io.BytesIO()
                if member.name.startswith("database."):
                    manifest = _verified_manifest(path, small, key)
                    with dump.open("wb") as target:
                        shutil.copyfileobj(content, target, 1_048_576)
                else:
                    small[member.name] = content.read()
            stream.read()  # read to the end, because the checksum of the compression is there
        if manifest is None or checksum(dump) != manifest.sha256:
            raise ValueError("its dump does not match its manifest")
    return manifest


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_key(path: Path, begin: bytes, key: Key | None) -> None:
    """Reject a file that is encrypted with another key, or not encrypted although a key is set."""
    if begin == _OLD_MAGIC:
        raise BackupError(f"{path} was made by a release before 0.3; restore it with the image of that release")
    is_encrypted = begin.startswith(_MAGIC)
    if is_encrypted and not key:
        raise BackupError(f"{path} is encrypted; set BACKUP_KEY to the key that it was made with")
    if key and not is_encrypted:
        raise BackupError(f"{path} is not encrypted; unset BACKUP_KEY to restore it if you trust its origin")


def _verified_manifest(path: Path, members: dict[str, bytes], key: Key | None) -> Manifest:
    raw = members[_MANIFEST]
    if key and not hmac.compare_digest(members.get(_SIGNATURE, b""), key.sign(raw)):
        raise BackupError(f"{path} is not signed with BACKUP_KEY, so anybody may have made it; use another backup")
    values = json.loads(raw)
    if values["format"] != _FORMAT:
        raise BackupError(f"{path} has the format {values['format']}; restore it with a newer release")
    return Manifest(**values)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Convert the libraries' different errors for a damaged file into a BackupError with one sentence."""
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, LookupError, OSError, TypeError, ValueError) as error:
        raise BackupError(f"{path} is damaged or not a backup ({error}); use another backup") from error
