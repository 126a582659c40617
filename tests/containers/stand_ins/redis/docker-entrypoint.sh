#!/bin/sh
# The official image is built without protected mode.
set -eu
if [ "$1" = redis-server ]; then set -- "$@" --protected-mode no --bind '*'; fi
exec "$@"
