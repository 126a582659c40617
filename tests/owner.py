"""What the owner of a service typically changes in it, and whether an update kept every line."""

import shutil
from pathlib import Path

WORKFLOW = """name: nightly
on:
  schedule: [{cron: "0 3 * * *"}]
jobs:
  audit:
    runs-on: ubuntu-latest
    steps:
      - run: echo "the owner's own"
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

    def lost(self) -> list[str]:
        """Every line that is no longer there, and everything deleted that came back."""
        found = []
        for path, lines in self.lines.items():
            file = self.service / path
            kept = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
            found += [f"{path}: {line}" for line in lines if line not in kept]
        return found + [f"{path}: came back" for path in self.deleted if (self.service / path).exists()]


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
