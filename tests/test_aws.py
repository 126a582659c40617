"""The deployment on AWS: Terraform accepts it, a policy scanner accepts it, and a simulated AWS runs it.

`make aws` runs the tests with the mark `aws`, which share one environment: the commands of the documents create it in
the simulator, release into it, and destroy it.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import private_servers
import pytest
from aws.documented import FIRST, RELEASE, REMOVE, RESTORE, RUNBOOK, WALKS
from deployments import read
from documented import Walk
from live import environment
from questions import ROOT
from rendering import Renderer
from sqlalchemy import URL, create_engine, make_url, text

ACCOUNT = "123456789012"
EVERYTHING = {"framework": "fastapi", "database": "postgresql", "cache": "redis", "repository": "acme/orders"}
# One service for each file that is not always there.
SERVICES: dict[str, dict[str, Any]] = {
    "everything": EVERYTHING,
    "bare": {"framework": "flask", "database": "none", "features": [], "monitoring": []},
    "mysql": {"framework": "flask", "database": "mysql", "features": [], "service_name": "a" * 32},
}
CHECKOV = "checkov>=3.3,<3.4"
SIMULATOR = ("moto[server]>=5.2,<5.3", "awscli>=1.46,<2")
# What a simulator needs that real storage does not.
SIMULATED = ("use_path_style", "skip_credentials_validation")
PROVIDER = """
provider "aws" {
  max_retries                 = 3
  s3_use_path_style           = true
  skip_credentials_validation = true
}
"""
NAME = WALKS.answers["service_name"]
REPOSITORY = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/seaworthy-docs-production"


@pytest.fixture(scope="session")
def terraform(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Terraform with a provider that is already on this machine, if there is one."""
    command = tool("terraform")
    mirrors = [*Path("/opt").glob("*/registry.terraform.io"), *Path.home().glob(".terraform.d/plugins/registry.*")]
    settings = tmp_path_factory.mktemp("terraform") / "terraformrc"
    rows = [f"filesystem_mirror {{\n path = {json.dumps(str(mirror.parent))}\n }}" for mirror in mirrors[:1]]
    settings.write_text("\n".join(["provider_installation {", *(rows or ["direct {}"]), "}"]), encoding="utf-8")

    def run(*arguments: str, cwd: Path) -> str:
        # Most of the time goes into reading the schema of the provider; less frequent garbage collection saves a third.
        variables = environment(TF_CLI_CONFIG_FILE=str(settings), TF_IN_AUTOMATION="1", GOGC="400")
        done = subprocess.run(
            [command, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.settings = settings  # type: ignore[attr-defined]
    return run


@pytest.mark.xdist_group("terraform")
class TestWithoutAnAccount:
    """The files, before Terraform creates anything."""

    @pytest.mark.parametrize("name", SERVICES)
    def test_terraform_accepts_each_service(
        self, name: str, terraform: Callable[..., str], renderer: Renderer, tmp_path: Path
    ) -> None:
        """The test that the owner has passes. Before it plans, Terraform validates the files, as the provider does."""
        folder = renderer(tmp_path, SERVICES[name] | {"deployment": ["aws"]}).path / "deploy/aws/service"
        terraform("init", "-backend=false", cwd=folder)
        assert "0 failed" in terraform("test", "-no-color", cwd=folder)

    def test_terraform_accepts_both_environments(
        self, terraform: Callable[..., str], renderer: Renderer, tmp_path: Path
    ) -> None:
        """Their files depend on the name of the service only, so one service shows it for all."""
        folder = renderer(tmp_path, EVERYTHING | {"deployment": ["aws"]}).path / "deploy/aws"
        for name in ("staging", "production"):
            source = ROOT / "template/deploy/aws" / name / "main.tf.jinja"
            assert set(re.findall(r"{[{%] *(.*?) *[}%]}", source.read_text(encoding="utf-8"))) == {"service_name"}
            terraform("init", "-backend=false", cwd=folder / name)
            terraform("validate", cwd=folder / name)

    @pytest.mark.stacks
    def test_a_policy_scanner_finds_nothing_without_a_reason(
        self, tool: Callable[[str], str], renderer: Renderer, tmp_path: Path
    ) -> None:
        """Each check that the files skip has its reason beside it, and would fail otherwise."""
        folder = renderer(tmp_path, EVERYTHING | {"deployment": ["aws"]}).path / "deploy/aws/service"
        command = [tool("uv"), "tool", "run", "--quiet", "--from", CHECKOV, "checkov", "--skip-download"]
        done = subprocess.run(
            [*command, "--framework=terraform", "--output=json", "--directory", str(folder)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        report = json.loads(done.stdout)
        results = report["results"]
        assert report["summary"]["parsing_errors"] == 0
        assert [(check["check_id"], check["resource"]) for check in results["failed_checks"]] == []
        used = {(check["file_path"], check["check_id"]) for check in results["skipped_checks"]}
        written = {
            (f"/{path.name}", line.split("=")[1].split(":")[0])
            for path in folder.glob("*.tf")
            for line in path.read_text(encoding="utf-8").splitlines()
            if "#checkov:skip=" in line
        }
        assert written - used == set()


@pytest.mark.parametrize("database", ["postgresql", "mysql"])
def test_the_service_gets_a_user_who_owns_one_database(database: str, renderer: Renderer, tmp_path: Path) -> None:
    """The first container of a migration creates both, and changes the password when it runs again."""
    answers = {"framework": "flask", "database": database, "deployment": ["aws"]}
    service = renderer(tmp_path / "service", answers).path
    script = service / f"deploy/aws/service/{database}.py"
    server = make_url(private_servers.settings(service, tmp_path / "scratch")["DATABASE_URL"])
    given = {"sslmode": "prefer"} if database == "postgresql" else {}
    user = URL.create(database, "aws_service", "first", server.host, server.port, "aws_service", given)
    administrator = {"ADMINISTRATOR_NAME": server.username or "", "ADMINISTRATOR_PASSWORD": server.password or ""}
    for password in ("first", "second"):
        url = user.set(password=password).render_as_string(hide_password=False)
        subprocess.run(
            [sys.executable, "-Ic", script.read_text(encoding="utf-8")],
            env={**os.environ, **administrator, "DATABASE_URL": url}, check=True,
        )  # fmt: skip
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}[database]
    engine = create_engine(user.set(drivername=driver, password="second"), isolation_level="AUTOCOMMIT")  # noqa: S106
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE aws_table (id INTEGER)"))
        connection.execute(text("DROP TABLE aws_table"))
        with pytest.raises(Exception, match="denied"):
            connection.execute(text("CREATE DATABASE aws_other"))
    engine.dispose()


class Account:
    """The simulated account, seen through the AWS CLI."""

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        self.variables = variables
        self.folder = folder

    def ask(self, *arguments: str) -> Any:
        """Return what a call of the AWS CLI returns."""
        done = self.run("aws", *arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the service, with the account."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**environment(), **self.variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def account(
    tool: Callable[[str], str], terraform: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, template: Path
) -> Iterator[Account]:
    """An account of the simulator with the service in `production`, as the documents create it."""
    scratch = tmp_path_factory.mktemp("aws")
    service = Renderer(template)(scratch / "service", WALKS.answers).path
    python = scratch / "simulator/bin/python"
    subprocess.run([tool("uv"), "venv", "--quiet", "--python", sys.executable, str(python.parents[1])], check=True)
    install = [tool("uv"), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *SIMULATOR]
    subprocess.run(install, check=True)
    with private_servers.reserved_port() as port, (scratch / "simulator.log").open("wb") as log:
        simulator = [str(python), str(Path(__file__).parent / "aws/simulator.py"), str(port)]
        process = subprocess.Popen(simulator, cwd=scratch, stdout=log, stderr=subprocess.STDOUT)
        try:
            variables = {
                "PATH": f"{python.parent}{os.pathsep}{environment()['PATH']}",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "eu-central-1",
                "TF_CLI_CONFIG_FILE": str(terraform.settings),  # type: ignore[attr-defined]
                "TF_CLI_ARGS_init": " ".join(f"-backend-config={name}=true" for name in SIMULATED),
                "POLL_SECONDS": "0",
            }
            there = Account(variables, service)
            deadline = time.monotonic() + 60
            while there.run("aws", "sts", "get-caller-identity").returncode != 0:
                assert time.monotonic() < deadline, (scratch / "simulator.log").read_text()
            override = service / "deploy/aws/production/simulator_override.tf"
            override.write_text(PROVIDER, encoding="utf-8")
            there.ask("route53", "create-hosted-zone", "--name=example.com", "--caller-reference=tests")
            yield there
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def walk(account: Account, request: pytest.FixtureRequest) -> Iterator[Walk]:
    """The commands of the documents, with the variables of the account."""
    pages = account.folder.rglob("*.md")
    files = {path.relative_to(account.folder).as_posix(): path.read_bytes() for path in pages}
    walk = Walk(account.folder, WALKS.commands(files))
    walk.exported = [f"export {name}='{value}'" for name, value in account.variables.items()]
    yield walk
    assert request.session.testsfailed or walk.left == []


@pytest.mark.aws
@pytest.mark.xdist_group("aws")
class TestInASimulatedAccount:
    """One environment from its creation to its end. Each test goes on where the one before it ended."""

    def test_the_environment_is_created_as_the_page_says(self, walk: Walk, account: Account) -> None:
        walk.shell(FIRST, 3)
        main = account.folder / "deploy/aws/production/main.tf"
        text = main.read_text(encoding="utf-8")
        text = text.replace("secrets = []", 'secrets = ["BACKUP_KEY"]').replace(
            'zone   = "example.com"', 'zone   = "example.com"\n  waf = true\n  deletion_protection = false'
        )
        main.write_text(text, encoding="utf-8")
        walk.shell(FIRST, 3)
        walk.shell(FIRST, 1)
        walk.shell(FIRST, values={"NAME": "BACKUP_KEY", "VALUE": "secret"})
        url = account.ask("secretsmanager", "get-secret-value", "--secret-id=seaworthy-docs/production/DATABASE_URL")
        password = make_url(url["SecretString"]).password
        assert password
        state = account.run("aws", "s3", "cp", "s3://my-terraform-states/seaworthy-docs/production.tfstate", "-").stdout
        assert "aws_ecs_service" in state
        assert password not in state

    def test_clients_reach_the_service_by_https_only(self, account: Account) -> None:
        (balancer,) = account.ask("elbv2", "describe-load-balancers")["LoadBalancers"]
        listeners = account.ask("elbv2", "describe-listeners", "--load-balancer-arn", balancer["LoadBalancerArn"])
        by_port = {row["Port"]: row for row in listeners["Listeners"]}
        assert by_port[80]["DefaultActions"][0]["RedirectConfig"]["StatusCode"] == "HTTP_301"
        assert by_port[443]["Protocol"] == "HTTPS"
        assert by_port[443]["Certificates"]
        rules = account.ask("elbv2", "describe-rules", "--listener-arn", by_port[443]["ListenerArn"])["Rules"]
        refused = [rule["Conditions"][0]["PathPatternConfig"]["Values"] for rule in rules if not rule["IsDefault"]]
        assert [sorted(paths) for paths in refused] == [["/health", "/health/", "/health/live", "/health/started"]]
        (group,) = account.ask("elbv2", "describe-target-groups")["TargetGroups"]
        assert group["HealthCheckPath"] == "/health/ready"
        assert len(account.ask("wafv2", "list-web-acls", "--scope=REGIONAL")["WebACLs"]) == 1

    def test_the_tasks_get_what_the_target_declares(self, account: Account) -> None:
        """The definition that AWS has is the one that the contract of targets reads from the files."""
        target = read("aws", account.folder)
        definition = account.ask("ecs", "describe-task-definition", "--task-definition=seaworthy-docs-production")
        (container,) = definition["taskDefinition"]["containerDefinitions"]
        plain = {row["name"]: row["value"] for row in container["environment"]}
        secret = {row["name"] for row in container["secrets"]}
        assert secret == target.secrets | {"BACKUP_KEY"}
        assert plain.keys() | target.secrets == target.settings.keys()
        assert plain["ALLOWED_HOSTS"] == "api.example.com"
        assert container["stopTimeout"] == target.grace_seconds
        assert container["user"] == "1000:1000"
        assert container["readonlyRootFilesystem"]
        assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
        assert any("/health/live" in word for word in container["healthCheck"]["command"])

    def test_only_the_service_reaches_database_and_cache(self, account: Account) -> None:
        (database,) = account.ask("rds", "describe-db-instances")["DBInstances"]
        assert not database["PubliclyAccessible"]
        assert database["StorageEncrypted"]
        assert database["BackupRetentionPeriod"] == 14
        groups = account.ask("ec2", "describe-security-groups")["SecurityGroups"]
        names = {group["GroupId"]: group["GroupName"].removeprefix("seaworthy-docs-production-") for group in groups}
        open_to = {
            (names[group["GroupId"]], rule["FromPort"], *(names[pair["GroupId"]] for pair in rule["UserIdGroupPairs"]))
            for group in groups
            for rule in group["IpPermissions"]
            if group["GroupName"] != "default"
        }
        assert open_to == {
            ("load-balancer", 80), ("load-balancer", 443), ("service", 8000, "load-balancer"),
            ("database", 5432, "service"), ("redis", 6379, "service"),
        }  # fmt: skip
        (bucket,) = [row["Name"] for row in account.ask("s3api", "list-buckets")["Buckets"] if "backups" in row["Name"]]
        block = account.ask("s3api", "get-public-access-block", "--bucket", bucket)
        assert set(block["PublicAccessBlockConfiguration"].values()) == {True}
        assert account.ask("s3api", "get-bucket-versioning", "--bucket", bucket)["Status"] == "Enabled"

    def test_only_the_pipeline_of_the_repository_can_assume_its_role(self, account: Account) -> None:
        role = account.ask("iam", "get-role", "--role-name=seaworthy-docs-production-pipeline")["Role"]
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Condition"]["StringEquals"] == {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": "repo:acme/orders:environment:production",
        }

    def test_an_image_is_released_and_the_release_before_it_comes_back(self, walk: Walk, account: Account) -> None:
        self.deploy(account, f"{REPOSITORY}@sha256:1", f"{REPOSITORY}@sha256:1b")
        done = account.run("sh", "deploy/aws/deploy.sh", "production", "--rollback")
        assert (done.returncode, "has no previous release" in done.stderr) == (1, True)
        assert walk.shell(RELEASE, 1, {"IMAGE@DIGEST": f"{REPOSITORY}@sha256:2"})
        assert self.image(account) == f"{REPOSITORY}@sha256:2"
        for image in ("failing-migration@sha256:3", "failing-release@sha256:3", "tag:3"):
            assert account.run("sh", "deploy/aws/deploy.sh", "production", image).returncode == 1
            assert self.image(account) == f"{REPOSITORY}@sha256:2", image
        walk.shell(RELEASE, 3)
        assert self.image(account) == f"{REPOSITORY}@sha256:2"
        walk.shell(RELEASE, 1)
        walk.run("sh deploy/aws/deploy.sh production --rollback")
        assert self.image(account) == f"{REPOSITORY}@sha256:1"
        assert walk.shell(RELEASE).count("@sha256:") >= 4
        backup = account.ask("ecs", "describe-task-definition", "--task-definition=seaworthy-docs-production-backup")
        assert backup["taskDefinition"]["containerDefinitions"][0]["image"] == f"{REPOSITORY}@sha256:1b"
        walk.shell(RUNBOOK)

    def test_the_database_is_restored_as_the_runbook_says(self, walk: Walk, account: Account) -> None:
        """The service has the restored server under the name of the old one, and Terraform manages it."""
        walk.shell(RESTORE, values={"TIME": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})
        servers = account.ask("rds", "describe-db-instances")["DBInstances"]
        assert {row["DBInstanceIdentifier"] for row in servers} == {f"{NAME}-production", f"{NAME}-production-old"}
        command = ("rds", "modify-db-instance", f"--db-instance-identifier={NAME}-production-old")
        account.ask(*command, "--no-deletion-protection")
        account.ask(
            "rds", "delete-db-instance", f"--db-instance-identifier={NAME}-production-old", "--skip-final-snapshot"
        )

    def test_the_environment_is_removed_as_the_page_says(self, walk: Walk, account: Account) -> None:
        walk.shell(REMOVE)
        assert account.ask("rds", "describe-db-instances")["DBInstances"] == []
        assert account.ask("elbv2", "describe-load-balancers")["LoadBalancers"] == []

    def deploy(self, account: Account, *images: str) -> None:
        done = account.run("sh", "deploy/aws/deploy.sh", "production", *images)
        assert done.returncode == 0, done.stderr

    def image(self, account: Account) -> str:
        """The image that is in service."""
        query = ("ecs", "describe-services", "--cluster=seaworthy-docs-production", "--services=seaworthy-docs")
        definition = account.ask(*query)["services"][0]["taskDefinition"]
        found = account.ask("ecs", "describe-task-definition", "--task-definition", definition)
        image: str = found["taskDefinition"]["containerDefinitions"][0]["image"]
        return image
