"""MySQL (https://dev.mysql.com/doc/) and MariaDB (https://mariadb.com/kb/), with PyMySQL or aiomysql.

Neither driver has an option for TCP keepalive or for a read timeout that changes. This file therefore uses private
names: `_sock` and `_read_timeout` of PyMySQL, `_reader` and `_writer` of aiomysql. `pyproject.toml` has an upper bound
for both drivers, and `test_mysql.py` fails if one of the names disappears.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

import pymysql  # type: ignore[import-untyped]
from pymysql.constants import CR  # type: ignore[import-untyped]
from sqlalchemy import URL, Connection, DateTime, Engine, text
from sqlalchemy.ext.compiler import compiles

from . import pool
from .backend import MigrationError, ReadOnlyError, connect_with, reconnect_after, wait_for_lock
from .disk_space import require_disk_space

ASYNC_DRIVER = "mysql+aiomysql"
SYNC_DRIVER = "mysql+pymysql"

measure = pool.measure

# https://mariadb.com/kb/en/mariadb-error-code-reference/; codes from 2000 on come from the client.
_DUPLICATE = (1062, 1586)
_DISK_FULL = (1021, 1114)
_READ_ONLY = (1290, 1836)  # for example a replica
_NO_PRIVILEGE = (1044, 1142, 1143, 1227, 1370)
# Creates a file of 64 KB or more in the folder of the database. A server has no statement that needs less.
_SPACE_TABLE = f"disk_space_{token_hex(4)}"
_SPACE_PROBE = (f"CREATE TABLE {_SPACE_TABLE} (id INT)", f"DROP TABLE {_SPACE_TABLE}")
_TRANSIENT = frozenset({
    1040, 1203, 1226,  # too many connections
    1053, 1077, 1129, 1158, 1159, 1160, 1161, 1317, 1927, 3169,  # shutting down, connection lost or killed
    1205, 1213,  # lock wait, deadlock
    *_READ_ONLY,
    *_DISK_FULL,
    1969, 3024,  # the statement took too long: MariaDB, MySQL
    2002, 2003, 2006, 2013, 2014, 2055, 4031,  # unreachable, connection lost
})  # fmt: skip


# The values of parameters about TLS, and what they mean as MySQL's `ssl-mode`, from the weakest to the strictest.
_ORDER = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
_SSL_MODE = {mode: mode for mode in _ORDER}
_LIBPQ = {"disable": "disabled", "prefer": "preferred", "require": "required", "verify_full": "verify_identity"}
_TLS_MODES = {
    "ssl_mode": _SSL_MODE,
    "sslmode": _SSL_MODE | _LIBPQ,
    "sslaccept": {"strict": "verify_identity", "accept_invalid_certs": "required"},
    "ssl": {"true": "required", "false": "disabled"},
    "ssl_disabled": {"true": "disabled", "false": "preferred"},
    "ssl_verify_cert": {"true": "verify_ca", "false": "required"},
    "ssl_verify_identity": {"true": "verify_identity", "false": "required"},
}
# Remedies for a wrong URL or user, by the code of the error.
_REMEDIES = {
    **dict.fromkeys((1045, 1130, 1698), "correct the user or the password, and allow the user to connect from here"),
    **dict.fromkeys(_NO_PRIVILEGE, "grant the user this privilege"),
    1049: "correct the name, or create the database",
    **dict.fromkeys((1251, 2059), "change how the server authenticates the user"),
    **dict.fromkeys((1820, 1862, 3118, 4151), "renew the password, or unlock the user"),
    2026: "correct ssl-mode or ssl-ca in the parameters of the URL",
    3159: "add ssl-mode=REQUIRED to the parameters of the URL",
}


class Settings(pool.Settings):
    """MySQL"""

    url_schemes: ClassVar = ("mysql", "mariadb")
    url_example: ClassVar = "mysql://user:password@localhost:3306/name"
    url_files: ClassVar = ("ssl_ca", "ssl_cert", "ssl_key")
    url_parameters: ClassVar = frozenset({
        *url_files, "ssl_capath", "ssl_cipher", "ssl_check_hostname", "ssl_disabled",
        "charset", "local_infile", "program_name", "unix_socket",
    })  # fmt: skip
    url_remedies: ClassVar = {
        **dict.fromkeys(("tls", "usessl", "requiressl"), "add ssl-mode=REQUIRED instead"),
        "collation": "set it on the database instead",
        "sql_mode": "set it on the server instead",
    }

    @classmethod
    def translate(cls, url: URL) -> URL:
        """Return the URL with SQLAlchemy's parameters for TLS instead of those of MySQL, PyMySQL and providers."""
        query = {name.lower().replace("-", "_"): str(value) for name, value in url.query.items()}
        if query.get("charset", "utf8mb4").lower() != "utf8mb4":
            raise ValueError("has another charset than utf8mb4; remove it")
        modes = [_mode(name, query.pop(name)) for name in _TLS_MODES if name in query]
        mode = max(modes, key=_ORDER.index, default="preferred")
        if mode == "disabled":
            query = {name: value for name, value in query.items() if not name.startswith("ssl_")}
        return url.set(query=query | _tls_parameters(mode, query))


def _mode(name: str, value: str) -> str:
    """Return the mode of MySQL's `ssl-mode` that a parameter means."""
    modes = _TLS_MODES[name]
    mode = modes.get(value.lower().replace("-", "_"))
    if mode is None:
        raise ValueError(f"has an invalid value for {name}; use one of {', '.join(modes)}")
    return mode


def _tls_parameters(mode: str, query: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters for a mode. Without a CA the certificate is verified with those of this machine."""
    if mode in ("disabled", "preferred"):
        return {"ssl_disabled": "true"} if mode == "disabled" else {}
    parameters = {"ssl_check_hostname": str(mode == "verify_identity").lower()}
    if mode != "required" and not {"ssl_ca", "ssl_capath"} & set(query):
        machine = ssl.get_default_verify_paths()
        parameters |= {"ssl_ca": machine.cafile} if machine.cafile else {"ssl_capath": machine.capath or ""}
    return parameters


@compiles(DateTime, "mysql", "mariadb")
def _with_microseconds(_type: DateTime, _compiler: Any, **_options: Any) -> str:
    """Store microseconds, which MySQL drops by default."""
    return "DATETIME(6)"


def engine_options(settings: Settings) -> dict[str, Any]:
    return pool.pool_options(settings) | {
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": settings.database_connect_timeout_seconds,
            "init_command": _session(settings.database_statement_timeout_seconds),
        }
    }


def _session(limit_seconds: float) -> str:
    """Return the statement that configures a connection. Each server ignores comments that are meant for the other."""
    return (
        f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {math.ceil(limit_seconds)}"
        f" /*!50708 , max_execution_time = {round(limit_seconds * 1000)} */"
        f" /*M!100000 , max_statement_time = {limit_seconds:g} */"
    )


def set_up(engine: Engine, settings: Settings) -> None:
    """Connect behind a circuit breaker, and limit every read.

    The drivers wait without a limit for a server that hangs. aiomysql even waits without a limit for its greeting.
    """
    guarded = pool.guard(engine, settings, _set_read_timeout)

    def connect(*arguments: Any, **options: Any) -> Any:
        with guarded():
            return _connect(settings, *arguments, **options)

    async def connect_async(*arguments: Any, **options: Any) -> Any:
        with guarded():
            return await _connect_async(settings, *arguments, **options)

    connect_with(engine, connect_async if engine.dialect.is_async else connect)
    # After a failover, a new connection may reach the new primary.
    reconnect_after(engine, _has_code(_READ_ONLY))


def _connect(settings: Settings, *arguments: Any, **options: Any) -> Any:
    connect_seconds, seconds = settings.database_connect_timeout_seconds, pool.read_timeout_seconds(settings)
    timeouts = {"read_timeout": connect_seconds, "write_timeout": seconds}
    connection = _connect_with_tls(*arguments, **options, **timeouts)
    _set_read_timeout(connection, seconds)
    _keep_alive(connection._sock, settings)
    return connection


def _connect_with_tls(*arguments: Any, **options: Any) -> Any:
    tls = options.pop("ssl", None)
    return pymysql.connect(*arguments, **options, ssl=tls and _tls_context(tls))


async def _connect_async(settings: Settings, *arguments: Any, **options: Any) -> Any:
    open_connection = import_module("aiomysql").connect  # only asynchronous services install it
    connect_seconds = settings.database_connect_timeout_seconds
    options.pop("ssl_disabled", None)  # the default of this driver
    tls = options.pop("ssl", None)
    context = tls and _tls_context(tls)
    try:
        async with asyncio.timeout(connect_seconds):
            connection = await open_connection(*arguments, **options, ssl=context)
    except TimeoutError:
        raise pymysql.OperationalError(CR.CR_SERVER_LOST, f"not connected within {connect_seconds} s") from None
    transport = connection._writer.transport
    if context and transport.get_extra_info("ssl_object") is None:
        connection.close()
        raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server does not support TLS")
    _keep_alive(transport.get_extra_info("socket"), settings)
    connection._reader = _ReadTimeout(connection._reader, pool.read_timeout_seconds(settings))
    return connection


def _tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the context for the `ssl_` parameters of a URL, which only PyMySQL understands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, capath = options.get("ca"), options.get("capath")
    context.check_hostname = bool(ca or capath) and options.get("check_hostname", True)
    if ca or capath:
        context.load_verify_locations(ca, capath)
    else:
        context.verify_mode = ssl.CERT_NONE
    if options.get("cert"):
        context.load_cert_chain(options["cert"], options.get("key"))
    if options.get("cipher"):
        context.set_ciphers(options["cipher"])
    return context


def _keep_alive(connection: socket.socket, settings: Settings) -> None:
    """Enable TCP keepalive, which detects an unreachable machine; the drivers have no such option."""
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", settings.database_keepalive_idle_seconds),
        ("TCP_KEEPINTVL", settings.database_keepalive_interval_seconds),
        ("TCP_KEEPCNT", settings.database_keepalive_count),
    ):
        if hasattr(socket, option):  # not every operating system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _ReadTimeout:
    """A reader that limits each wait. aiomysql treats a TimeoutError as a lost connection."""

    def __init__(self, reader: asyncio.StreamReader, seconds: float) -> None:
        self._reader = reader
        self.read_timeout_seconds = seconds

    async def readexactly(self, count: int) -> bytes:
        async with asyncio.timeout(self.read_timeout_seconds):
            return await self._reader.readexactly(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def _set_read_timeout(connection: Any, seconds: float) -> None:
    if isinstance(connection, pymysql.Connection):
        connection._read_timeout = seconds
    else:
        connection._reader.read_timeout_seconds = seconds


def scratch(url: URL, _folder: Path) -> AbstractContextManager[URL]:
    """Create a database on the same server, with the character set and collation of this one."""
    return pool.scratch(url, _connect_with_tls, _character_set)


def _character_set(connection: Connection) -> str:
    names = connection.execute(text("SELECT @@character_set_database, @@collation_database")).one()
    return " CHARACTER SET {} COLLATE {}".format(*names)


@contextmanager
def migration_lock(engine: Engine, timeout_seconds: float) -> Iterator[None]:
    """Take a named lock on a separate connection; the server releases it when that connection ends."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.scalar(text("SELECT @@character_set_database")) != "utf8mb4":
            raise MigrationError(
                "the character set of the database is not utf8mb4; run ALTER DATABASE name CHARACTER SET utf8mb4"
            )
        # Names of locks are global to the server, and limited to 64 characters.
        name = "CONCAT('migrations-', LEFT(SHA2(DATABASE(), 256), 32))"
        wait_for_lock(lambda: bool(connection.scalar(text(f"SELECT GET_LOCK({name}, 0)"))), timeout_seconds)
        try:
            yield
        finally:
            connection.execute(text(f"SELECT RELEASE_LOCK({name})"))


def ping(connection: Connection) -> None:
    """Raise an exception if the server does not accept writes, as a replica does."""
    if connection.scalar(text("SELECT @@global.read_only")):
        connection.invalidate()
        raise ReadOnlyError
    require_disk_space(connection, _has_code(_DISK_FULL), *_SPACE_PROBE, is_forbidden=_has_code(_NO_PRIVILEGE))


def _has_code(codes: Sequence[int]) -> Callable[[Any], bool]:
    return lambda error: bool(error.args) and error.args[0] in codes


def is_transient(error: Exception) -> bool:
    return _code(error) in _TRANSIENT


def is_conflict(error: Exception) -> bool:
    return _code(error) in _DUPLICATE


def url_problem(error: Exception) -> str | None:
    cause = getattr(error, "orig", None)
    code, reason = _code(error) or 0, str(getattr(cause, "args", [""])[-1])
    tls_error = cause and (cause.__cause__ or cause.__context__)
    if isinstance(tls_error, ssl.SSLError):  # both drivers report it as an unreachable server
        code, reason = CR.CR_SSL_CONNECTION_ERROR, str(tls_error)
    remedy = _REMEDIES.get(code)
    return f"{reason}; {remedy}" if remedy else None


def _code(error: Exception) -> int | None:
    arguments = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
