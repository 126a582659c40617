"""AWS, as the files of Terraform define it. The tests in test_aws.py compare it with what Terraform creates."""

import re
from pathlib import Path

from deployments import Target

# A line `NAME = expression`, alone or in braces.
SETTING = re.compile(r"^ +(?:\{ )?([A-Z][A-Z0-9_]*) += (.+?)(?: \}.*)?$", re.MULTILINE)
# The expressions that Terraform evaluates, and values of an environment as AWS fills them in.
VALUES = {
    "var.environment": "production",
    "local.https ? var.domain : aws_lb.this.dns_name": "api.example.com",
    'join(",", aws_subnet.public[*].cidr_block)': "10.0.0.0/20,10.0.16.0/20",
    "local.redis_url": "rediss://cache.example.com:6379/0",
}


def read(service: Path) -> Target:
    """Read the container `service` and the one that migrates."""
    folder = service / "deploy/aws/service"
    text = (folder / "service.tf").read_text(encoding="utf-8")
    options = (folder / "locals.tf").read_text(encoding="utf-8")
    plain, secret = (_block(options, name) for name in ("option_settings = merge(", "option_secrets = {"))
    settings = {name: _value(value) for name, value in SETTING.findall(_block(text, "settings = merge(") + plain)}
    secrets = _secrets(folder, [name for name, _ in SETTING.findall(secret)])
    size = {"cpu": _variable(folder, "cpu"), "memory": f"{_variable(folder, 'memory')}M"}
    return Target(
        settings=settings | secrets,
        secrets=frozenset(secrets),
        probes={"live": _find(r"'GET', '([^']+)'", text), "ready": _ready(folder)},
        grace_seconds=float(_find(r"stop_timeout_seconds += (\d+)", text)),
        user=_find(r'user += "(\d+):', text),
        read_only=_find(r"readonlyRootFilesystem += (\w+)", text) == "true",
        dropped_capabilities=frozenset(re.findall(r'drop = \["(\w+)"\]', text)),
        # A task of Fargate has its CPU and memory to itself.
        limits=size,
        reservations=size,
        migration=_migration(folder / "database.tf"),
    )


def _block(text: str, opening: str) -> str:
    """The indented lines after the one that ends with `opening`."""
    return _find(rf"\n( *){re.escape(opening)}\n(.*?)\1[)}}]", text, group=2) if opening in text else ""


def _find(pattern: str, text: str, group: int = 1) -> str:
    found = re.search(pattern, text, re.DOTALL)
    assert found is not None, pattern
    return found[group]


def _value(expression: str) -> str:
    return expression.strip('"') if expression.startswith('"') else VALUES[expression]


def _secrets(folder: Path, names: list[str]) -> dict[str, str]:
    """The value of each secret as database-password.sh writes it."""
    if not names:
        return {}
    assert names == ["DATABASE_URL"]
    url = _find(r'printf %s "([^"]+)"', (folder.parent / "database-password.sh").read_text(encoding="utf-8"))
    return {"DATABASE_URL": url.replace("$password", "password").replace("$host", "database.example.com")}


def _variable(folder: Path, name: str) -> str:
    text = (folder / "variables.tf").read_text(encoding="utf-8")
    return _find(rf'variable "{name}" \{{.*?default += (\d+)', text)


def _ready(folder: Path) -> str:
    text = (folder / "load_balancer.tf").read_text(encoding="utf-8")
    return _find(r'health_check \{\n +path += "([^"]+)"', text)


def _migration(database: Path) -> tuple[str, ...]:
    if not database.exists():
        return ()
    return (_find(r'name += "migrate"\n +command += \["(\w+)"\]', database.read_text(encoding="utf-8")),)
