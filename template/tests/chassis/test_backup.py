"""Backups: consistent while clients write, complete or absent, and restored only where nothing is lost."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from .. import servers
from ..package import PACKAGE, ROOT, environment, module, program
from .conftest import settings_for_tests
from .process import PATIENCE_SECONDS, until
from .sql import LACKS, backend, engine, rows, run, server, tables

cli = module("chassis.cli")
archive = module("chassis.backup.archive")
make = module("chassis.backup.make")
BackupError = module("chassis.backup").BackupError
Backup = module(f"chassis.backup.{backend.__name__.rpartition('.')[2]}").Backup

KEY = archive.new_key()
INSERT = "INSERT INTO captains (id, name, mentor_id) VALUES "
STORED = "computed and stored" not in LACKS
CIRCLE = () if "circles" in LACKS else ("UPDATE captains SET mentor_id = 3 WHERE id = 1",)
TOOLS = ("pg_dump", "pg_restore", "psql", "mariadb-dump", "mariadb", "mysqldump", "mysql")
needs_a_tool = pytest.mark.skipif(not server.DUMP_TOOL, reason="backups of this database need no program")

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
# The command `backup`, which pauses after the dump for longer than any test lasts.
SLOW = f"""
import runpy, sys, time
from {PACKAGE}.chassis.backup import archive
archive.pack = lambda *arguments: time.sleep(600)
sys.argv = ["{PACKAGE}", "backup"]
runpy.run_module("{PACKAGE}", run_name="__main__")
"""


@pytest.fixture
def database(folder: Path) -> Path:
    """Migrate an independent schema, and return the folder of the backups."""
    here = folder / "migrations"
    (here / "versions").mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        (here / name).write_text((ROOT / "migrations" / name).read_text())
    (here / "versions" / "0001_first.py").write_text(FIRST)
    assert cli.main(program(), ["migrate"]) == 0
    return folder / "backups"


@pytest.fixture
def crew(database: Path) -> Path:
    """Add rows that refer to one another, in a circle if the database allows it."""
    run(
        f"{INSERT} (1, 'Ada', NULL)", f"{INSERT} (2, 'Bo', 1)", f"{INSERT} (3, 'Cy', 2)",
        *CIRCLE, "INSERT INTO boats (id, captain_id) VALUES (7, 3)",
        "DELETE FROM ports WHERE name = 'Thorshavn'",
    )()  # fmt: skip
    return database


@pytest.fixture
def encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_KEY", KEY)


def made_by_migrate() -> set[str]:
    """Return the tables that `migrate` creates without a revision."""
    module("chassis.features")
    found = module("chassis.database.base").Base.metadata.tables.values()
    return {"alembic_version"} | {table.name for table in found if table.info.get("created_by_migrate")}


def backup(*options: str) -> Path:
    """Make a backup with the service's command, and return its file."""
    assert cli.main(program(), ["backup", *options]) == 0
    return newest()


def newest() -> Path:
    return max(Path("backups").glob("*.tar.gz*"))


def restore(file: Path, *options: str) -> int:
    code: int = cli.main(program(), ["restore", str(file), *options])
    return code


def content() -> dict[str, list[Any]]:
    """Return the rows of every table."""
    with engine() as opened, opened.connect() as connection:
        quoted = {name: opened.dialect.identifier_preparer.quote(name) for name in tables() - made_by_migrate()}
        return {
            name: sorted(tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")))
            for name, table in sorted(quoted.items())
        }


def drop_all() -> None:
    """Drop every table."""
    with engine() as opened:
        found = sa.MetaData()
        found.reflect(opened)
        found.drop_all(opened)
    assert not tables()


def repack(file: Path, key: str | None = None, *, dump: Callable[[bytes], bytes] = bytes, **changes: Any) -> Path:
    """Write a valid backup with another dump or manifest, signed with `key`, and return its path."""
    used = archive.Key(key) if key else None
    plain = Path(Backup.dump_name)
    manifest = archive.unpack(file, plain, used)
    plain.write_bytes(dump(plain.read_bytes()))
    changed = replace(manifest, sha256=archive.checksum(plain), **changes)
    archive.pack(Path("repacked"), plain, changed, used)
    return Path("repacked")


# -- restore -----------------------------------------------------------------------------------------------------------


def test_restore_into_an_empty_database_brings_back_every_row(crew: Path, encrypted: None) -> None:
    """The backup contains the schema, and rows that a migration inserts are not duplicated."""
    before, file = content(), backup()
    drop_all()
    assert restore(file) == 0
    assert content() == before
    assert [len(found) for found in before.values()] == [1, 3, 1]
    assert cli.main(program(), ["migrate"]) == 0, "the revision is the one of the backup"


def test_restore_deletes_rows_on_request_only(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, file = content(), backup()
    run("INSERT INTO captains (id, name) VALUES (9, 'Di')", "UPDATE captains SET name = 'Eve' WHERE id = 1")()
    changed = content()
    assert restore(file) == 1
    assert "the database holds rows; use --replace (REPLACE=yes)" in capsys.readouterr().err
    assert content() == changed
    assert restore(Path(file.name), "--replace") == 0, "a name alone is looked up in BACKUP_DIRECTORY"
    assert content() == before


def test_restore_of_an_older_schema_removes_newer_tables(crew: Path, folder: Path) -> None:
    """Afterwards the migrations that the backup lacks can be applied again."""
    before, file = content(), backup()
    (folder / "migrations" / "versions" / "0002_second.py").write_text(SECOND)
    assert cli.main(program(), ["migrate"]) == 0
    run("INSERT INTO later (id) VALUES (1)")()
    assert restore(file, "--replace") == 0
    assert content() == before
    assert cli.main(program(), ["migrate"]) == 0
    assert rows("SELECT count(*) FROM later") == [0]


def test_restore_continues_the_sequences_of_keys(database: Path) -> None:
    """A new row does not reuse the key of a restored one."""
    add = "INSERT INTO captains (name) VALUES ('{}')"
    run(add.format("Ada"), add.format("Bo"))()
    file = backup()
    drop_all()
    restore(file)
    run(add.format("Cy"))()
    assert len(set(rows("SELECT id FROM captains"))) == 3


@pytest.mark.filterwarnings("ignore:Dialect sqlite")
def test_restore_returns_values_of_every_type_unchanged(database: Path) -> None:
    kinds = sa.Table(
        "odd: \"names\" %s", sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("a text", sa.Text), sa.Column("order", sa.LargeBinary), sa.Column("c:d", sa.Numeric(20, 6)),
        sa.Column("double", sa.Double), sa.Column("flag", sa.Boolean),
        sa.Column("day", sa.Date), sa.Column("moment", module("chassis.database.types").UtcDateTime),
        sa.Column("uuid", sa.Uuid), sa.Column("json", sa.JSON), sa.Column("big", sa.BigInteger),
        sa.Column("time", sa.Time), sa.Column("computed", sa.BigInteger, sa.Computed("big - 1", persisted=STORED)),
    )  # fmt: skip
    moment = datetime(2026, 7, 1, 1, 30, 0, 123456, tzinfo=UTC)
    full = (
        0, "Ťhree 🚢\n\t\"'\\ \u2028", bytes(range(256)), Decimal("12345678.123456"), 0.1 + 0.2, True,
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


# -- one snapshot ------------------------------------------------------------------------------------------------------


def test_backup_while_clients_write_is_one_snapshot(database: Path) -> None:
    """Money moves between two accounts during the backups, but the sum is the same in each of them."""
    filler = sa.table("m_filler", sa.column("id"), sa.column("words"))
    for name in ("a_left", "z_right"):
        run(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")()
        run(*(f"INSERT INTO {name} VALUES ({number}, 1000)" for number in range(4)))()
    run("CREATE TABLE m_filler (id INTEGER PRIMARY KEY, words VARCHAR(1000))")()
    with engine() as opened, opened.begin() as connection:
        connection.execute(sa.insert(filler), [{"id": number, "words": f"{number}" * 150} for number in range(20_000)])
    with transfers() as done:
        until(lambda: len(done) > 20)
        made = []
        for _ in range(3):
            written = len(done)
            made.append(backup())
            until(lambda before=written: len(done) > before)  # type: ignore[misc]
    assert len(done) > 50
    for file in made:
        assert restore(file, "--replace") == 0
        assert sum(rows("SELECT balance FROM a_left") + rows("SELECT balance FROM z_right")) == 8000


@contextmanager
def transfers() -> Iterator[list[int]]:
    """Move money between two tables from two threads. The yielded list grows with each transfer."""
    done: list[int] = []
    stopping = threading.Event()

    def move(number: int) -> None:
        with engine() as opened:
            while not stopping.is_set():
                with opened.begin() as connection:
                    connection.execute(sa.text(f"UPDATE a_left SET balance = balance - 1 WHERE id = {number}"))
                    connection.execute(sa.text(f"UPDATE z_right SET balance = balance + 1 WHERE id = {number}"))
                done.append(number)
                stopping.wait(0.001)

    with ThreadPoolExecutor(2) as pool:
        moving = [pool.submit(move, number) for number in range(2)]
        try:
            yield done
        finally:
            stopping.set()
        for thread in moving:
            thread.result(PATIENCE_SECONDS)


def test_backups_at_once_run_one_after_another(crew: Path) -> None:
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda _: cli.main(program(), ["backup"]), range(5))) == [0] * 5
    assert len(list(crew.iterdir())) == 5


# -- rejected files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rejection(crew: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Restore an invalid file, and return the command's one-line error. The database must not change."""
    before = content()

    def reject(file: Path) -> str:
        capsys.readouterr()
        assert restore(file, "--replace") == 1
        printed = capsys.readouterr()
        assert content() == before
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("Nothing was restored: ")
        assert not list(Path("backups").glob(".*")), "no unencrypted dump is left"
        return printed.err

    return reject


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"database": "oracle"}, "is a backup of another database, oracle"),
        ({"revision": "0002"}, "has the schema 0002, which this release does not know; restore it with release"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_restore_rejects_a_backup_that_does_not_fit(
    rejection: Callable[..., str], changes: dict[str, Any], sentence: str
) -> None:
    assert sentence in rejection(repack(backup(), **changes))


def test_restore_that_fails_half_way_changes_nothing(rejection: Callable[..., str]) -> None:
    file = repack(backup(), dump=lambda whole: whole[:1000])
    assert rejection(file)


def test_restore_leaves_tables_of_another_application_alone(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = backup()
    drop_all()
    run("CREATE TABLE theirs (id INTEGER PRIMARY KEY)")()
    assert restore(file, "--replace") == 1
    assert "no migration of this service made; use an empty database" in capsys.readouterr().err
    assert tables() == {"theirs"}


# -- files -------------------------------------------------------------------------------------------------------------


def test_backup_of_a_database_without_schema_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a backup would be empty, but would look usable. A database in a file is not created."""
    assert cli.main(program(), ["backup"]) == 1
    failure = capsys.readouterr().err
    sentence = r"The backup failed: the database (has no schema yet|.+ does not exist); run `\S+ -m \w+ migrate`\n"
    assert re.fullmatch(sentence, failure)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert not list(folder.glob("backups/*"))


def test_backup_is_opened_by_age_and_tar(crew: Path, encrypted: None) -> None:
    """The data can be read without this release or any other."""
    if shutil.which("age") is None:
        pytest.skip("age is not installed")
    Path("key").write_text(KEY)
    done = subprocess.run(["age", "--decrypt", "--identity", "key", backup()], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as opened:
        assert opened.getnames() == ["manifest.json", "manifest.hmac", Backup.dump_name]
        body = opened.extractfile("manifest.json")
        assert body
        manifest = json.load(body)
    assert manifest["revision"] == "0001"
    assert set(manifest["tables"]) - made_by_migrate() == {"boats", "captains", "ports"}
    assert manifest["tool"]
    assert manifest["server"]


@pytest.mark.parametrize(("signum", "left"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_backup_that_is_stopped_half_way_leaves_no_backup(
    database: Path, folder: Path, signum: signal.Signals, left: int
) -> None:
    """Files that SIGKILL leaves behind are deleted after a day."""
    with subprocess.Popen([sys.executable, "-c", SLOW], cwd=folder, env=environment(folder)) as process:
        try:
            until(lambda: list(database.glob(f".*.part/{Backup.dump_name}")))
            process.send_signal(signum)
            assert process.wait(PATIENCE_SECONDS) in (-signal.SIGKILL, 128 + signal.SIGTERM)
        finally:
            process.kill()
    parts = list(database.iterdir())
    assert len(parts) == left
    for part in parts:
        assert part.name.endswith(".part")
        assert stat.S_IMODE(part.stat().st_mode) == 0o700
        os.utime(part, (0, 0))
    backup()
    assert len(list(database.iterdir())) == 1


# -- verification ------------------------------------------------------------------------------------------------------


def test_backup_verify_restores_into_a_scratch_database(
    crew: Path, encrypted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content()
    file = backup("--verify")
    assert f"{file}: restored into a scratch database in " in capsys.readouterr().out.splitlines()[-1]
    assert list(crew.iterdir()) == [crew / file.name]
    assert content() == before


def test_backup_verify_fails_for_a_backup_that_lacks_a_table(crew: Path) -> None:
    file = repack(backup(), tables=["boats", "captains", "ports", "sails"])
    with pytest.raises(BackupError, match="was restored with the tables"):
        make.verify(file, settings_for_tests(service_name=program().settings().service_name), Backup())


def test_backup_verify_overwrites_only_a_database_that_is_named_for_it(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content()
    monkeypatch.setenv("BACKUP_VERIFY_DATABASE_URL", os.environ["DATABASE_URL"])
    assert cli.main(program(), ["backup", "--verify"]) == 1
    assert "BACKUP_VERIFY_DATABASE_URL: `verify` is not in the name" in capsys.readouterr().err
    assert content() == before


def test_check_with_an_invalid_backup_verify_database_url_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_VERIFY_DATABASE_URL", "hunter2")
    assert cli.main(program(), ["check"]) == 78
    said = capsys.readouterr().err
    assert "BACKUP_VERIFY_DATABASE_URL: is not a URL of this database; use the form " in said
    assert "hunter2" not in said


# -- programs of the database ------------------------------------------------------------------------------------------


@needs_a_tool
def test_backup_without_its_tool_names_the_package(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(crew))
    assert cli.main(program(), ["backup"]) == 69
    error = capsys.readouterr().err
    # mariadb-dump works with MySQL too, and only its package is in Debian.
    named = server.DUMP_TOOL.replace("mysqldump", "mariadb-dump")
    assert error.startswith(f"The backup failed: {named} is not installed; install ")
    assert error.count("\n") == 1


@needs_a_tool
@pytest.mark.parametrize("command", [["backup"], ["restore", "--replace"]], ids=["backup", "restore"])
def test_command_with_a_tool_older_than_the_server_fails(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    file = backup()
    before = content()
    version = {
        "pg_dump": "(PostgreSQL) 9.6.24",
        "mariadb-dump": "Ver 10.19 Distrib 5.5.68-MariaDB",
        "mysqldump": "Ver 5.7.44 for Linux",
    }[server.DUMP_TOOL]
    for name in TOOLS:
        write_program(name, f'echo "{name} {version}"')
    monkeypatch.setenv("PATH", f"{Path.cwd() / 'bin'}:{os.environ['PATH']}")
    assert cli.main(program(), [*command, str(file)] if "restore" in command else command) == 69
    assert " is older than the server, " in capsys.readouterr().err
    assert content() == before


@needs_a_tool
def test_password_reaches_the_tools_and_is_not_shown(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not passed as an argument, because every user of a machine can list those. No error shows it."""
    if servers.GIVEN_URL:
        pytest.skip("a server that was given is not for users of the tests")
    password = "p\"w' \\n#;%$:@/&?"
    server.create_user("deckhand", password)
    url = sa.make_url(os.environ["DATABASE_URL"]).set(username="deckhand", password=password)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    here = Path.cwd()
    for name in filter(shutil.which, TOOLS):
        seen = f'{{ printf "%s " "$PGPASSWORD"; cat "${{1#--defaults-file=}}"; }} >> {here}/seen 2>/dev/null'
        write_program(name, f'echo "$@" >> {here}/arguments; {seen}; exec {shutil.which(name)} "$@"')
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.environ['PATH']}")
    assert restore(backup(), "--replace") == 0
    assert len(Path("arguments").read_text().splitlines()) >= 4
    assert "#;%" not in Path("arguments").read_text()
    assert "#;%" in Path("seen").read_text()
    quoted = password.replace("\\", "\\\\").replace("'", "'\\''")
    write_program(server.DUMP_TOOL, f"test \"$1\" = --version || {{ echo 'error: {quoted}' >&2; exit 1; }}")
    assert cli.main(program(), ["backup"]) == 1
    assert capsys.readouterr().err == f"The backup failed: {server.DUMP_TOOL} failed: error: ********\n"


@needs_a_tool
def test_tool_that_hangs_is_ended(
    crew: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(server.DUMP_TOOL, 'test "$1" = --version || exec sleep 600')
    monkeypatch.setenv("PATH", f"{Path.cwd() / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("BACKUP_TIMEOUT_SECONDS", "1")
    assert cli.main(program(), ["backup"]) == 1
    assert f"{server.DUMP_TOOL} took longer than BACKUP_TIMEOUT_SECONDS, 1 s" in capsys.readouterr().err
    assert list(crew.iterdir()) == []


def write_program(name: str, script: str) -> None:
    path = Path("bin") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
