"""PostgreSQL: a database that is read-only, as a standby is."""

from __future__ import annotations

from sqlalchemy import make_url

from .conftest import Start, settings_for_tests
from .process import until
from .sql import run


def test_read_only_database_makes_the_service_unready(start: Start) -> None:
    """Managed servers make a database read-only when its disk is full."""
    name = make_url(settings_for_tests().database_url.get_secret_value()).database
    # The setting is read when a connection is opened.
    client = start(health_check_cache_seconds=0.01, database_pool_recycle_seconds=1)
    assert client.get("/health/ready").status_code == 200
    run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')()
    try:
        until(lambda: client.get("/health/ready").status_code == 503)
        check = client.get("/health").json()["checks"]["database"]
        assert check["error"] == "the database does not accept writes"
    finally:
        run("SET TRANSACTION READ WRITE", f'ALTER DATABASE "{name}" RESET default_transaction_read_only')()
    until(lambda: client.get("/health/ready").status_code == 200)
