#!/bin/sh
# The options of the official script are accepted and not told apart.
exec mariadb-admin --host=127.0.0.1 --user=healthcheck --password=healthcheck --silent ping
