#!/bin/bash
# Like the official entrypoint: initialises an empty data folder, and upgrades older data if it is told to.
set -euo pipefail
case $1 in -*) set -- mariadbd "$@" ;; esac
[ "$1" = mariadbd ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    chown --recursive mysql /var/lib/mysql /run/mysqld
    exec gosu mysql "$0" "$@"
fi
offline() { # a command, while the server runs without a network
    mariadbd --skip-networking --skip-grant-tables &
    local server=$!
    until mariadb-admin ping >/dev/null 2>&1; do sleep 0.2; done
    "$@"
    kill "$server"
    wait "$server"
}
create() {
    MARIADB_PASSWORD=${MARIADB_PASSWORD:-$(cat "$MARIADB_PASSWORD_FILE")}
    mariadb <<SQL
FLUSH PRIVILEGES;
CREATE DATABASE $MARIADB_DATABASE;
CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$MARIADB_PASSWORD';
GRANT ALL ON $MARIADB_DATABASE.* TO '$MARIADB_USER'@'%';
CREATE USER healthcheck@127.0.0.1 IDENTIFIED BY 'healthcheck';
SQL
    for script in /docker-entrypoint-initdb.d/*.sql; do
        if [ -e "$script" ]; then { echo "FLUSH PRIVILEGES;" && cat "$script"; } | mariadb "$MARIADB_DATABASE"; fi
    done
}
if [ ! -d /var/lib/mysql/mysql ]; then
    mariadb-install-db --datadir=/var/lib/mysql --skip-test-db >/dev/null
    offline create
elif [ -n "${MARIADB_AUTO_UPGRADE:-}" ]; then
    offline mariadb-upgrade --silent
fi
exec "$@"
