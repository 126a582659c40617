#!/usr/bin/env bash
# Runs what fetches from a network, and again when it fails: mirrors have hiccups, and a new machine that updates itself
# holds the locks of its package manager. Nothing that is judged is run by this.
#
#   again.sh COMMAND [ARGUMENT...]
set -u
for pause in 5 15 45 90; do
    "$@" && exit 0
    echo "failed, and is tried again in $pause s: $*" >&2
    sleep "$pause"
done
exec "$@"
