#!/usr/bin/env bash
# A container engine for the tests, on a machine that has none.
#
#   engine.sh start   no-op where an engine already answers; else installs one (Debian 12, as root) and starts it
#   engine.sh answers tells whether one does, with compose and buildx
#   engine.sh stop    stops the engine that `start` started, by its process id, and no other
#
# Exit codes: 0 an engine answers, 77 this machine cannot run one (one line says why), anything else a fault to look at.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
state=${SEAWORTHY_ENGINE_STATE:-/var/tmp/seaworthy-engine}
newer=trixie # Debian 12's own engine is too old for what the rendered Dockerfile uses; only these packages come from the next release
packages=(docker.io docker-cli docker-buildx docker-compose containerd)

cannot() {
    echo "no container engine: $1"
    exit 77
}

answers() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; }

# Separate sources, pins and package lists: the apt settings of the machine do not change.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$state/sources" \
        -o Dir::Etc::PreferencesParts="$state/preferences" -o Dir::State::Lists="$state/lists" "$@"
}

install_engine() {
    local own=/etc/apt/sources.list.d/debian.sources
    [ -r "$own" ] || cannot "$own is missing, so the package source of this machine is unknown"
    mkdir -p "$state"/{sources,preferences,lists/partial}
    cp "$own" "$state/sources/own.sources"
    sed "s/bookworm/$newer/g" "$own" >"$state/sources/newer.sources"
    printf 'Package: *\nPin: release n=%s*\nPin-Priority: 100\n' "$newer" >"$state/preferences/newer"
    "$here/again.sh" "$0" fetch
}

# An update that omits a list succeeds; the installation then fails.
fetch_engine() {
    apt update || true
    apt install -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${packages[@]/%//$newer}" iptables
}

# The engine that was started from here, if it still runs. A number that outlived a restart of the machine may be anybody's.
engine_pid() {
    local pid
    pid=$(cat "$state/dockerd.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

start_engine() {
    if answers; then return 0; fi # where installing it started it
    mkdir -p "$state"
    # The engine does not start if this file holds the number of any running process.
    engine_pid >/dev/null || rm -f "$state/dockerd.pid"
    # Under `flock`, an inherited file descriptor would hold the lock as long as the engine runs.
    setsid dockerd --pidfile "$state/dockerd.pid" >"$state/dockerd.log" 2>&1 </dev/null 3>&- &
    local began=$SECONDS
    while [ $((SECONDS - began)) -lt 300 ]; do # on a busy machine; an engine that exits ends the loop
        if answers; then return 0; fi
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
    echo "the container engine did not start: $(grep -iE 'error|fail' "$state/dockerd.log" | tail -n 1)"
    return 1
}

start() {
    if answers; then return 0; fi
    [ "$(id -u)" = 0 ] || cannot "installing one needs root; start yours and try again"
    grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || cannot "it is installed on Debian 12 only; install yours and try again"
    unshare --mount --pid --net --fork true 2>/dev/null || cannot "this machine does not let root make namespaces"
    if ! command -v dockerd >/dev/null || ! docker compose version >/dev/null 2>&1; then
        mkdir -p "$state"
        # In a separate process: `set -e` has no effect in a command before `||`.
        "$0" install >"$state/install.log" 2>&1 || { echo "it could not be installed: $(tail -n 3 "$state/install.log")"; return 1; }
    fi
    start_engine
}

stop() {
    local pid
    pid=$(engine_pid) || return 0
    kill "$pid" 2>/dev/null || return 0
    # Until it is gone, so that the next `start` does not find one that is about to end.
    for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    echo "the container engine, process $pid, does not end" >&2
}

case ${1:-} in
    start) exec 9>"$state.lock" && flock 9 && start 9>&- ;;
    install) install_engine ;;
    fetch) fetch_engine ;;
    stop | answers) "$1" ;;
    *) sed -n '2,8p' "$0"; exit 64 ;;
esac
