"""Backups: of one moment while the service writes, whole or not at all, and never brought back to where they harm."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from ..package import PACKAGE, ROOT, environment, module, program
from .process import PATIENCE_SECONDS, Process, until
from .sql import LACKS, engine, rows, run, tables

cli = module("chassis.cli")
archive = module("chassis.database.backup.archive")
dump = module("chassis.database.backup.dump")
files = module("chassis.database.backup.files")
schedule = module("chassis.database.backup.schedule")
values = module("chassis.database.backup.values")
BackupError = module("chassis.database.backup").BackupError

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()
TREE = "INSERT INTO captains (id, name, mentor_id) VALUES "
STORED = "computed and stored" not in LACKS
CIRCLE = () if "circles" in LACKS else ("UPDATE captains SET mentor_id = 3 WHERE id = 1",)

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade():
    op.create_table(
        "captains",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("name", sa.String(50)),
        sa.Column("mentor_id", sa.BigInteger(), sa.ForeignKey("captains.id")),
    )
    op.create_table(
        "boats",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("captain_id", sa.BigInteger(), sa.ForeignKey("captains.id"), nullable=False),
    )
    ports = op.create_table(
        "ports",
        sa.Column("id", sa.Integer(), IDENTITY primary_key=True),
        sa.Column("name", sa.String(50)),
    )
    op.bulk_insert(ports, [{"name": "Reykjavik"}, {"name": "Thorshavn"}])
def downgrade():
    for name in ("boats", "captains", "ports"):
        op.drop_table(name)
""".replace("IDENTITY", "" if "identity" in LACKS else "sa.Identity(always=True),")
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
def downgrade():
    op.drop_table("later")
"""
# The command, which stops for longer than any test lasts after the first row.
HALF = f"""
import runpy, sys, time
from {PACKAGE}.chassis.database.backup import dump
def half(*arguments, rows=dump._rows):
    for row in rows(*arguments):
        yield row
        time.sleep(600)
dump._rows = half
sys.argv = ["{PACKAGE}", "backup"]
runpy.run_module("{PACKAGE}", run_name="__main__")
"""


@pytest.fixture
def database(folder: Path) -> Path:
    """A migrated database with a schema of the test's own; gives the folder of its backups."""
    here = folder / "migrations"
    (here / "versions").mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        (here / name).write_text((ROOT / "migrations" / name).read_text())
    (here / "versions" / "0001_first.py").write_text(FIRST)
    assert cli.main(program(), ["migrate"]) == 0
    return folder / "backups"


@pytest.fixture
def crew(database: Path) -> Path:
    """The database with rows that point to one another, where it can hold that in a circle."""
    run(
        f"{TREE} (1, 'Ada', NULL)", f"{TREE} (2, 'Bo', 1)", f"{TREE} (3, 'Cy', 2)",
        *CIRCLE, "INSERT INTO boats (id, captain_id) VALUES (7, 3)",
        "DELETE FROM ports WHERE name = 'Thorshavn'",
    )()  # fmt: skip
    return database


def backup() -> Path:
    """Make a backup with the service's command, and return its file."""
    assert cli.main(program(), ["backup"]) == 0
    return newest()


def newest() -> Path:
    return max(Path("backups").glob("*.backup"))


def restore(file: Path, *options: str) -> int:
    code: int = cli.main(program(), ["restore", str(file), *options])
    return code


def content() -> dict[str, list[Any]]:
    """Return every row there is, by table."""
    with engine() as opened, opened.connect() as connection:
        quoted = {name: opened.dialect.identifier_preparer.quote(name) for name in tables() - {"alembic_version"}}
        return {
            name: sorted(tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")))
            for name, table in sorted(quoted.items())
        }


def destroy() -> None:
    """Lose every table there is."""
    with engine() as opened:
        found = sa.MetaData()
        found.reflect(opened)
        found.drop_all(opened)
    assert not tables()


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
def test_what_was_destroyed_comes_back(crew: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row, with its schema, into an empty database; what a migration puts there itself does not come twice."""
    monkeypatch.setenv("BACKUP_KEY", key)
    before, file = content(), backup()
    destroy()
    assert restore(file) == 0
    assert content() == before
    assert [len(found) for found in before.values()] == [1, 3, 1]


def test_rows_are_replaced_on_request_only(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the word nothing is changed, with it nothing of the rows from before is left."""
    before, file = content(), backup()
    run("INSERT INTO captains (id, name) VALUES (9, 'Di')", "UPDATE captains SET name = 'Eve' WHERE id = 1")()
    changed = content()
    assert restore(file) == 1
    assert "--replace" in capsys.readouterr().err
    assert content() == changed
    assert restore(Path(file.name), "--replace") == 0, "a name alone is looked for in BACKUP_DIRECTORY"
    assert content() == before


def test_new_keys_go_on_after_the_restored_ones(crew: Path) -> None:
    """No row that is made afterwards meets the key of one that was brought back."""
    file = backup()
    destroy()
    restore(file)
    run("INSERT INTO captains (name) VALUES ('Fay')")()
    assert rows("SELECT id FROM captains WHERE name = 'Fay'") == [4]


@pytest.mark.filterwarnings("ignore:Dialect sqlite")
def test_every_type_comes_back_as_it_was(database: Path) -> None:
    """To the last digit, byte and letter."""
    kinds = sa.Table(
        "odd: \"names\" %s", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("a text", sa.Text), sa.Column("order", sa.LargeBinary), sa.Column("c:d", sa.Numeric(20, 6)),
        sa.Column("double", sa.Double), sa.Column("float", sa.Float), sa.Column("flag", sa.Boolean),
        sa.Column("day", sa.Date), sa.Column("moment", module("chassis.database.types").UtcDateTime),
        sa.Column("uuid", sa.Uuid), sa.Column("json", sa.JSON), sa.Column("big", sa.BigInteger),
        sa.Column("time", sa.Time), sa.Column("worked_out", sa.BigInteger, sa.Computed("big - 1", persisted=STORED)),
    )  # fmt: skip
    moment = datetime(2026, 7, 1, 1, 30, 0, 123456, tzinfo=UTC)
    full = (
        0, "Ťhree 🚢\n\t\"'\\ \u2028", bytes(range(256)), Decimal("12345678.123456"), 0.1 + 0.2, 16777217.0, True,
        date(1, 1, 1), moment, UUID(int=7), {"a": [1.5, None, "é"]}, 2**63 - 1, time_of_day(23, 59, 58),
    )  # fmt: skip
    names = [column.name for column in kinds.columns if column.computed is None]
    with engine() as opened, opened.begin() as connection:
        kinds.create(connection)
        connection.execute(sa.insert(kinds).values(dict(zip(names, full, strict=True))))
        connection.execute(sa.insert(kinds).values(id=1, double=1e308))
        before = connection.execute(sa.select(kinds).order_by(kinds.c.id)).all()
    file = backup()
    run("DELETE FROM ports")()
    with engine() as opened, opened.begin() as connection:
        connection.execute(sa.delete(kinds))
    assert restore(file) == 0
    with engine() as opened, opened.begin() as connection:
        assert connection.execute(sa.select(kinds).order_by(kinds.c.id)).all() == before


@pytest.mark.parametrize(
    "value",
    [
        2**80, 1.5, float("inf"), True, None, "text", b"\x00\xff", Decimal("1.10"), UUID(int=1), date(2026, 1, 2),
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC), time_of_day(1, 2), timedelta(days=-1, seconds=5, microseconds=7),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_of_a_driver_is_kept(value: Any) -> None:
    """With its type."""
    again = values.unpack(values.pack(value))
    assert (again, type(again)) == (value, type(value))


def test_a_value_that_cannot_be_kept_is_refused(database: Path) -> None:
    """There is no backup rather than one that lies."""
    with pytest.raises(BackupError, match="a value of the type complex"):
        values.pack(1j)


# -- one moment --------------------------------------------------------------------------------------------------------


def test_a_backup_is_of_one_moment_while_the_service_writes(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money goes from one account to another all the time; in the backup there is always as much of it."""
    filler = sa.table("m_filler", sa.column("id"), sa.column("words"))
    for name in ("a_left", "z_right"):
        run(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")()
        run(*(f"INSERT INTO {name} VALUES ({number}, 1000)" for number in range(4)))()
    run("CREATE TABLE m_filler (id INTEGER PRIMARY KEY, words VARCHAR(100))")()
    with engine() as opened, opened.begin() as connection:
        connection.execute(sa.insert(filler), [{"id": number, "words": f"{number} words"} for number in range(20_000)])
    with transfers() as done:
        until(lambda: len(done) > 20)
        rows_of, written = dump._rows, len(done)

        def meanwhile(*arguments: Any) -> Iterator[Any]:
            """Go on half-way, when more was written since what stands before was read."""
            found = rows_of(*arguments)
            yield from islice(found, 10_000)
            seen = len(done)
            until(lambda: len(done) > seen + 3)
            yield from found

        with monkeypatch.context() as patch:
            patch.setattr(dump, "_rows", meanwhile)
            file = backup()
        until(lambda: len(done) > written + 50)
    balances = [int(row[1]) for table, row in archive.Archive(file).rows(None) if table in ("a_left", "z_right")]
    assert sum(balances) == 8000
    assert restore(file, "--replace") == 0
    assert sum(rows("SELECT balance FROM a_left") + rows("SELECT balance FROM z_right")) == 8000


@contextmanager
def transfers() -> Iterator[list[int]]:
    """Move money between two tables from two threads; what is yielded grows with each move."""
    done: list[int] = []
    enough = threading.Event()

    def move(number: int) -> None:
        with engine() as opened:
            while not enough.is_set():
                with opened.begin() as connection:
                    connection.execute(sa.text(f"UPDATE a_left SET balance = balance - 1 WHERE id = {number}"))
                    connection.execute(sa.text(f"UPDATE z_right SET balance = balance + 1 WHERE id = {number}"))
                done.append(number)
                enough.wait(0.001)

    with ThreadPoolExecutor(2) as pool:
        moving = [pool.submit(move, number) for number in range(2)]
        try:
            yield done
        finally:
            enough.set()
        for thread in moving:
            thread.result(PATIENCE_SECONDS)


def test_backups_and_migrations_wait_for_one_another(crew: Path) -> None:
    """Ten at once are ten backups, one after the other."""
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: cli.main(program(), ["backup"]), range(10))) == [0] * 10
    assert len(list(crew.iterdir())) == 10


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(crew: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Restore a file that is not fit for it, even on request; return the sentence, and see that nothing was changed."""
    before = content()

    def refuse(file: Path) -> str:
        capsys.readouterr()
        assert restore(file, "--replace") == 1
        said = capsys.readouterr()
        assert content() == before
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith("Nothing was restored: ")
        return said.err

    return refuse


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
def test_a_flipped_bit_is_refused(refused: Callable[..., str], key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is: in the first line, in the rows, in the sum."""
    monkeypatch.setenv("BACKUP_KEY", key)
    file = backup()
    whole = file.read_bytes()
    places = [*range(0, len(whole), len(whole) // 40), len(whole) - 1]
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "damaged" in (said := refused(file)) or "no backup" in said


@pytest.mark.parametrize("length", [0, 1, 50, -65, -1])
def test_a_truncated_file_is_refused(refused: Callable[..., str], length: int) -> None:
    """However much of it is there."""
    file = backup()
    file.write_bytes(file.read_bytes()[:length])
    assert "damaged" in (said := refused(file)) or "no backup" in said


def test_a_part_that_was_put_together_again_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write a new sum, but has not the key, cannot take rows away from an encrypted backup."""
    monkeypatch.setenv("BACKUP_KEY", KEY)
    body = backup().read_bytes()[:-65]
    line = body.index(b"\n") + 1
    for forged in (body[:-20], body[:line], body[:line] + body[line + 1 :], body.replace(b'"boats"', b'"goats"')):
        assert forged != body
        newest().write_bytes(forged + hashlib.sha256(forged).hexdigest().encode() + b"\n")
        assert "another key" in refused(newest())


def test_an_encrypted_stream_that_ends_early_is_refused(database: Path) -> None:
    """At the end of a chunk, too."""
    encryption = module("chassis.database.backup.encryption")
    key, salt = bytes(32), bytes(32)
    stream = b"".join(encryption.encrypted([bytes(200_000)], key, salt, b"header"))
    assert b"".join(encryption.decrypted([stream], key, salt, b"header")) == bytes(200_000)
    chunk = 65_536 + 16
    for cut in (stream[:chunk], stream[: 2 * chunk], stream[chunk:], stream[:chunk] + stream[2 * chunk :]):
        with pytest.raises(BackupError):
            b"".join(encryption.decrypted([cut], key, salt, b"header"))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b'{"format":"service-backup","version":2,"a":1}\n', b"{}\n"])
def test_a_foreign_file_is_refused(refused: Callable[..., str], folder: Path, content: bytes) -> None:
    """An empty one, another program's, one of a form that is not known yet."""
    (folder / "foreign").write_bytes(content)
    assert "no backup of a service" in refused(folder / "foreign")


def test_a_backup_of_another_kind_of_database_is_refused(refused: Callable[..., str], folder: Path) -> None:
    """What one database writes another may read as something else."""
    header = archive.Archive(backup()).header
    with (folder / "other.backup").open("wb") as file:
        archive.write(file, dataclasses.replace(header, database="abacus"), [], None)
    assert "is of another database: abacus" in refused(folder / "other.backup")


def test_a_backup_with_a_table_that_no_migration_makes_is_refused(refused: Callable[..., str], folder: Path) -> None:
    """It is named."""
    header = archive.Archive(backup()).header
    for given, sentence in (
        ({"sails": ["id"]}, "a table sails"),
        ({"ports": ["id"]}, "ports of the backup has other"),
    ):
        with (folder / "other.backup").open("wb") as file:
            archive.write(file, dataclasses.replace(header, tables=given), [], None)
        assert sentence in refused(folder / "other.backup")


def test_a_file_that_is_not_there_is_refused(refused: Callable[..., str], folder: Path) -> None:
    """By its name."""
    assert "none.backup" in refused(folder / "none.backup")


def test_a_backup_of_another_service_is_refused(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are named."""
    monkeypatch.setenv("SERVICE_NAME", "other")
    file = backup()
    monkeypatch.delenv("SERVICE_NAME")
    assert "is a backup of other, and this is" in refused(file)


@pytest.mark.parametrize(("given", "sentence"), [("", "is encrypted; set BACKUP_KEY"), (OTHER_KEY, "another key")])
def test_without_its_key_an_encrypted_backup_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, given: str, sentence: str
) -> None:
    """And nothing of a row can be read in it."""
    monkeypatch.setenv("BACKUP_KEY", KEY)
    file = backup()
    assert b"Ada" not in file.read_bytes()
    monkeypatch.setenv("BACKUP_KEY", given)
    said = refused(file)
    assert sentence in said
    assert KEY not in said
    assert OTHER_KEY not in said


def test_a_backup_of_another_schema_is_refused(refused: Callable[..., str], folder: Path) -> None:
    """What to do is said; an empty database gets the schema of the backup, whatever is the newest."""
    file, before = backup(), content()
    (folder / "migrations" / "versions" / "0002_second.py").write_text(SECOND)
    assert cli.main(program(), ["migrate"]) == 0
    assert restore(file, "--replace") == 1
    destroy()
    assert restore(file) == 0
    assert content() == before
    assert cli.main(program(), ["migrate"]) == 0
    later = backup()
    destroy()
    (folder / "migrations" / "versions" / "0002_second.py").unlink()
    assert restore(later) == 1
    assert not tables()
    assert restore(file) == 0
    assert "the schema 0002, and the database of 0001" in refused(later)


def test_a_restore_that_fails_half_way_changes_nothing(refused: Callable[..., str]) -> None:
    """All of it is one transaction: the rows that were there are there again."""
    run("UPDATE captains SET name = 'Ada'")()
    file = backup()
    run("UPDATE captains SET name = 'Bo' WHERE id = 2", "UPDATE captains SET name = 'Cy' WHERE id = 3")()
    run("CREATE UNIQUE INDEX one_name ON captains (name)")()
    assert "the database refuses" in refused(file)


def test_a_database_without_a_schema_is_not_backed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty backup would look like one that can be used."""
    assert cli.main(program(), ["backup"]) == 1
    assert "run migrate" in capsys.readouterr().err
    assert not list(folder.glob("backups/*"))


def test_a_database_with_tables_of_no_revision_is_left_alone(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be somebody else's."""
    file = backup()
    destroy()
    run("CREATE TABLE theirs (id INTEGER PRIMARY KEY)")()
    assert restore(file, "--replace") == 1
    assert "take an empty one" in capsys.readouterr().err
    assert tables() == {"theirs"}


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_backup_is_named_by_its_time_and_its_owner_s_alone(crew: Path) -> None:
    """The time is in UTC, and the first line says in plain text what the file is."""
    before = datetime.now(UTC)
    file = backup()
    ((moment, path),) = files.found(crew, program().settings().service_name)
    assert path.name == file.name
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes().startswith(b'{"format":"service-backup","version":1,"service":')


@pytest.mark.parametrize(("signum", "left"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_what_is_half_written_is_no_backup(database: Path, folder: Path, signum: signal.Signals, left: int) -> None:
    """A process that is killed leaves a file that no one takes for a backup; one that is told to end leaves none."""
    with subprocess.Popen([sys.executable, "-c", HALF], cwd=folder, env=environment(folder)) as process:
        try:
            until(lambda: list(database.glob(".*.part")))
            process.send_signal(signum)
            assert process.wait(PATIENCE_SECONDS) in (-signal.SIGKILL, 128 + signal.SIGTERM)
        finally:
            process.kill()
    assert not list(database.glob("*.backup"))
    parts = list(database.glob(".*"))
    assert len(parts) == left
    for part in parts:
        os.utime(part, (0, 0))
    backup()
    assert len(list(database.iterdir())) == 1, "what was left is cleared away in time"


def test_a_folder_that_cannot_be_written_is_said(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence, with exit code 1."""
    crew.write_text("in the way")
    assert cli.main(program(), ["backup"]) == 1
    assert capsys.readouterr().err.startswith("The backup was not made: ")


@pytest.mark.parametrize(
    ("count", "days", "kept"),
    [(3, 30, [0, 1, 2]), (30, 2, [0, 1, 2]), (1, 30, [0]), (1, 1, [0]), (30, 30, [0, 1, 2, 3, 4])],
)
def test_backups_are_kept_by_number_and_age(folder: Path, count: int, days: int, kept: list[int]) -> None:
    """The newest so many, none older than so many days; nothing else in the folder is touched."""
    now = datetime(2026, 7, 10, 2, 0, 1, tzinfo=UTC)
    moments = [now - timedelta(days=age) for age in range(5)]
    for moment in moments:
        files.path_for(folder, "demo", moment).touch()
    others = ["demo.backup", "demo-2026.backup", "demo-20260701T020000.000Z.backup.copy", "notes.txt", "a-b.backup"]
    others += [files.path_for(folder, name, moments[4]).name for name in ("demo-2", "other")]
    for name in others:
        (folder / name).touch()
    files.prune(folder, "demo", count, days, now)
    assert [moments.index(moment) for moment, _ in files.found(folder, "demo")] == kept
    assert all((folder / name).exists() for name in others)


def test_the_newest_backup_is_never_deleted(folder: Path) -> None:
    """However old it is."""
    files.path_for(folder, "demo", datetime(2020, 1, 1, tzinfo=UTC)).touch()
    assert files.prune(folder, "demo", 1, 1, datetime.now(UTC)) == []


# -- the schedule ------------------------------------------------------------------------------------------------------


TWO = time_of_day(2, 0)


@pytest.mark.parametrize(
    ("newest", "due"),
    [
        (None, None),
        ("2026-07-10T01:59:59", "2026-07-10T02:00:00"),
        ("2026-07-10T02:00:00", "2026-07-11T02:00:00"),
        ("2026-07-10T13:00:00", "2026-07-11T02:00:00"),
        ("2026-12-31T23:00:00", "2027-01-01T02:00:00"),
    ],
)
def test_a_backup_is_due_once_a_day(newest: str | None, due: str | None) -> None:
    """At its time in UTC; at once where there is none."""
    moments = [datetime.fromisoformat(f"{text}+00:00") if text else None for text in (newest, due)]
    assert schedule.due(moments[0], TWO) == moments[1]


class EndError(Exception):
    """The end of a test's time."""


def test_the_schedule_makes_one_a_day_and_tries_again() -> None:
    """What was missed is made up for, what fails is tried again, and a clock that jumps does no harm."""
    now = [datetime(2026, 7, 10, 12, 0, tzinfo=UTC)]
    made = [datetime(2026, 7, 8, 2, 0, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)]
    tries: list[str] = []

    def make() -> None:
        tries.append(f"{now[0]:%d %H:%M}")
        if len(tries) == 2:
            raise BackupError("the disk is full")
        made.insert(0, now[0])

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= schedule.RETRY_SECONDS
        now[0] += timedelta(seconds=seconds)
        if now[0].day == 13:
            raise EndError

    with pytest.raises(EndError):
        schedule.daily(make, lambda: made, TWO, clock=lambda: now[0], sleep=sleep)
    assert tries == ["10 12:00", "11 02:00", "11 02:05", "12 02:00"]


def test_the_scheduled_process_makes_the_first_at_once_and_ends_when_told(crew: Path, folder: Path) -> None:
    """It logs as the service does, and SIGTERM ends it at once with exit code 0."""
    in_half_a_day = datetime.now(UTC) + timedelta(hours=12)
    process = Process(folder, PACKAGE, "backup", "--daily-at", f"{in_half_a_day:%H:%M}", BACKUP_KEY=KEY)
    try:
        until(lambda: process.events("backup_scheduled"))
        process.send(signal.SIGTERM)
        began = time.monotonic()
        assert process.exit_code() == 0
        assert time.monotonic() - began < 30
    finally:
        process.popen.kill()
    (made,) = process.events("backup_made")
    assert made["rows"] == 5
    assert made["size_bytes"] == newest().stat().st_size
    assert KEY not in str(process.lines) + process.stderr
    assert process.stderr == ""


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is done."""
    with pytest.raises(SystemExit):
        cli.main(program(), ["backup", "--daily-at", "26:00"])
    assert "no time such as 02:00" in capsys.readouterr().err


def test_a_key_that_is_none_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pass phrase is not enough: it says how to make a key."""
    monkeypatch.setenv("BACKUP_KEY", "hunter2hunter2hunter2")
    assert cli.main(program(), ["check"]) == 78
    said = capsys.readouterr().err
    assert "BACKUP_KEY: is not 32 bytes in base64; make one with `openssl rand -base64 32`" in said
    assert "hunter2" not in said
