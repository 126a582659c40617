# How promote.sh reaches a machine with Docker Compose: over SSH, as DEPLOY_HOST, such as deploy@host.example.com.
# DEPLOY_FOLDER is the folder of the service there. DEPLOY_SSH_KEY is a private key, and DEPLOY_HOST_KEY the machine's line
# for known_hosts; without them, SSH uses yours. With REGISTRY_TOKEN, the machine logs in to the registry to pull the image.
# shellcheck shell=sh disable=SC2154

on_machine() {
    # shellcheck disable=SC2029
    ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 \
        ${DEPLOY_SSH_KEY:+-i "$work/key"} ${DEPLOY_HOST_KEY:+-o "UserKnownHostsFile=$work/known_hosts"} \
        "${DEPLOY_HOST:?is the machine, such as deploy@host.example.com}" \
        "cd '${DEPLOY_FOLDER:?is the folder of the service on the machine}' && $1"
}

connect() {
    (
        umask 077
        printf '%s\n' "${DEPLOY_SSH_KEY:-}" >"$work/key"
        printf '%s\n' "${DEPLOY_HOST_KEY:-}" >"$work/known_hosts"
    )
    # The files of this release, but no image, no setting and no secret.
    git archive HEAD | on_machine "tar --extract --file -"
    if [ -n "${REGISTRY_TOKEN:-}" ]; then
        printf %s "$REGISTRY_TOKEN" | on_machine "docker login ${IMAGE%%/*} --username '$REGISTRY_USER' --password-stdin"
    fi
}

deploy() { on_machine "IMAGE='$IMAGE' sh deploy/compose/deploy.sh deploy '$VERSION'"; }

rollback() { on_machine "sh deploy/compose/deploy.sh rollback"; }

running() { on_machine "docker compose --file compose.yaml exec -T app python -I -" <"$work/running.py"; }
