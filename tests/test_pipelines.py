"""The pipelines of GitHub and GitLab are run, with stand-ins for what a machine lacks, and do what `make` does.

The actions that the workflows use are not run: ACTIONS says what each one needs.
"""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import private_servers
import pytest
import yaml
from containers.engine import base_images, require, require_engine, wait_for
from containers.engine import build as engine_build
from containers.engine import run as engine
from pipelines import ANSWERS, DIGEST, GitHub, Tools, commit
from questions import ROOT
from rendering import Render, Renderer
from targets import make

# Why the tests cannot run an action.
ACTIONS = {
    "actions/checkout": "the tests have a repository",
    "actions/attest-build-provenance": "needs the identity of a workflow at GitHub",
    "actions/upload-artifact": "needs GitHub's store",
    "astral-sh/setup-uv": "the tests have uv",
    "sigstore/cosign-installer": "downloads Cosign; a stand-in records its calls",
}
TAG = "v0.1.0"
IMAGE = f"ghcr.io/acme/orders@{DIGEST}"
VALUES = {
    "VERSION": "0.1.0",
    "IMAGE": IMAGE,
    "DEPLOY_HOST": "jo@machine",
    "DEPLOY_SSH_KEY": "the-key",
    "DEPLOY_HOST_KEY": "machine ssh-ed25519 AAAA",
}
# SSH to this machine: the command runs here.
SSH = """#!/bin/sh
for command; do :; done
echo "ssh $command" >>"{folder}/called"
exec sh -c "$command"
"""
DEPLOY = """#!/bin/sh
echo "deploy.sh $* IMAGE=${IMAGE:-}" >>"$CALLED"
while read -r refused; do case "deploy.sh $*" in "$refused"*) exit 1 ;; esac; done <"$REFUSED"
"""


class Site:
    """The address of an environment, which counts its requests."""

    def __init__(self) -> None:
        self.status = 200
        self.paths: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                self.send_response(site.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join(10)


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Stand-ins. SSH runs its command in a folder of this machine, where Compose says which version serves."""
    tools = Tools(tmp_path / "bin", answers={"docker compose --file compose.yaml exec": "0.1.0", **ANSWERS})
    (tools.folder / "ssh").write_text(SSH.format(folder=tools.folder), encoding="utf-8")
    return tools


@pytest.fixture
def service(renderer: Renderer, tmp_path: Path) -> Callable[..., Path]:
    """Makes a service in a repository, whose `deploy.sh` only records its calls."""

    def build(**answers: Any) -> Path:
        given = {"project_name": "Orders", "repository": "Acme/Orders", "database": "postgresql", **answers}
        path = renderer(tmp_path / "service", given).path
        (path / "deploy/compose/deploy.sh").write_text(DEPLOY, encoding="utf-8")
        commit(path, TAG)
        return path

    return build


def order(service: Path, tool: Callable[[str], str]) -> list[str]:
    """Return the targets of `make check`, in their order."""
    done = subprocess.run(
        [tool("make"), "--dry-run", "--print-data-base", "check"],
        cwd=service,
        capture_output=True,
        text=True,
        check=True,
    )
    rule = re.search(r"^check: (.*)$", done.stdout, re.MULTILINE)
    assert rule
    return [*rule[1].split(), "smoke"]


def commands(jobs: Mapping[str, Any], key: str) -> list[str]:
    """Return the make targets of all jobs, in their order."""
    scripts = [script for job in jobs.values() for script in (job if key == "script" else job["steps"])]
    texts = [script if key == "script" else script.get("run", "") for script in scripts]
    return re.findall(r"^make ([a-z-]+)$", "\n".join(texts), re.MULTILINE)


def test_pipelines_run_the_targets_of_make_check_in_order(
    renderer: Renderer, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Between them they prepare the machine, and beside them they scan."""
    github = renderer(tmp_path / "github", {"ci": "github"}).path
    gitlab = renderer(tmp_path / "gitlab", {"ci": "gitlab"}).path
    workflow = yaml.safe_load((github / ".github/workflows/chassis.yml").read_text(encoding="utf-8"))
    jobs = yaml.safe_load((gitlab / ".gitlab/chassis.yml").read_text(encoding="utf-8"))
    scripts = {name: jobs[name]["script"] for name in ("code", "smoke", "scans")}
    for service, found in ((github, commands(workflow["jobs"], "steps")), (gitlab, commands(scripts, "script"))):
        assert [target for target in found if target in order(service, tool)] == order(service, tool)
        extra = [target for target in found if target not in order(service, tool)]
        assert extra == ["setup", "servers", "build", "audit", "secrets", "lint-image"]


def test_every_action_is_pinned_and_says_why_it_is_not_run(renders: list[Render]) -> None:
    """All other steps of the workflows are run by the tests."""
    used = {
        match
        for render in renders
        for path, content in render.files().items()
        if path.startswith(".github/workflows/")
        for match in re.findall(
            r"uses: (?!\./)(\S+?)@([0-9a-f]{40}) # v[\d.]+$|uses: (?!\./)(\S+)$", content.decode(), re.MULTILINE
        )
    }
    assert {name for name, _, _ in used} == set(ACTIONS)
    assert {unpinned for _, _, unpinned in used} == {""}


def test_github_release_publishes_the_images_that_it_tested(service: Callable[..., Path], tools: Tools) -> None:
    """Each image is started and scanned before it is pushed, and signed by its digest."""
    GitHub(service(), tools, TAG).run("chassis-release")
    calls = tools.called()
    repository = "ghcr.io/acme/orders"
    built = [
        f"make smoke IMAGE={repository}:0.1.0-amd64",
        f"make scan sbom IMAGE={repository}:0.1.0-amd64 STAGE=",
        f"docker push --quiet {repository}:0.1.0-amd64",
        f"cosign attest --yes --type spdxjson --predicate sbom.spdx.json {IMAGE}",
        f"make scan sbom IMAGE={repository}:0.1.0-amd64-backup STAGE=backup",
        f"docker push --quiet {repository}:0.1.0-amd64-backup",
        f"docker buildx imagetools create --tag {repository}:0.1.0 {repository}:0.1.0-amd64 {repository}:0.1.0-arm64",
        f"cosign sign --yes --recursive {IMAGE}",
    ]
    assert [call for call in calls if call in built] == [*built[:4], *built[4:6], built[3], *built[6:], built[7]]
    logins = [call for call in calls if call.startswith("docker login")]
    assert set(logins) == {"docker login ghcr.io --username jo --password-stdin"}


@pytest.mark.parametrize("refused", ["make smoke", "make scan", "docker push", "cosign attest"])
def test_release_that_fails_publishes_nothing(refused: str, service: Callable[..., Path], tools: Tools) -> None:
    """An image that does not start or has a known vulnerability is not pushed."""
    tools.refuse(refused)
    with pytest.raises(AssertionError):
        GitHub(service(), tools, TAG).run("chassis-release")
    calls = tools.called()
    assert [call for call in calls if "imagetools create" in call or "cosign sign" in call] == []
    assert any(call.startswith("docker push") for call in calls) == (refused in ("docker push", "cosign attest"))


def test_release_of_another_version_is_refused(service: Callable[..., Path], tools: Tools) -> None:
    """The tag must be the version that the service reports."""
    done = subprocess.run(
        ["tools/release.sh", "build"],
        cwd=service(), env=tools.environment(TAG="v0.2.0", REPOSITORY="r"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "The tag v0.2.0 is not the version in pyproject.toml: tag v0.1.0, or change the version.\n"
    assert tools.called() == []


def test_github_release_starts_the_deployment(service: Callable[..., Path], tools: Tools) -> None:
    GitHub(service(), tools, TAG).run("release")
    assert tools.called() == ["gh workflow run deploy.yml --ref v0.1.0"]


def test_github_deploys_to_staging_and_then_the_same_images_to_production(
    service: Callable[..., Path], tools: Tools, site: Site, tmp_path: Path
) -> None:
    """The images are found and their signature is checked once. The environments have the rules for approval."""
    path, machine = service(), tmp_path / "machine"
    machine.mkdir()
    github = GitHub(path, tools, TAG, **contexts(site, machine))
    staging, production = github.workflow("deploy")["jobs"].values()
    assert (staging["with"]["environment"], production["with"]["environment"]) == ("staging", "production")
    assert production["needs"] == "compose-staging"
    assert production["with"]["release"] == "${{ needs.compose-staging.outputs.release }}"
    assert github.workflow("chassis-deploy")["jobs"]["deploy"]["environment"] == "${{ inputs.environment }}"
    assert production["secrets"]["LOAD_CREDENTIALS"] == "${{ secrets.LOAD_CREDENTIALS }}"
    outputs = run(github, tools, staging["with"])
    calls = tools.called()
    identity = "https://github.com/Acme/Orders/.github/workflows/chassis-release.yml@refs/tags/v0.1.0"
    assert (
        f"cosign verify --certificate-identity {identity}"
        f" --certificate-oidc-issuer https://token.actions.githubusercontent.com {IMAGE}" in calls
    )
    assert f"deploy.sh deploy 0.1.0 IMAGE={IMAGE}" in calls
    assert f"make load PROFILE=smoke URL={site.url}" in calls
    assert (machine / "compose.yaml").exists()
    run(github, tools, {**production["with"], "release": outputs["deploy.release"]})
    calls = tools.called()
    assert [call for call in calls if call.startswith("cosign")] == []
    assert f"deploy.sh deploy 0.1.0 IMAGE={IMAGE}" in calls
    assert f"make load PROFILE=read URL={site.url}" in calls
    assert site.paths == []


def contexts(site: Site, machine: Path) -> dict[str, Mapping[str, str]]:
    """The variables and secrets of an environment."""
    variables = {name: VALUES[name] for name in ("DEPLOY_HOST", "DEPLOY_HOST_KEY")}
    return {
        "vars": {**variables, "DEPLOY_URL": site.url, "DEPLOY_FOLDER": str(machine)},
        "secrets": {"DEPLOY_SSH_KEY": "the-key"},
    }


def run(github: GitHub, tools: Tools, given: Mapping[str, Any]) -> dict[str, str]:
    """Run a deployment with the recorder of deploy.sh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALLED", str(tools.folder / "called"))
        patch.setenv("REFUSED", str(tools.folder / "refused"))
        return github.run("chassis-deploy", **{name: str(value) for name, value in given.items()})


Promote = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def promote(service: Callable[..., Path], tools: Tools, site: Site, tmp_path: Path) -> Promote:
    """Runs deploy/promote.sh for a machine with Docker Compose."""
    path, machine = service(), tmp_path / "machine"
    machine.mkdir()

    def run(**values: str) -> "subprocess.CompletedProcess[str]":
        given = {**VALUES, "DEPLOY_URL": site.url, "DEPLOY_FOLDER": str(machine), **values}
        recorder = {"CALLED": str(tools.folder / "called"), "REFUSED": str(tools.folder / "refused")}
        environment = {name: value for name, value in tools.environment(**given, **recorder).items() if value}
        return subprocess.run(
            ["deploy/promote.sh", "compose", "production"],
            cwd=path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def deployments(tools: Tools) -> list[str]:
    return [call.split(" IMAGE")[0] for call in tools.called() if call.startswith("deploy.sh")]


def test_promotion_of_a_good_release_leaves_it_serving(promote: Promote, tools: Tools, site: Site) -> None:
    done = promote()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"production runs 0.1.0 ({IMAGE})."
    assert deployments(tools) == ["deploy.sh deploy 0.1.0"]
    assert len(site.paths) == 100


def test_promotion_that_cannot_deploy_does_not_roll_back(promote: Promote, tools: Tools) -> None:
    """`deploy.sh` leaves the release before it in place."""
    tools.refuse("deploy.sh deploy")
    done = promote()
    assert done.returncode == 1
    assert "The deployment of 0.1.0 to production failed. The version that serves: " in done.stderr
    assert deployments(tools) == ["deploy.sh deploy 0.1.0"]


def test_promotion_rolls_back_if_requests_fail(promote: Promote, tools: Tools, site: Site) -> None:
    site.status = 502
    done = promote()
    assert done.returncode == 1
    assert "100 of 100 requests failed." in done.stdout
    assert done.stderr.endswith("0.1.0 failed its checks, so production runs the previous release.\n")
    assert deployments(tools) == ["deploy.sh deploy 0.1.0", "deploy.sh rollback"]


def test_promotion_rolls_back_if_another_version_serves(promote: Promote, tools: Tools) -> None:
    done = promote(VERSION="0.1.1")
    assert done.returncode == 1
    assert "The version that serves is 0.1.0, not 0.1.1." in done.stdout
    assert deployments(tools) == ["deploy.sh deploy 0.1.1", "deploy.sh rollback"]


def test_promotion_rolls_back_if_the_release_is_not_ready(promote: Promote, tools: Tools) -> None:
    tools.refuse("docker compose --file compose.yaml exec")
    assert "The release is not ready." in promote().stdout
    assert deployments(tools) == ["deploy.sh deploy 0.1.0", "deploy.sh rollback"]


def test_promotion_rolls_back_if_an_objective_is_missed(promote: Promote, tools: Tools) -> None:
    tools.refuse("make load ")
    assert "make load missed an objective." in promote(LOAD="yes").stdout
    assert deployments(tools) == ["deploy.sh deploy 0.1.0", "deploy.sh rollback"]


def test_promotion_whose_load_test_cannot_start_deploys_nothing(promote: Promote, tools: Tools) -> None:
    tools.refuse("make --silent load-check PROFILE=read")
    assert promote(LOAD="yes", PROFILE="read").returncode == 1
    assert deployments(tools) == []


def test_promotion_that_cannot_roll_back_says_so(promote: Promote, tools: Tools, site: Site) -> None:
    site.status = 500
    tools.refuse("deploy.sh rollback")
    assert promote().stderr.endswith("The rollback of production failed too: see docs/runbook.md.\n")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"IMAGE": "ghcr.io/acme/orders:0.1.0"}, "IMAGE: a tag can change its image; give the digest"),
        ({"DEPLOY_URL": ""}, "DEPLOY_URL: is the address of the environment"),
        ({"DEPLOY_FOLDER": ""}, "DEPLOY_FOLDER: is the folder of the service on the machine"),
    ],
    ids=["tag", "url", "folder"],
)
def test_promotion_without_a_value_names_it(
    values: Mapping[str, str], says: str, promote: Promote, tools: Tools
) -> None:
    done = promote(**values)
    assert done.returncode != 0
    assert says in done.stderr
    assert deployments(tools) == []


def gitlab(service: Path, tools: Tools, tool: Callable[[str], str], *arguments: str, **variables: str) -> str:
    """Run jobs with gitlab-ci-local, in shells of this machine. Return what it says."""
    program = tool(str(ROOT / "node_modules/.bin/gitlab-ci-local"))
    environment = tools.environment(CALLED=str(tools.folder / "called"), REFUSED=str(tools.folder / "refused"))
    environment["PATH"] = os.pathsep.join([str(tools.folder), str(ROOT / "node_modules/.bin"), os.environ["PATH"]])
    given = [part for name, value in variables.items() for part in ("--variable", f"{name}={value}")]
    done = subprocess.run(
        [program, "--force-shell-executor", "--no-color", "--concurrency", "1", *given, *arguments],
        cwd=service, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_gitlab_checks_a_push(service: Callable[..., Path], tools: Tools, tool: Callable[[str], str]) -> None:
    """It runs what GitHub runs."""
    gitlab(service(ci="gitlab"), tools, tool)
    calls = [call.removeprefix("make ") for call in tools.called() if call.startswith("make ")]
    assert sorted(calls) == sorted(
        [
            "setup",
            "lint",
            "types",
            "servers",
            "test",
            "test-chassis",
            "audit",
            "secrets",
            "lint-image",
            "build",
            "smoke",
        ]
    )


@pytest.mark.parametrize(
    ("monitoring", "profiles"), [([], []), (["prometheus"], ["smoke", "read"])], ids=["requests", "load"]
)
def test_gitlab_releases_a_tag_and_deploys_it(
    monitoring: list[str],
    profiles: list[str],
    service: Callable[..., Path],
    tools: Tools,
    tool: Callable[[str], str],
    site: Site,
    tmp_path: Path,
) -> None:
    """The digest that `publish` passes on is deployed to staging, and to production once a person starts that job."""
    path, machine = service(ci="gitlab", monitoring=monitoring), tmp_path / "machine"
    machine.mkdir()
    values = {**VALUES, "DEPLOY_URL": site.url, "DEPLOY_FOLDER": str(machine)}
    del values["VERSION"], values["IMAGE"]
    registry = {"CI_REGISTRY": "registry.gitlab.com", "CI_REGISTRY_IMAGE": "registry.gitlab.com/acme/orders"}
    known = {**values, **registry, "CI_COMMIT_TAG": TAG, "CI_REGISTRY_USER": "jo", "CI_REGISTRY_PASSWORD": "secret"}
    gitlab(path, tools, tool, "release", "publish", "compose-staging", **known)
    calls = tools.called()
    image = f"registry.gitlab.com/acme/orders@{DIGEST}"
    assert f"cosign sign --yes --recursive {image}" in calls
    assert f"cosign attest --yes --type slsaprovenance1 --predicate provenance.json {image}" in calls
    assert [call for call in calls if call.startswith("deploy.sh")] == [f"deploy.sh deploy 0.1.0 IMAGE={image}"]
    listed = gitlab(path, tools, tool, "--list-csv", **known)
    assert re.search(r"^compose-production;production;manual;", listed, re.MULTILINE)
    gitlab(path, tools, tool, "compose-production", **known)
    calls += tools.called()
    assert [call for call in calls if call.startswith("deploy.sh")] == [f"deploy.sh deploy 0.1.0 IMAGE={image}"] * 2
    assert [call for call in calls if "make load" in call] == [
        f"make load PROFILE={profile} URL={site.url}" for profile in profiles
    ]
    assert site.paths == ["/api/v1/notes"] * (0 if profiles else 200)


ADVISORY = {
    "id": "TEST-1",
    "modified": "2026-01-01T00:00:00Z",
    "summary": "A fault of idna.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "idna"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """The service of osv.dev, which knows one vulnerability."""

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        found = [{"vulns": [ADVISORY]} if query["package"]["name"] == "idna" else {} for query in queries]
        self._send({"results": found})

    def do_GET(self) -> None:
        self._send(ADVISORY)

    def _send(self, answer: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def osv() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def small(renderer: Renderer, tmp_path: Path) -> Path:
    """A small service in a repository."""
    path = renderer(tmp_path / "small", {"database": "none", "features": [], "monitoring": []}).path
    commit(path, TAG)
    return path


@pytest.mark.stacks
@pytest.mark.xdist_group("audit")  # a group, so that it starts early: it waits for minutes
def test_make_audit_fails_on_a_known_vulnerability_and_if_it_cannot_ask(small: Path, osv: str) -> None:
    """An ignored one passes. An audit that reaches no database never passes."""
    vulnerable = make(small, "audit", f"OPTIONS=--service-url {osv}")
    assert vulnerable.returncode == 2
    assert "TEST-1" in vulnerable.stdout
    assert make(small, "audit", f"OPTIONS=--service-url {osv} --ignore TEST-1").returncode == 0
    assert make(small, "audit", "OPTIONS=--service-url http://127.0.0.1:9").returncode == 2


@pytest.mark.stacks
def test_make_secrets_finds_a_key_in_a_file_that_git_tracks(small: Path) -> None:
    """A fresh service has no secret. An example of a password in a URL is not one."""
    passed = make(small, "secrets")
    assert passed.returncode == 0, passed.stdout
    (small / "src/my_service/keys.py").write_text(f'KEY = "AKIA{"Z" * 12}ABCD"\n', encoding="utf-8")
    (small / "notes.txt").write_text("postgresql://jo:hunter2@db.internal/orders\n", encoding="utf-8")
    subprocess.run(["git", "add", "-A"], cwd=small, check=True)
    found = make(small, "secrets")
    assert found.returncode == 2
    assert set(re.findall(r"Location: +(\S+):1", found.stdout)) == {"src/my_service/keys.py", "notes.txt"}


@pytest.mark.stacks
def test_make_lint_image_finds_a_fault_of_the_dockerfile(small: Path) -> None:
    assert make(small, "lint-image").returncode == 0
    dockerfile = small / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text("utf-8") + "RUN cd /tmp\n", encoding="utf-8")
    found = make(small, "lint-image")
    assert found.returncode == 2
    assert "DL3003" in found.stdout


@pytest.fixture
def registry(tool: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """A registry on this machine."""
    program = tool("docker-registry")
    with private_servers.reserved_port() as port:
        configuration = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        (tmp_path / "registry.yml").write_text(json.dumps(configuration), encoding="utf-8")
        process = subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).status == 200)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.containers
@pytest.mark.xdist_group("containers")
def test_release_publishes_an_image_that_starts(
    renderer: Renderer, tools: Tools, registry: str, tmp_path: Path
) -> None:
    """The image is built, started, pushed and joined for real. Its name with the digest is the one that was tested."""
    require_engine()
    answers = {"service_name": "released", "database": "none", "features": [], "monitoring": []}
    service = renderer(tmp_path / "released", answers).path
    require("stand_ins.sh", *base_images(service))
    for name in ("docker", "make"):
        (tools.folder / name).unlink()
    given = tools.environment(
        TAG=TAG,
        REPOSITORY=f"{registry}/Acme/Released",
        PLATFORMS="amd64",
        MAKEFLAGS="TRIVY=true",
        HOME=os.environ["HOME"],
    )
    built = engine_build("tools/release.sh", "build", cwd=service, env=given)
    assert "SIGTERM ends it with exit code 0: ok" in built
    published = dict(
        line.split("=", 1) for line in engine("tools/release.sh", "publish", cwd=service, env=given).splitlines()
    )
    image, repository = published["IMAGE"], f"{registry}/acme/released"
    try:
        assert image == f"{repository}@{published['DIGEST']}"
        tested = engine("docker", "image", "inspect", "--format", "{{.Id}}", f"{repository}:0.1.0-amd64")
        engine("docker", "rmi", "--force", f"{repository}:0.1.0-amd64")
        engine("docker", "pull", "--quiet", image)
        assert engine("docker", "image", "inspect", "--format", "{{.Id}}", image) == tested
        assert f"cosign sign --yes --recursive {image}" in tools.called()
        assert engine("tools/release.sh", "find", cwd=service, env={**given, "IDENTITY": "i", "ISSUER": "j"})
    finally:
        engine("docker", "rmi", "--force", image)


def test_deployment_of_an_image_that_is_not_signed_or_not_there_is_refused(
    service: Callable[..., Path], tools: Tools
) -> None:
    """Nothing is printed that a deployment could use."""
    path = service()
    values = {"TAG": TAG, "REPOSITORY": "registry.example.com/orders", "IDENTITY": "i", "ISSUER": "j"}
    for refused in ("cosign verify", "docker buildx imagetools inspect"):
        tools.refuse(refused)
        done = subprocess.run(
            ["tools/release.sh", "find"],
            cwd=path, env=tools.environment(**values), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
    assert "registry.example.com/orders:0.1.0 is not in the registry." in done.stderr
    assert [call for call in tools.called() if call.endswith(" ")] == []


def test_promotion_to_kubernetes_asks_a_pod_for_its_version(
    renderer: Renderer, tools: Tools, site: Site, tmp_path: Path
) -> None:
    """The kubeconfig and the secrets come from the pipeline. The image for backups has its own digest."""
    path = renderer(tmp_path / "service", {"database": "postgresql", "deployment": ["kubernetes"]}).path
    (path / "deploy/kubernetes/deploy.sh").write_text(DEPLOY, encoding="utf-8")
    kubectl = Tools(tmp_path / "kubectl", names=("kubectl",), answers={"kubectl --namespace": "0.1.0"})
    given = {**VALUES, "DEPLOY_URL": site.url, "KUBE_CONFIG": "the-config", "KUBE_SECRETS": "NAME=value"}
    environment = tools.environment(
        **given, BACKUP_IMAGE=f"r@{DIGEST}", CALLED=str(tools.folder / "called"), REFUSED=str(tools.folder / "refused")
    )
    environment["PATH"] = f"{kubectl.folder}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["deploy/promote.sh", "kubernetes", "staging"],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert deployments(tools) == [f"deploy.sh deploy staging {IMAGE} r@{DIGEST}"]
    (call,) = kubectl.called()
    assert call.endswith("exec --stdin deployment/my-service -- python -I -")
    assert (path / "deploy/kubernetes/overlays/staging/secrets.env").read_text(encoding="utf-8") == "NAME=value\n"
