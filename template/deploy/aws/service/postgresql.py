"""Creates the user of the service and its database, unless they exist, and sets the user's password."""

import os

import psycopg
from psycopg import sql
from sqlalchemy import make_url

url = make_url(os.environ["DATABASE_URL"])
user, database = sql.Identifier(url.username), sql.Identifier(url.database)
password = sql.Literal(url.password)

with psycopg.connect(
    host=url.host,
    port=url.port,
    user=os.environ["ADMINISTRATOR_NAME"],
    password=os.environ["ADMINISTRATOR_PASSWORD"],
    dbname="postgres",
    sslmode=url.query["sslmode"],
    connect_timeout=10,
    autocommit=True,
) as administrator:

    def there(query: str, name: str) -> bool:
        return administrator.execute(query, [name]).fetchone() is not None

    verb = "ALTER" if there("SELECT FROM pg_roles WHERE rolname = %s", url.username) else "CREATE"
    administrator.execute(sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}").format(user, password))
    if not there("SELECT FROM pg_database WHERE datname = %s", url.database):
        administrator.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(user))
        administrator.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
