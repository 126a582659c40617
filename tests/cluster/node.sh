#!/usr/bin/env bash
# A cluster of one node, with a real API server and kubelet. Its pods run in the container engine of this machine.
#
#   node.sh up BINARIES FOLDER    starts it, waits until the node is ready; FOLDER/kubeconfig connects kubectl to it
#   node.sh down BINARIES FOLDER  stops its processes by their ids, and removes its containers, mounts and rules
set -euo pipefail

api_port=26443
pause=k8s.gcr.io/pause:3.2
nodes=(kube-proxy kubelet kube-scheduler kube-controller-manager kube-apiserver etcd) # in the order in which they stop

start() { # name command...
    local name=$1
    shift
    setsid "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

wait_for() { # seconds command...
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "still waiting for: $*" >&2; return 1; }
        sleep 0.3
    done
}

# The container that holds the addresses of a pod. It only waits.
make_pause_image() {
    if docker image inspect "$pause" >/dev/null 2>&1; then return 0; fi
    mkdir -p "$folder/pause"
    printf '#include <unistd.h>\n#include <signal.h>\nstatic void end(int s) { _exit(0); }\nint main(void) { signal(SIGINT, end); signal(SIGTERM, end); for (;;) pause(); }\n' >"$folder/pause/pause.c"
    gcc -static -O2 -o "$folder/pause/pause" "$folder/pause/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$folder/pause/Dockerfile"
    docker build --quiet --tag "$pause" "$folder/pause" >/dev/null
}

configure() {
    openssl genrsa -out "$folder/pki/accounts.key" 2048 2>/dev/null
    local token
    token=$(openssl rand -hex 16)
    echo "$token,admin,admin,system:masters" >"$folder/pki/tokens.csv"
    cat >"$folder/kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://127.0.0.1:$api_port", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: here, context: {cluster: here, user: admin}}]
current-context: here
EOF
    cat >"$folder/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
address: 127.0.0.1
port: 20250
healthzPort: 20248
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
EOF
}

start_all() {
    local address
    address=$(ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1 | head -n 1)
    start etcd etcd --data-dir "$folder/etcd" --listen-client-urls http://127.0.0.1:22379 --advertise-client-urls http://127.0.0.1:22379 \
        --listen-peer-urls http://127.0.0.1:22380
    start kube-apiserver "$binaries/kube-apiserver" --etcd-servers=http://127.0.0.1:22379 --service-cluster-ip-range=10.96.0.0/16 \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$folder/pki/accounts.key" \
        --service-account-signing-key-file="$folder/pki/accounts.key" --cert-dir="$folder/pki" --secure-port=$api_port \
        --bind-address=127.0.0.1 --advertise-address="$address" --token-auth-file="$folder/pki/tokens.csv" --authorization-mode=RBAC
    wait_for 60 kubectl get --raw /readyz
    start kube-controller-manager "$binaries/kube-controller-manager" --kubeconfig="$folder/kubeconfig" --leader-elect=false --port=0 \
        --service-account-private-key-file="$folder/pki/accounts.key" --secure-port=20257 --bind-address=127.0.0.1 \
        --cert-dir="$folder/pki" '--controllers=*,-nodeipam'
    start kube-scheduler "$binaries/kube-scheduler" --kubeconfig="$folder/kubeconfig" --leader-elect=false --port=0 --secure-port=20259 \
        --bind-address=127.0.0.1 --cert-dir="$folder/pki"
    start kubelet "$binaries/kubelet" --kubeconfig="$folder/kubeconfig" --config="$folder/kubelet.yaml" --root-dir="$folder/kubelet" \
        --container-runtime=docker --docker-endpoint="${DOCKER_HOST:-unix:///var/run/docker.sock}" --network-plugin= \
        --pod-infra-container-image=$pause --hostname-override=127.0.0.1 --cert-dir="$folder/pki"
    start kube-proxy "$binaries/kube-proxy" --kubeconfig="$folder/kubeconfig" --proxy-mode=iptables --hostname-override=127.0.0.1 \
        --bind-address=127.0.0.1 --healthz-bind-address=127.0.0.1:20256 --metrics-bind-address=127.0.0.1:20249 --conntrack-max-per-core=0
    wait_for 120 sh -c "kubectl get nodes | grep --quiet ' Ready'"
}

up() {
    mkdir -p "$folder"/{pki,etcd,kubelet}
    export KUBECONFIG=$folder/kubeconfig
    make_pause_image
    configure
    start_all
}

down() {
    local name pid
    for name in "${nodes[@]}"; do
        pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
        # A number that outlived a restart of the machine may be anybody's.
        if [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | head -n 1 | xargs -r basename)" = "$name" ]; then kill "$pid"; fi
        rm -f "$folder/$name.pid"
        sleep 0.5
    done
    docker ps --all --quiet --filter name=k8s_ | xargs -r docker rm --force >/dev/null
    "$binaries/kube-proxy" --cleanup >/dev/null 2>&1 || true
    awk -v folder="$folder/kubelet" 'index($2, folder) == 1 {print $2}' /proc/mounts | sort -r | xargs -r -n 1 umount --lazy
    find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
    rm -rf "$folder/etcd" "$folder/kubelet"
}

case ${1:-} in
    up | down)
        binaries=$2
        mkdir -p "$3"
        folder=$(readlink -f "$3")
        "$1"
        ;;
    *) sed -n '2,6p' "$0"; exit 64 ;;
esac
