"""Typical changes of a service's owner, and whether an update kept every line."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from owner_code import files

WORKFLOW = """name: nightly
on:
  schedule: [{cron: "0 3 * * *"}]
jobs:
  audit:
    runs-on: ubuntu-latest
    steps:
      - run: echo "the owner's own"
"""


SETTINGS = """    orders_page_size: int = Field(50, description="Orders a page.")
    shop_url: str = Field("http://127.0.0.1:9", description="Where the shop is.")
    shop_is_watched: bool = Field(False, description="Whether health depends on the shop.")
    audit_max_age: timedelta = Field(timedelta(days=1), description="How old the newest entry may be.")
    health_check_interval_seconds: float = Field(2.0, ge=0, description="Longer than the chassis's.")
"""
JOB = """
  ready:
    runs-on: ubuntu-latest
    env:
      HEALTH_CHECK_INTERVAL_SECONDS: 5
    steps:
      - run: make prod-check
"""
PAYMENT_ERROR = """

class PaymentError(ServiceError):
    \"\"\"An order was not paid.\"\"\"
"""
SLOW_BATCH = """

def slow_batch(name: str) -> AbstractContextManager[None]:
    \"\"\"Warn when a batch of ours takes longer than a minute.\"\"\"
    return slow_operation(name, threshold_ms=60_000)
"""


class Owner:
    """Edits a service and remembers what must still be there later."""

    def __init__(self, service: Path) -> None:
        self.service = service
        self.package = next(service.glob("src/*/chassis")).parent.relative_to(service).as_posix()
        self.lines: dict[str, list[str]] = {}
        self.deleted: list[str] = []

    def write(self, path: str, text: str) -> None:
        """Add a file of the owner's own."""
        (self.service / path).parent.mkdir(parents=True, exist_ok=True)
        (self.service / path).write_text(text, encoding="utf-8")
        self.lines.setdefault(path, []).extend(text.splitlines())

    def insert(self, path: str, anchor: str, line: str, before: bool = False) -> None:
        """Add a line after, or before, the last one that holds the anchor."""
        file = self.service / path
        lines = file.read_text(encoding="utf-8").split("\n")
        places = [number for number, found in enumerate(lines) if anchor in found]
        assert places, f"{path} no longer holds {anchor!r}: edit another place"
        lines.insert(places[-1] + (not before), line)
        file.write_text("\n".join(lines), encoding="utf-8")
        self.lines.setdefault(path, []).append(line)

    def replace(self, path: str, anchor: str, line: str) -> None:
        """Put a line in the place of the last one that holds the anchor."""
        self.insert(path, anchor, line)
        file = self.service / path
        lines = file.read_text(encoding="utf-8").split("\n")
        del lines[lines.index(line) - 1]
        file.write_text("\n".join(lines), encoding="utf-8")

    def append(self, path: str, text: str) -> None:
        """Add lines at the end of a file."""
        file = self.service / path
        file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
        self.lines.setdefault(path, []).extend(text.splitlines())

    def delete(self, path: str) -> None:
        """Delete a file or a folder."""
        target = self.service / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        self.deleted.append(path)

    def lost(self, renamed: Callable[[str], str] = str, moved: Mapping[str, str] | None = None) -> list[str]:
        """Every line that is no longer there, and everything deleted that came back.

        Args:
            renamed: Gives a line or a path the names of a later release.
            moved: The new paths of renamed files.
        """
        found = []
        for path, lines in self.lines.items():
            file = self.service / (moved or {}).get(path, path)
            present = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
            found += [f"{path}: {line}" for line in lines if not {line, renamed(line)} & set(present)]
        return found + [f"{path}: came back" for path in self.deleted if (self.service / path).exists()]


def build_on(service: Path) -> Owner:
    """Use every extension point of a service of release 0.2.3, and edit files of all three owners."""
    owner = Owner(service)
    package = owner.package
    framework = "flask" if (service / package / "chassis/web/flask.py").exists() else "fastapi"
    for path, text in files(framework, Path(package).name):
        owner.write(path, text)
    _extend_main(owner, framework)
    owner.insert(f"{package}/settings.py", "from importlib", "from datetime import timedelta", before=True)
    owner.append(f"{package}/settings.py", SETTINGS)
    owner.append("compose.override.yaml", "# RATE_LIMIT_BY: api-key\n")
    owner.append(".github/workflows/ci.yml", JOB)
    owner.write("local.mk", "ready: ## Try it for production\n\t@$(MAKE) prod-check ENV_FILE=.env.production\n")
    # Shared: dependencies, documents, examples of settings.
    owner.insert("pyproject.toml", "# Yours go below this line", '    "packaging>=24",')
    owner.append("README.md", "\n## Orders\n\nAn order is paid before it is sent.\n")
    owner.append(".env.production.example", "# Behind our gateway, which checks keys.\nRATE_LIMIT_BY=api-key\n")
    # The chassis: a file that keeps its name, and one that gets another.
    owner.append(f"{package}/chassis/errors.py", PAYMENT_ERROR)
    slow = f"{package}/chassis/slow_operation.py"
    owner.replace(slow, "from contextlib import", "from contextlib import AbstractContextManager, contextmanager")
    owner.append(slow, SLOW_BATCH)
    return owner


def _extend_main(owner: Owner, framework: str) -> None:
    """Install a second domain, a feature, a client and a health check in `main.py`."""
    main, interface = f"{owner.package}/main.py", {"flask": "wsgi", "fastapi": "asgi"}[framework]
    owner.replace(main, "from . import notes", "from . import notes, orders")
    owner.insert(main, "import notes, orders", "from .audit import AUDIT")
    owner.insert(main, "chassis.features import", "from .chassis.health.checks import Upstream")
    owner.insert(main, "checks import Upstream", f"from .chassis.resilience.{interface} import add_http_client")
    owner.replace(main, "    install(app, ", "    service = install(app, settings, [*FEATURES, AUDIT])")
    owner.insert(main, "service = install", '    add_http_client(service, "shop", settings.shop_url)  # see the shop')
    owner.insert(main, "add_http_client(", "    if settings.shop_is_watched:")
    owner.insert(main, "shop_is_watched:", '        service.health.add(Upstream("shop", settings.shop_url))')
    owner.insert(main, "    notes.install(app)", "    orders.install(app)")


def develop(service: Path) -> Owner:
    """Make a service one's own: a domain in place of the notes, a setting, a dependency, words, a chassis edit."""
    owner = Owner(service)
    package = owner.package
    owner.write(f"{package}/orders/__init__.py", '"""Orders, the domain of this service."""\n')
    owner.write(f"{package}/orders/router.py", '"""Routes of orders."""\n\nROUTES = ("/orders",)\n')
    owner.write(".github/workflows/nightly.yml", WORKFLOW)
    owner.insert(f"{package}/main.py", "import Settings", "from .orders.router import ROUTES as orders")
    owner.insert(f"{package}/main.py", "return app", "    app.state.orders = orders", before=True)
    owner.append(f"{package}/settings.py", '    orders_page_size: int = Field(50, description="Orders a page.")\n')
    owner.write("local.mk", "stock: ## Count what is left\n\t@echo 0\n")
    # what `make settings-docs` writes for the new setting
    owner.replace(".env.example", "# None yet.", "# ORDERS_PAGE_SIZE=50")
    owner.replace("docs/configuration.md", "None yet.", "| `ORDERS_PAGE_SIZE` | integer | `50` | Orders a page. |")
    owner.insert("pyproject.toml", "# Yours go below this line", '    "pandas>=2",')
    owner.append("README.md", "\n## Orders\n\nAn order is paid before it is sent.\n")
    owner.append("compose.override.yaml", "# orders need a broker on a laptop\n")
    owner.append(
        f"{package}/chassis/errors.py", '\n\nclass PaymentError(ServiceError):\n    """An order was not paid."""\n'
    )
    owner.delete(f"{package}/notes")
    owner.delete("tests/notes")
    owner.delete("SECURITY.md")
    return owner
