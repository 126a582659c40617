#!/bin/sh
# Runs once, when the server creates its data: the service's user owns its two databases, and may do nothing else.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/database_password)" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE service LOGIN PASSWORD :'password';
CREATE DATABASE service OWNER service;
-- `backup --verify` restores into this one.
CREATE DATABASE service_verify OWNER service;
REVOKE ALL ON DATABASE service, service_verify, postgres, template1 FROM PUBLIC;
SQL
