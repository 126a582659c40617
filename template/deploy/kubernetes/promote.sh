# How promote.sh reaches a cluster: with kubectl. KUBE_CONFIG is the content of a kubeconfig; without it, kubectl uses yours.
# KUBE_SECRETS is the content of secrets.env in the overlay, unless a secret store has the secrets.
# shellcheck shell=sh disable=SC2154

connect() {
    if [ -n "${KUBE_CONFIG:-}" ]; then
        (umask 077 && printf '%s\n' "$KUBE_CONFIG" >"$work/kubeconfig")
        export KUBECONFIG="$work/kubeconfig"
    fi
    overlay=deploy/kubernetes/overlays/$environment
    if [ -n "${KUBE_SECRETS:-}" ]; then (umask 077 && printf '%s\n' "$KUBE_SECRETS" >"$overlay/secrets.env"); fi
    namespace=$(sed -n 's/^namespace: *//p' "$overlay/kustomization.yaml")
}

deploy() { sh deploy/kubernetes/deploy.sh deploy "$environment" "$IMAGE" "${BACKUP_IMAGE:-}"; }

rollback() { sh deploy/kubernetes/deploy.sh rollback "$environment"; }

running() { kubectl --namespace "$namespace" exec --stdin "deployment/$service" -- python -I - <"$work/running.py"; }
