"""The Kubernetes manifests of a rendered service: an API server accepts them, and they protect the service."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import promql_parser
import pytest
import yaml
from deployments.kubernetes import FOLDER, secrets_of
from kubernetes_validate import utils
from questions import ROOT
from rendering import Render, Renderer

# The oldest version that Kubernetes maintains, and the newest.
VERSIONS = ("1.34", "1.37")
# Custom resources, whose schemas are not part of Kubernetes.
CUSTOM = {"ExternalSecret", "HTTPRoute", "PrometheusRule", "ServiceMonitor"}
ENVIRONMENTS = ("staging", "production")
EVERYTHING = {"database": "postgresql", "cache": "redis", "deployment": ["kubernetes"], "monitoring": ["prometheus"]}

Manifest = dict[str, Any]
Tool = Callable[[str], str]


@dataclass(frozen=True)
class Environment:
    """The objects of an environment of a service."""

    answers: Any
    name: str
    manifests: list[Manifest]

    def of(self, kind: str) -> list[Manifest]:
        return [found for found in self.manifests if found["kind"] == kind]

    def pods(self) -> Iterator[Manifest]:
        """Yield the template of each pod."""
        for found in self.manifests:
            spec = found.get("spec", {})
            template = spec.get("jobTemplate", {"spec": spec})["spec"].get("template")
            if template and found["kind"] not in CUSTOM:
                yield template


def fill_in(service: Path) -> Path:
    """Write the secrets of each environment, as the owner does, and return the folder of the manifests."""
    folder = service / FOLDER
    text = "".join(f"{name}={value}\n" for name, value in secrets_of(folder).items())
    for name in ENVIRONMENTS:
        (folder / "overlays" / name / "secrets.env").write_text(text, encoding="utf-8")
    return folder


def build(tool: Tool, folder: Path, environment: str) -> list[Manifest]:
    """Return the objects of an environment."""
    command = [tool("kubectl"), "kustomize", str(folder / "overlays" / environment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def environments(renders: list[Render], tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> list[Environment]:
    """The environments of every render of the matrix, without those that equal another's."""
    seen: set[bytes] = set()
    found: list[Environment] = []
    for render in renders:
        files = {path: text for path, text in render.files().items() if path.startswith(f"{FOLDER}/")}
        content = b"".join(files.values())
        if files and content not in seen:
            seen.add(content)
            service = tmp_path_factory.mktemp("kubernetes")
            shutil.copytree(render.path / FOLDER, service / FOLDER)
            folder = fill_in(service)
            # The environments differ in names only, so one service has both.
            names = ENVIRONMENTS if not found else ("production",)
            found += [Environment(render.answers, name, build(tool, folder, name)) for name in names]
    assert found
    return found


@pytest.fixture
def service(renderer: Renderer, tmp_path: Path) -> Path:
    """A service with a database server, Redis and Prometheus, whose secrets are filled in."""
    path = renderer(tmp_path / "service", EVERYTHING).path
    fill_in(path)
    return path


def validate(manifest: Manifest) -> None:
    """Validate an object against the schemas of each version; an unknown kind raises as well."""
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_an_api_server_accepts_each_object(environments: list[Environment], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    found = {json.dumps(manifest) for environment in environments for manifest in environment.manifests}
    kinds = set()
    for manifest in map(json.loads, sorted(found)):
        kinds.add(manifest["kind"])
        if manifest["kind"] not in CUSTOM:
            validate(manifest)
    assert kinds >= {"CronJob", "Deployment", "HorizontalPodAutoscaler", "HTTPRoute", "Job", "PrometheusRule", "Secret"}


def test_custom_resources_conform_to_their_models(environments: list[Environment], service: Path, tool: Tool) -> None:
    """Those of the Gateway API, the Prometheus Operator and the External Secrets Operator."""
    everything = [found for environment in environments for found in environment.manifests]
    custom = {json.dumps(found) for found in everything if found["kind"] in CUSTOM}
    path = service / FOLDER / "components/external-secrets/secrets.yaml"
    custom.add(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert {json.loads(found)["kind"] for found in custom} == CUSTOM
    assert faults_of_custom_resources(tool, custom) == ""


def test_a_fault_in_a_custom_resource_is_found(tool: Tool) -> None:
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {"hostnames": "a"}}
    assert faults_of_custom_resources(tool, {json.dumps(route)}) == "HTTPRoute: data/spec/hostnames must be array\n"


def faults_of_custom_resources(tool: Tool, manifests: Iterable[str]) -> str:
    tool(str(ROOT / "node_modules/@kubernetes-models/gateway-api"))
    command = [tool("node"), str(ROOT / "tests/custom_resources.mjs")]
    text = f"[{','.join(sorted(manifests))}]"
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


def test_a_misspelt_field_is_found() -> None:
    spec = {"selector": {}, "ports": [{"port": 80, "targetProt": 8000}]}
    with pytest.raises(kubernetes_validate.ValidationError, match="targetProt"):
        validate({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})


def test_each_pod_meets_the_restricted_standard(environments: list[Environment]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and it has no token and limits."""
    for environment in environments:
        for pod in (template["spec"] for template in environment.pods()):
            assert pod["automountServiceAccountToken"] is False
            assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
            assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {
                "emptyDir", "persistentVolumeClaim", "secret"
            }  # fmt: skip
            security = pod["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in [*pod.get("initContainers", ()), *pod["containers"]]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert container["resources"].keys() == {"limits", "requests"}


def test_checkov_finds_nothing(environments: list[Environment], tool: Tool, tmp_path: Path) -> None:
    """The image is given by digest, as at a deployment. User 1000 is part of the contract."""
    for number, environment in enumerate(environments):
        text = yaml.safe_dump_all(environment.manifests)
        image = rf"image: {environment.answers['service_name']}(-backup)?$"
        text = re.sub(image, f"image: registry.example.com/a@sha256:{'0' * 64}", text, flags=re.MULTILINE)
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    options = ("--skip-download", "--framework=kubernetes", "--skip-check=CKV_K8S_40", "--quiet", "--compact")
    command = [tool("uv"), "tool", "run", "--quiet", "--from", "checkov>=3.3,<4", "checkov", *options, "--directory=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_replicas_are_those_that_the_database_allows(environments: list[Environment]) -> None:
    """A database in a file has one pod, which is stopped before the next one starts. A server has a pool of them."""
    for environment in environments:
        (deployment,) = (found["spec"] for found in environment.of("Deployment"))
        database = environment.answers["databases"][environment.answers["database"]]
        assert (deployment["strategy"]["type"] == "Recreate") == database["file"]
        several = database["replicas"] == "many"
        assert ("replicas" not in deployment) == several
        assert [len(environment.of(kind)) for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget")] == [
            several
        ] * 2
        assert bool(environment.of("Job")) == (environment.answers["migration"] == "job")


def test_services_select_only_pods_that_serve(environments: list[Environment]) -> None:
    """A job that migrates or backs up gets no requests."""
    for environment in environments:
        for found in environment.of("Service"):
            selected = [
                pod
                for pod in environment.pods()
                if found["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            ]
            assert [pod["spec"]["containers"][0]["name"] for pod in selected] == ["service"]


def test_traffic_is_denied_unless_a_policy_allows_it(environments: list[Environment]) -> None:
    """Every pod is isolated in both directions. Only Prometheus reaches the metrics, and no public route does."""
    for environment in environments:
        policies = [found["spec"] for found in environment.of("NetworkPolicy")]
        isolating = [spec for spec in policies if spec["policyTypes"] == ["Ingress", "Egress"]]
        for pod in environment.pods():
            assert any(
                spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for spec in isolating
            )
        rules = [rule for spec in policies for rule in spec.get("ingress", ())]
        assert all(rule["from"] for rule in rules)
        sources = [rule["from"] for rule in rules if {"protocol": "TCP", "port": "metrics"} in rule["ports"]]
        assert len(sources) == ("prometheus" in environment.answers["monitoring"])
        assert all("prometheus" in json.dumps(source) for source in sources)
        (public,) = (
            found["spec"]["ports"] for found in environment.of("Service") if found["spec"].get("clusterIP") != "None"
        )
        assert [port["targetPort"] for port in public] == ["http"]


def test_health_is_not_public(environments: list[Environment]) -> None:
    for environment in environments:
        (route,) = environment.of("HTTPRoute")
        assert [match["path"]["value"] for rule in route["spec"]["rules"] for match in rule["matches"]] == ["/api"]


def test_each_environment_has_its_own_host_and_namespace(environments: list[Environment]) -> None:
    for environment in environments:
        assert {found["metadata"]["namespace"] for found in environment.manifests} == {
            f"{environment.answers['service_name']}-{environment.name}"
        }
        (settings,) = (found["data"] for found in environment.of("ConfigMap"))
        (route,) = environment.of("HTTPRoute")
        assert settings["ENVIRONMENT"] == environment.name
        assert route["spec"]["hostnames"] == [settings["ALLOWED_HOSTS"]]


def test_secrets_are_only_in_the_secret(service: Path, tool: Tool) -> None:
    """Git ignores the file with the secrets, and a pod reads them from files."""
    subprocess.run(["git", "init", "--quiet"], cwd=service, check=True)
    path = FOLDER / "overlays/production/secrets.env"
    subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=service, check=True)
    manifests = build(tool, service / FOLDER, "production")
    values = secrets_of(service / FOLDER)
    others = json.dumps([found for found in manifests if found["kind"] != "Secret"])
    assert values
    assert not [name for name, value in values.items() if name in others or value in others]


def test_an_ingress_and_a_secret_store_take_the_place_of_gateway_and_file(service: Path, tool: Tool) -> None:
    """The edits that docs/options/kubernetes.md describes."""
    overlay = service / FOLDER / "overlays/production"
    (overlay / "secrets.env").unlink()
    path = overlay / "kustomization.yaml"
    text = re.sub(r"secretGenerator:\n(  .*\n)+", "", path.read_text(encoding="utf-8"))
    text = re.sub(r"patches:\n(  .*\n)+", "", text)
    text = text.replace(
        "  - ../../components/gateway ", "  - ../../components/external-secrets\n  - ../../components/ingress "
    )
    page = (service / "docs/options/kubernetes.md").read_text(encoding="utf-8")
    (patches,) = re.findall(r"```yaml\n(patches:\n.*?kind: Ingress.*?)```", page, re.DOTALL)
    path.write_text(text + patches, encoding="utf-8")
    manifests = build(tool, service / FOLDER, "production")
    kinds = {found["kind"]: found for found in manifests}
    assert {"HTTPRoute", "Secret"}.isdisjoint(kinds)
    validate(kinds["Ingress"])
    assert kinds["Ingress"]["spec"]["rules"][0]["host"] == "api.example.com"
    (deployment,) = (found for found in manifests if found["kind"] == "Deployment")
    (volume,) = (row for row in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in row)
    assert volume["secret"]["secretName"] == kinds["ExternalSecret"]["spec"]["target"]["name"]


def test_rules_of_the_cluster_are_those_of_the_service(service: Path, tool: Tool, tmp_path: Path) -> None:
    """The rendered file is what `make kubernetes-rules` writes. If this fails, run `make docs`."""
    path = service / FOLDER / "rules/rules.yaml"
    rendered = path.read_text(encoding="utf-8")
    subprocess.run([sys.executable, "tools/kubernetes_rules.py"], cwd=service, check=True)
    assert path.read_text(encoding="utf-8") == rendered
    rules = yaml.safe_load(rendered)["spec"]
    own = tmp_path / "rules.yml"
    own.write_text(yaml.safe_dump(rules), encoding="utf-8")
    done = subprocess.run([tool("promtool"), "check", "rules", str(own)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        selectors = list(matchers(promql_parser.parse(rule["expr"])))
        assert selectors or "vector(" in rule["expr"], rule
        assert all('job=~".+/my-service"' in names for names in selectors), rule
        assert "externalLabels" not in json.dumps(rule)


def matchers(expression: Any) -> Iterator[list[str]]:
    """Yield the matchers of each selector in a query."""
    if selector := getattr(expression, "matchers", None):
        yield [f'{row.name}{OPERATORS[str(row.op)]}"{row.value}"' for row in selector.matchers]
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (inside := getattr(expression, name, None)) is not None and not isinstance(inside, str):
            yield from matchers(inside)
    for argument in getattr(expression, "args", None) or ():
        yield from matchers(argument)


OPERATORS = {"MatchOp.Re": "=~", "MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.NotRe": "!~"}


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("up", 'up{job="a"}'),
        ('up{job!="monitoring"} == 0', 'up{job="a"} == 0'),
        ('up{job="other"}', 'up{job="other"}'),
        ('a{x="{up},,"} / on (job) b', 'a{job="a",x="{up},,"} / on (job) b{job="a"}'),
        (
            "sum without (le) (rate(a:b[5m] offset 1h)) > 1e3",
            'sum without (le) (rate(a:b{job="a"}[5m] offset 1h)) > 1e3',
        ),
        ("time() -\n  max by (job) (a) > 26 * 3600", 'time() - max by (job) (a{job="a"}) > 26 * 3600'),
        ("a * on (job) group_left b or vector(0)", 'a{job="a"} * on (job) group_left b{job="a"} or vector(0)'),
    ],
)
def test_a_query_is_restricted_to_one_job(query: str, result: str) -> None:
    scoped = runpy.run_path(str(ROOT / "template/tools/kubernetes_rules.py"))["scoped"]
    assert scoped(query, 'job="a"') == result


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "deploy.sh deploy ENVIRONMENT IMAGE"),
        (("deploy", "prod", "a:1"), "prod is not an environment: use one of production staging"),
        (("deploy", "staging"), "Which image?"),
        (("deploy", "staging", "a; b"), "Which image?"),
        (("deploy", "staging", "", "a@sha256:b"), "Which image?"),
        (("deploy", "staging", "a@sha256:b"), "Which image backs up? For example BACKUP_IMAGE=a@sha256:..."),
        (("destroy", "staging"), "destroy is not a command: use deploy or rollback"),
    ],
)
def test_deploy_refuses_what_it_does_not_know(arguments: tuple[str, ...], says: str, service: Path) -> None:
    done = subprocess.run([service / FOLDER / "deploy.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith(says)
