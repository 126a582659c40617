#!/usr/bin/env bash
# Builds an API server, its controllers and a kubelet from Debian's source package, on a machine that reaches package
# registries but no image registry. It needs root, 3 GB and about 8 minutes of two cores.
#
#   build.sh FOLDER    the binaries are in FOLDER/bin afterwards; what is there stays
#
# Exit codes: 0 they are there, 77 this machine cannot build them (one line says why), anything else a fault to look at.
set -euo pipefail

folder=${1:?FOLDER}
again=$(dirname "$(readlink -f "$0")")/../containers/again.sh
commands=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

cannot() {
    echo "no Kubernetes: $1"
    exit 77
}

is_built() {
    local command
    for command in "${commands[@]}"; do [ -x "$folder/bin/$command" ] || return 1; done
}

install_tools() {
    local own=/etc/apt/sources.list.d/debian.sources
    mkdir -p "$folder"/{sources,lists/partial}
    sed 's/^Types:.*/Types: deb deb-src/' "$own" >"$folder/sources/own.sources"
    local apt=(apt-get -q -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$folder/sources" -o "Dir::State::Lists=$folder/lists")
    "${apt[@]}" update
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends -o DPkg::Lock::Timeout=600 \
        golang-1.19-go golang-1.19-src etcd-server rsync gcc libc6-dev dpkg-dev make
    [ -d "$folder"/source ] || { (cd "$folder" && "${apt[@]}" source kubernetes && mv kubernetes-*/ source); }
}

build() {
    cd "$folder/source"
    # Without CAP_SYS_RESOURCE, root cannot lower the score by which the kernel chooses a process to kill.
    sed -i 's/defaultSandboxOOMAdj int = -998/defaultSandboxOOMAdj int = 0/' pkg/kubelet/dockershim/docker_sandbox.go
    sed -i -E 's/(guaranteedOOMScoreAdj +int *)= -997/\1= 0/' pkg/kubelet/qos/policy.go
    rm -rf _output .make # what a build that broke off left behind
    export GOPATH=$PWD/.go GOCACHE=$folder/cache HOME=$folder/home CGO_ENABLED=0 PATH=/usr/lib/go-1.19/bin:$PATH
    export KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
    mkdir -p .go/src/k8s.io "$HOME"
    [ -L .go/src/k8s.io/kubernetes ] || ln -s ../../.. .go/src/k8s.io/kubernetes
    nice -n 10 make WHAT="${commands[*]/#/cmd/}"
    mkdir -p "$folder/bin"
    cp "${commands[@]/#/_output/bin/}" "$folder/bin/"
}

if is_built; then exit 0; fi
[ "$(id -u)" = 0 ] || cannot "building it needs root"
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || cannot "it is built on Debian 12 only"
mkdir -p "$folder"
folder=$(readlink -f "$folder")
if [ "${2:-}" = --tools ]; then install_tools; exit; fi
"$again" "$0" "$folder" --tools >"$folder/install.log" 2>&1 || { echo "its tools cannot be installed: $(tail -n 3 "$folder/install.log")"; exit 1; }
build >"$folder/build.log" 2>&1 || { echo "it cannot be built: $(tail -n 3 "$folder/build.log")"; exit 1; }
