#!/bin/sh
# Builds and publishes the images of a release: the service and, if the Dockerfile has it, the image for backups.
#
#   tools/release.sh build      test and scan the images for the processor of this machine, push and attest them
#   tools/release.sh publish    join the images for all processors, sign them, and print their names with digest
#   tools/release.sh find       print the names of the published images, after checking their signature
#
# TAG is the git tag, such as v1.2.3, and REPOSITORY the repository in the registry. IDENTITY and ISSUER say, for `find`,
# which pipeline must have signed. PLATFORMS are the processors.
set -eu

docker=${DOCKER:-docker}
platforms=${PLATFORMS:-amd64 arm64}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
# A registry accepts lower case only.
repository=$(printf %s "${REPOSITORY:?is the repository in the registry}" | tr '[:upper:]' '[:lower:]')

fail() {
    echo "$1" >&2
    exit 1
}

[ "${TAG:?is the git tag of the release}" = "v$version" ] \
    || fail "The tag $TAG is not the version in pyproject.toml: tag v$version, or change the version."
stages=$(sed -n 's/^FROM .* AS backup$/backup/p' Dockerfile)

# The name of an image with its digest, which never changes its meaning.
with_digest() {
    digest=$("$docker" buildx imagetools inspect "$1" | sed -n 's/^Digest: *//p')
    [ -n "$digest" ] || fail "$1 is not in the registry."
    echo "$repository@$digest"
}

build() {
    platform=$("$docker" version --format '{{.Server.Arch}}')
    image=$repository:$version-$platform
    # `make` takes it as the label of the images.
    export VERSION="$version"
    make smoke IMAGE="$image"
    push "$image" ""
    for stage in $stages; do push "$image-$stage" "$stage"; done
}

# push IMAGE STAGE: only images without known vulnerabilities are pushed.
push() {
    make scan sbom IMAGE="$1" STAGE="$2"
    "$docker" push --quiet "$1"
    pushed=$(with_digest "$1")
    cosign attest --yes --type spdxjson --predicate sbom.spdx.json "$pushed"
}

publish() {
    for suffix in "" $stages; do
        name=$repository:$version${suffix:+-$suffix}
        set --
        for platform in $platforms; do set -- "$@" "$repository:$version-$platform${suffix:+-$suffix}"; done
        "$docker" buildx imagetools create --tag "$name" "$@" >&2
        joined=$(with_digest "$name")
        cosign sign --yes --recursive "$joined" >&2
    done
    names
}

find() {
    for suffix in "" $stages; do
        signed=$(with_digest "$repository:$version${suffix:+-$suffix}")
        cosign verify --certificate-identity "${IDENTITY:?}" --certificate-oidc-issuer "${ISSUER:?}" "$signed" >/dev/null
    done
    names
}

names() {
    image=$(with_digest "$repository:$version")
    printf 'VERSION=%s\nREPOSITORY=%s\nIMAGE=%s\nDIGEST=%s\n' "$version" "$repository" "$image" "${image#*@}"
    for stage in $stages; do
        image=$(with_digest "$repository:$version-$stage")
        echo "$(echo "$stage" | tr "[:lower:]" "[:upper:]")_IMAGE=$image"
    done
}

case ${1:-} in
    build | publish | find) "$1" ;;
    *) fail "Use one of build, publish and find: tools/release.sh build" ;;
esac
