"""The files of backups, which do not depend on the database: names, age, and which of them `restore` rejects."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ..package import module, program
from .conftest import settings_for_tests
from .test_backup import KEY, Backup, backup, content, crew, database, encrypted, rejection, repack, restore

__all__ = ["crew", "database", "encrypted", "rejection"]  # fixtures

cli = module("chassis.cli")
archive = module("chassis.backup.archive")
make = module("chassis.backup.make")
BackupError = module("chassis.backup").BackupError

OTHER_KEY = archive.new_key()


# -- names and age -----------------------------------------------------------------------------------------------------


def test_backup_file_is_named_by_its_time_and_private(crew: Path) -> None:
    before = datetime.now(UTC)
    file = backup()
    ((moment, path),) = archive.found(crew, program().settings().service_name)
    assert path.name == file.name
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(crew.stat().st_mode) & 0o077 == 0


def test_backups_at_the_same_moment_have_different_names(crew: Path) -> None:
    """The clock of a machine may stand still for longer than a small backup takes."""
    moment = datetime(2026, 7, 1, 2, 0, tzinfo=UTC)
    settings = settings_for_tests(service_name="orders")
    made = [make.make(settings, Backup(), lambda: moment).path.name for _ in range(3)]
    assert [name.partition(".tar")[0] for name in made] == [f"orders-20260701T020000.00{n}Z" for n in range(3)]


def test_newest_backup_is_measured(crew: Path) -> None:
    """Alerts compare the time of the newest backup with the clock, and with 0, which means that there is none."""
    settings = module("chassis.settings").load(module("settings").Settings, _env_file=None)
    newest_backup = module("chassis.backup").newest_backup
    assert newest_backup(settings) == 0
    file = backup()
    assert f"{datetime.fromtimestamp(newest_backup(settings), UTC):%Y%m%dT%H%M%S}" in file.name
    file.unlink()
    assert newest_backup(settings) == 0
    settings.backup_directory.rmdir()
    settings.backup_directory.touch()
    assert newest_backup(settings) is None, "a folder that cannot be read"


def test_backup_into_an_unwritable_folder_fails(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence names the setting to change."""
    crew.write_text("in the way")
    assert cli.main(program(), ["backup"]) == 1
    problem = "BACKUP_DIRECTORY: cannot be written: File exists; use another path (got 'backups')"
    assert capsys.readouterr().err == f"The backup failed: {problem}\n"


@pytest.mark.parametrize(
    ("count", "days", "left"),
    [(3, 30, [0, 1, 2]), (30, 2, [0, 1, 2]), (1, 30, [0]), (1, 1, [0]), (30, 30, [0, 1, 2, 3, 4])],
)
def test_prune_deletes_by_number_and_age(folder: Path, count: int, days: int, left: list[int]) -> None:
    """Other files in the folder are not deleted."""
    now = datetime(2026, 7, 10, 2, 0, 1, tzinfo=UTC)
    moments = [now - timedelta(days=age) for age in range(5)]
    for number, moment in enumerate(moments):
        archive.path_for(folder, "demo", moment, is_encrypted=bool(number % 2)).touch()
    others = ["demo.tar.gz", "demo-2026.tar.gz", "demo-20260701T020000.000Z.tar.gz.copy", "notes.txt"]
    others += ["demo-20260701T020000.000Z.backup"]
    others += [archive.path_for(folder, name, moments[4], is_encrypted=True).name for name in ("demo-2", "other")]
    for name in others:
        (folder / name).touch()
    assert archive.prune(folder, "demo", count, days, now, kept=None) == 5 - len(left)
    assert [moments.index(moment) for moment, _ in archive.found(folder, "demo")] == left
    assert all((folder / name).exists() for name in others)


def test_prune_never_deletes_the_newest_backup(folder: Path) -> None:
    archive.path_for(folder, "demo", datetime(2020, 1, 1, tzinfo=UTC), is_encrypted=False).touch()
    assert archive.prune(folder, "demo", 1, 1, datetime.now(UTC), kept=None) == 0


def test_backup_after_the_clock_was_set_back_is_not_deleted(
    crew: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_KEEP_COUNT", "1")
    service, future = program().settings().service_name, datetime(2100, 1, 1, tzinfo=UTC)
    wrong = archive.path_for(crew, service, future, is_encrypted=True)
    crew.mkdir()
    wrong.touch()
    assert cli.main(program(), ["backup"]) == 0
    (file,) = set(crew.iterdir()) - {wrong}
    assert restore(file, "--replace") == 0


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
def test_restore_with_a_flipped_bit_is_rejected_or_the_same(
    crew: Path, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few bits of a compressed file are irrelevant to its content. Encryption protects these bits too."""
    monkeypatch.setenv("BACKUP_KEY", key)
    before, file = content(), backup()
    whole = file.read_bytes()
    places = [*range(0, len(whole), len(whole) // 20), len(whole) - 1]
    codes = []
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        codes.append(restore(file, "--replace"))
        if codes[-1] == 0 or place == places[-1]:
            assert content() == before
    assert codes.count(1) >= len(places) - (0 if key else 4)
    for line in capsys.readouterr().err.splitlines():
        assert "is damaged" in line or "is not encrypted" in line


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
def test_restore_rejects_a_truncated_file(
    rejection: Callable[..., str], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is empty, or is cut in its header, in the middle, or before its last byte."""
    monkeypatch.setenv("BACKUP_KEY", key)
    file = backup()
    whole = file.read_bytes()
    for length in (0, 50, len(whole) // 2, -1):
        file.write_bytes(whole[:length])
        assert "is damaged" in (error := rejection(file)) or "is not encrypted" in error


def test_restore_rejects_a_changed_manifest(rejection: Callable[..., str]) -> None:
    """The dump must match the checksum in the manifest."""
    file = backup()
    with gzip.open(file) as plain:
        changed = re.sub(rb'("sha256": "\w{63}).', rb"\1x", plain.read(), count=1)
    file.write_bytes(gzip.compress(changed))
    assert "is damaged" in rejection(file)


def test_restore_rejects_a_file_of_a_release_before_0_3(rejection: Callable[..., str], folder: Path) -> None:
    file = folder / "old.backup"
    file.write_text('{"format":"service-backup","version":1,"service":"demo"}\n')
    assert "was made by a release before 0.3; restore it with the image of that release" in rejection(file)


def test_restore_rejects_a_file_of_a_newer_format(rejection: Callable[..., str]) -> None:
    assert "has the format 2; restore it with a newer release" in rejection(repack(backup(), format=2))


def test_restore_rejects_a_backup_of_another_service(
    rejection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_NAME", "other")
    file = backup()
    monkeypatch.delenv("SERVICE_NAME")
    error = rejection(file)
    assert "is a backup of the service other, and this is" in error
    assert "to restore it here, run this with SERVICE_NAME=other" in error


def test_restore_of_a_missing_file_names_it(rejection: Callable[..., str]) -> None:
    assert "none.tar.gz does not exist here or in BACKUP_DIRECTORY (backups)" in rejection(Path("none.tar.gz"))


@pytest.mark.parametrize("make_one", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_restore_of_something_else_than_a_file_fails(
    folder: Path, make_one: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make_one(folder / "other")
    assert restore(folder / "other") == 1
    assert "other is not a file; name a file of a backup" in capsys.readouterr().err


# -- crafted files -----------------------------------------------------------------------------------------------------


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, content: bytes = b"") -> bytes:
    """Return a member of a tar, whose header may claim another size than its content has."""
    header = tarfile.TarInfo(name)
    header.size, header.type = size or len(content), kind
    return header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def described(**changes: Any) -> bytes:
    """Return a member with the manifest of an empty dump and some changes."""
    texts = dict.fromkeys(("service", "release", "created", "database", "revision", "tool", "server"), "x")
    values = {**texts, "tables": [], "sha256": sha256(b"").hexdigest(), "format": 1}
    return member("manifest.json", content=json.dumps(values | changes).encode())


DUMP = member(Backup.dump_name)
HUGE = 2**62
CRAFTED = {
    "no tar": b"x" * 600,
    "nothing": b"",
    "zeros": bytes(50_000_000),
    "other member first": member("../../etc/passwd", content=b"root") + described() + DUMP,
    "link": member("manifest.json", kind=tarfile.SYMTYPE) + DUMP,
    "long name": member("x", 50_000_000, tarfile.GNUTYPE_LONGNAME) + bytes(50_000_000),
    "extended header": member("x", 50_000_000, tarfile.XHDTYPE) + bytes(50_000_000),
    "many members": member("x") * 100_000,
    "huge manifest": member("manifest.json", 50_000_000) + bytes(50_000_000),
    "binary manifest": member("manifest.json", content=b"\xff\xfe"),
    "manifest is a list": member("manifest.json", content=b"[]"),
    "deep manifest": member("manifest.json", content=b"[" * 100_000),
    "long number": member("manifest.json", content=b'{"format":' + b"9" * 100_000 + b"}"),
    "manifest lacks a field": member("manifest.json", content=b'{"format": 1}'),
    "field of a wrong type": described(revision=["x"]) + DUMP,
    "escape sequence": described(service="\x1b[2J") + DUMP,
    "cut off dump": described() + member(Backup.dump_name, HUGE),
    "negative size": described() + member(Backup.dump_name, -1),
    "dump of another path": described() + member("../../database.sql"),
    "dump is a link": described() + member(Backup.dump_name, kind=tarfile.LNKTYPE),
    "dump is sparse": described() + member(Backup.dump_name, kind=tarfile.GNUTYPE_SPARSE),
    "wrong checksum": described(sha256="0") + DUMP,
    "something follows": described() + DUMP + b"x" * 600,
    "zeros follow": described() + DUMP + bytes(50_000_000),
}


@pytest.mark.parametrize("content", CRAFTED.values(), ids=CRAFTED.keys())
def test_crafted_file_is_rejected_in_little_memory(folder: Path, content: bytes) -> None:
    """`restore` neither follows links nor reads members as a whole, whatever sizes they claim or have."""
    file = folder / "crafted.tar.gz"
    file.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    try:
        with pytest.raises(
            BackupError, match=r"^[^\n]*is damaged or not a backup \([^\n\x1b]{1,200}\); use another backup$"
        ):
            archive.unpack(file, folder / Backup.dump_name, None)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert {path.name for path in folder.iterdir()} <= {file.name, Backup.dump_name}


def test_dump_that_is_larger_than_the_disk_is_rejected(folder: Path) -> None:
    """Its members are valid, so the error must not call the file damaged."""
    size = shutil.disk_usage(folder).free * 2
    file = folder / "large.tar.gz"
    file.write_bytes(gzip.compress(described() + member(Backup.dump_name, size)) + bytes(20))
    with file.open("r+b") as opened:
        opened.truncate(size // 1000)  # a sparse file
    with pytest.raises(BackupError, match=r"needs \d+ bytes in .*, which has \d+; free some space"):
        archive.unpack(file, folder / Backup.dump_name, None)


@pytest.mark.parametrize("body", [b"-> X25519 AAAA\n" * 100_000, (b"A" * 64 + b"\n") * 100_000], ids=["many", "long"])
def test_encrypted_file_with_an_endless_header_is_rejected_at_once(folder: Path, body: bytes) -> None:
    """The time in which age reads a header grows with the square of its size."""
    file = folder / "crafted.tar.gz.age"
    file.write_bytes(b"age-encryption.org/v1\n-> x\n" + body)
    with pytest.raises(BackupError, match="is damaged: its header has no end; use another backup"):
        archive.unpack(file, folder / Backup.dump_name, archive.Key(KEY))


# -- the key -----------------------------------------------------------------------------------------------------------


def test_restore_with_a_key_rejects_an_unencrypted_file(
    rejection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise anyone who can write to the backup folder could inject data."""
    file = backup()
    monkeypatch.setenv("BACKUP_KEY", KEY)
    assert "is not encrypted; unset BACKUP_KEY to restore it if you trust its origin" in rejection(file)


@pytest.mark.parametrize("signature", [None, b"0" * 64], ids=["unsigned", "badly signed"])
def test_restore_rejects_an_encrypted_file_without_the_right_signature(
    rejection: Callable[..., str], encrypted: None, signature: bytes | None
) -> None:
    """Anyone can encrypt a file for a public key."""
    key, plain = archive.Key(KEY), Path("plain")
    key.decrypt(backup(), plain)
    with tarfile.open(plain) as old, tarfile.open("forged", "w:gz") as forged:
        for member in old:
            body = old.extractfile(member)
            assert body
            text = body.read()
            if member.name == "manifest.hmac":
                if signature is None:
                    continue
                text = signature
            forged.addfile(member, io.BytesIO(text))
    key.encrypt(Path("forged"), Path("forged.age"))
    error = rejection(Path("forged.age"))
    assert ("manifest.hmac is missing" if signature is None else "is not signed with BACKUP_KEY") in error


@pytest.mark.parametrize(
    ("given", "sentence"), [("", "is encrypted; set BACKUP_KEY"), (OTHER_KEY, "another key")], ids=["none", "another"]
)
def test_restore_without_the_right_key_rejects_an_encrypted_file(
    rejection: Callable[..., str], encrypted: None, monkeypatch: pytest.MonkeyPatch, given: str, sentence: str
) -> None:
    file = backup()
    assert b"Ada" not in file.read_bytes()
    monkeypatch.setenv("BACKUP_KEY", given)
    error = rejection(file)
    assert sentence in error
    assert KEY not in error
    assert OTHER_KEY not in error


def test_new_key_is_accepted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command works without valid settings. A key may have the comments that `age-keygen` writes."""
    monkeypatch.setenv("BACKUP_KEY", "invalid")
    assert cli.main(program(), ["backup", "--new-key"]) == 0
    key = capsys.readouterr().out
    monkeypatch.setenv("BACKUP_KEY", f"# created: 2026-07-01T02:00:00Z\n# public key: age1\n{key}")
    assert cli.main(program(), ["check"]) == 0


@pytest.mark.parametrize("key", ["hunter2hunter2hunter2", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="])
def test_invalid_key_is_rejected_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """One of the keys is from a release before 0.3."""
    monkeypatch.setenv("BACKUP_KEY", key)
    assert cli.main(program(), ["check"]) == 78
    error = capsys.readouterr().err
    assert "BACKUP_KEY: is not an age identity; use a key that `backup --new-key` or `age-keygen` prints" in error
    assert key not in error
