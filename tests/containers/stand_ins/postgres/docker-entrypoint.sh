#!/bin/bash
# Like the official entrypoint: initialises an empty data folder, and refuses data of an older version.
set -euo pipefail
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    install --directory --owner=postgres --mode=700 "$PGDATA"
    chown --recursive postgres "$PGDATA"
    exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    for folder in /var/lib/postgresql /var/lib/postgresql/data /var/lib/postgresql/*/docker; do
        if [ -s "$folder/PG_VERSION" ]; then
            echo "Error: there appears to be PostgreSQL data of another version in $folder" >&2
            exit 1
        fi
    done
    export POSTGRES_USER=${POSTGRES_USER:-postgres} POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-$(cat "$POSTGRES_PASSWORD_FILE")}
    initdb --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl -o "-c listen_addresses=''" -w start >/dev/null
    if [ "$POSTGRES_USER" != postgres ]; then createdb --username="$POSTGRES_USER" "${POSTGRES_DB:-$POSTGRES_USER}"; fi
    # shellcheck disable=SC1090 # the official entrypoint runs a script in this shell if it is not executable
    for script in /docker-entrypoint-initdb.d/*.sh; do if [ -e "$script" ]; then . "$script"; fi; done
    pg_ctl -m fast -w stop >/dev/null
fi
exec postgres -c listen_addresses='*'
