#!/bin/sh
# Deploys a release to an environment, checks it, and rolls back by itself if a check fails. The pipelines run it.
#
#   deploy/promote.sh TARGET ENVIRONMENT
#
# TARGET is a folder next to this file. Its promote.sh defines connect, deploy, rollback and running, which prints the
# version that serves. These variables describe the release and the checks:
#   VERSION, IMAGE     its version, and its image with the digest; tools/release.sh prints both, and the images of other stages
#   DEPLOY_URL         the address of the environment; SMOKE_PATH is the path to request, by default /
#   LOAD=yes           run `make load` in place of 100 requests; PROFILE is its profile, by default smoke
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "$*" >&2
    exit 1
}

[ $# = 2 ] && [ -f "deploy/$1/promote.sh" ] || fail "usage: deploy/promote.sh TARGET ENVIRONMENT, where TARGET is a folder in deploy/"
target=$1 environment=$2
# shellcheck disable=SC2034 # the target uses it
service=$(sed -n 's/^name = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
: "${VERSION:?is the version of the release}" "${IMAGE:?is the image of the release, with its digest}"
: "${DEPLOY_URL:?is the address of the environment, such as https://api.example.com}"
case $IMAGE in *@sha256:*) ;; *) fail "IMAGE: a tag can change its image; give the digest, as in $IMAGE@sha256:..." ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A program for the Python of a container: if the service is ready, it prints its version.
cat >"$work/running.py" <<'PYTHON'
import http.client, json, sys
def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()
status, body = get("/health/ready")
if status != 200:
    sys.exit(f"/health/ready returned {status}: {body}")
print(json.loads(get("/health")[1])["version"])
PYTHON

# shellcheck source=/dev/null
. "deploy/$target/promote.sh"

serves_the_version() {
    found=$(running) || { echo "The release is not ready."; return 1; }
    [ "$found" = "$VERSION" ] || { echo "The version that serves is $found, not $VERSION."; return 1; }
}

smoke() {
    if [ "${LOAD:-}" = yes ]; then
        make load PROFILE="${PROFILE:-smoke}" URL="${DEPLOY_URL%/}" || { echo "make load missed an objective."; return 1; }
        return
    fi
    sent=0 failed=0
    while [ $sent -lt 100 ]; do
        status=$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "${DEPLOY_URL%/}${SMOKE_PATH:-/}") || true
        case $status in [234]??) ;; *) failed=$((failed + 1)) ;; esac
        sent=$((sent + 1))
    done
    echo "$failed of $sent requests failed."
    [ $failed -le 1 ]
}

[ "${LOAD:-}" != yes ] || make --silent load-check PROFILE="${PROFILE:-smoke}"
connect
deploy || fail "The deployment of $VERSION to $environment failed. The version that serves: $(running || echo none that is ready)."
if serves_the_version && smoke; then
    echo "$environment runs $VERSION ($IMAGE)."
    exit
fi
echo "$environment rolls back." >&2
rollback || fail "The rollback of $environment failed too: see docs/runbook.md."
fail "$VERSION failed its checks, so $environment runs the previous release."
