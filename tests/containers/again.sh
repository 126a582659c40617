#!/usr/bin/env bash
# Runs a download and retries it: mirrors fail now and then, and a new machine that updates itself holds the locks of its
# package manager. Tests themselves are never run with this.
#
#   again.sh COMMAND [ARGUMENT...]
set -u
for pause in 5 15 45 90; do
    "$@" && exit 0
    echo "failed; next try in $pause s: $*" >&2
    sleep "$pause"
done
exec "$@"
