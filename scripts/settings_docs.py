"""Writes what the settings classes of the chassis say of themselves into options/, a fragment for each class.

`template/.env.example.jinja` and `template/docs/configuration.md.jinja` include the fragments, so that a rendered
service starts out with exactly what its own `make settings-docs` would write. With `--check` nothing is written: a
fragment that has drifted is named.
"""

import argparse
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

ROOT = Path(__file__).resolve().parents[1]
INTERFACES = {"asgi", "wsgi"}

# The chassis is an ordinary package, and is read where it lies.
sys.path.insert(0, str(ROOT / "template/src/{{package_name}}"))
chassis = importlib.import_module("chassis")
docs: Any = importlib.import_module("chassis.settings_docs")
base: Any = importlib.import_module("chassis.settings")


def settings_classes() -> Iterator[tuple[str, Any]]:
    """Yield every settings class of the chassis with its module. `features` is a template and holds none of its own."""
    for module in pkgutil.walk_packages(chassis.__path__, "chassis."):
        found = vars(importlib.import_module(module.name)).values()
        for cls in found:
            if isinstance(cls, type) and issubclass(cls, base.BaseChassisSettings) and cls.__module__ == module.name:
                yield module.name, cls


def place(module: str, title: str) -> str:
    """Return where a fragment lies, less its suffix: an adapter's with its option, an interface's under its name."""
    name = module.rpartition(".")[2]
    if name != "settings" and (ROOT / "options" / name).is_dir():
        return f"options/{name}/settings"
    return f"options/settings/{name if name in INTERFACES else re.sub('[^a-z]+', '-', title.lower())}"


class Rendered(base.ServiceSettings):  # type: ignore[misc]
    """Settings of your own"""

    # What `template/src/{{package_name}}/settings.py.jinja` says.
    service_name: str = "{{ service_name }}"
    service_version: str = Field(default_factory=str)


def fragments() -> dict[str, str]:
    """Return the text of every fragment by its path. Each but the first starts with the blank line that parts it."""
    found = {"options/settings/intro.env": docs.ENV_INTRO, "options/settings/intro.md": docs.MARKDOWN_INTRO}

    def add(where: str, cls: Any, section: Any) -> None:
        if f"{where}.env" in found:
            raise SystemExit(f"{where}: two settings classes have this place; give one of them another title")
        found[f"{where}.env"] = "\n" + docs.env_section(cls, section)
        found[f"{where}.md"] = "\n" + docs.markdown_section(cls, section)

    for module, cls in settings_classes():
        shown = Rendered if cls is base.ServiceSettings else cls
        section = [section for section in docs.sections(shown) if section[1]][-1]
        if cls.model_fields.keys() & cls.__annotations__.keys():
            add(place(module, section[0]), shown, section)
    *_, yours = docs.sections(Rendered)
    add("options/settings/yours", Rendered, yours)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what has drifted")
    check = parser.parse_args().check
    wanted = fragments()
    there = [*(ROOT / "options/settings").glob("*"), *(ROOT / "options").glob("*/settings.*")]
    stale = [path for path in there if path.relative_to(ROOT).as_posix() not in wanted]
    drifted = [ROOT / path for path, text in wanted.items() if _text(ROOT / path) != text]
    if check:
        for path in drifted + stale:
            print(f"{path.relative_to(ROOT)} has drifted from the settings: run python scripts/settings_docs.py")
        return 1 if drifted or stale else 0
    for path in stale:
        path.unlink()
    for path in drifted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path.relative_to(ROOT).as_posix()], encoding="utf-8")
    return 0


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    raise SystemExit(main())
