# How promote.sh reaches ECS: with the AWS CLI. The pipeline assumes the role AWS_ROLE with its identity, AWS_TOKEN,
# which GitHub gives on request. Otherwise the CLI uses your credentials. AWS_REGISTRY is the repository of ECR from which ECS pulls the images.
# shellcheck shell=sh disable=SC2154

connect() {
    registry=${AWS_REGISTRY:?is the repository of the images in ECR}
    if [ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ]; then
        AWS_TOKEN=$(curl --silent --show-error --fail --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
            "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=sts.amazonaws.com" | jq --raw-output .value)
    fi
    if [ -n "${AWS_TOKEN:-}" ]; then assume "${AWS_ROLE:?is the role of the pipeline}"; fi
    aws ecr get-login-password | docker login "${registry%%/*}" --username AWS --password-stdin
    IMAGE=$(copied "$IMAGE" "$VERSION")
    if [ -n "${BACKUP_IMAGE:-}" ]; then BACKUP_IMAGE=$(copied "$BACKUP_IMAGE" "$VERSION-backup"); fi
}

# The token expires within minutes, and a deployment may take longer.
assume() {
    credentials=$(aws sts assume-role-with-web-identity --role-arn "$1" --role-session-name "$service-$VERSION" \
        --web-identity-token "$AWS_TOKEN" --duration-seconds 3600 \
        --query 'Credentials.[AccessKeyId, SecretAccessKey, SessionToken]' --output text)
    # shellcheck disable=SC2086
    set -- $credentials
    export AWS_ACCESS_KEY_ID="$1" AWS_SECRET_ACCESS_KEY="$2" AWS_SESSION_TOKEN="$3"
}

# The copy in ECR has the digest of the original.
copied() {
    # ECR refuses a tag that exists, as it does if a version is deployed again.
    aws ecr describe-images --repository-name "${registry#*/}" --image-ids "imageDigest=${1#*@}" >/dev/null 2>&1 \
        || docker buildx imagetools create --tag "$registry:$2" "$1" >&2
    echo "$registry@${1#*@}"
}

deploy() { sh deploy/aws/deploy.sh "$environment" "$IMAGE" "${BACKUP_IMAGE:-}"; }

rollback() { sh deploy/aws/deploy.sh "$environment" --rollback; }

# The load balancer hides /health, so the image of the running tasks tells the version.
running() {
    curl --silent --show-error --fail --max-time 5 --output /dev/null "${DEPLOY_URL%/}/health/ready" || return 1
    task=$(aws ecs describe-services --cluster "$service-$environment" --services "$service" \
        --query 'services[0].taskDefinition' --output text)
    image=$(aws ecs describe-task-definition --task-definition "$task" \
        --query 'taskDefinition.containerDefinitions[0].image' --output text)
    if [ "$image" = "$IMAGE" ]; then echo "$VERSION"; else echo "$image"; fi
}
