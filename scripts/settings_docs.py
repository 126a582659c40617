"""Writes the settings documents in options/: a pair of fragments, .env and .md, for each settings class of the chassis.

`template/.env.example.jinja` and `template/docs/configuration.md.jinja` include the fragments of the chosen parts
(options/parts.yml, `texts`). So a rendered service starts with the files that its own `make settings-docs` writes.
With `--check` the script writes nothing and names each fragment that differs from the settings.
"""

import argparse
import importlib
import pkgutil
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import Field

ROOT = Path(__file__).resolve().parents[1]
# The modules of these packages are named after options.
ADAPTERS = {"database", "web"}

# The tool of a rendered service works in the template as well, where the package is called {{package_name}}.
docs: Any = SimpleNamespace(**runpy.run_path(str(ROOT / "template/tools/settings_docs.py")))
chassis = importlib.import_module(f"{docs.PACKAGE}.chassis")
base: Any = docs.chassis


def settings_classes() -> Iterator[tuple[str, Any]]:
    """Yield every settings class of the chassis with the name of its module."""
    for module in pkgutil.walk_packages(chassis.__path__, f"{chassis.__name__}."):
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and issubclass(cls, base.BaseChassisSettings) and cls.__module__ == module.name:
                yield module.name, cls


def fragment_path(module: str, title: str) -> str:
    """Return the path of a fragment without its suffix: named after the option of an adapter, else after the title."""
    package, _, name = module.rpartition(".")
    if package.rpartition(".")[2] in ADAPTERS and (ROOT / "options" / name).is_dir():
        return f"options/{name}/settings"
    return f"options/settings/{re.sub('[^a-z]+', '-', title.lower())}"


class Rendered(base.ServiceSettings):  # type: ignore[misc]
    """Settings of your own"""

    # The defaults in `template/src/{{package_name}}/settings.py.jinja`.
    service_name: str = "{{ service_name }}"
    service_version: str = Field(default_factory=str)


def fragments() -> dict[str, str]:
    """Return the text of every fragment by its path. Each but the introduction starts with a blank line."""
    found = {"options/settings/intro.env": docs.ENV_INTRO, "options/settings/intro.md": docs.MARKDOWN_INTRO}

    def add(path: str, cls: Any, section: Any) -> None:
        if f"{path}.env" in found:
            raise SystemExit(f"{path}: two settings classes have this path; change the title of one")
        found[f"{path}.env"] = "\n" + docs.env_section(cls, section)
        found[f"{path}.md"] = "\n" + docs.markdown_section(cls, section)

    for module, cls in settings_classes():
        documented = Rendered if cls is base.ServiceSettings else cls
        section = [section for section in docs.sections(documented) if section[1]][-1]
        if cls.model_fields.keys() & cls.__annotations__.keys():
            add(fragment_path(module, section[0]), documented, section)
    *_, yours = docs.sections(Rendered)
    add("options/settings/yours", Rendered, yours)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and name the fragments that differ")
    check = parser.parse_args().check
    expected = {ROOT / path: text for path, text in fragments().items()}
    existing = [*(ROOT / "options/settings").glob("*"), *(ROOT / "options").glob("*/settings.*")]
    stale = [path for path in existing if path not in expected]
    changed = [path for path, text in expected.items() if not path.exists() or path.read_text("utf-8") != text]
    if check:
        for path in changed + stale:
            print(f"{path.relative_to(ROOT)} differs from the settings; run python scripts/settings_docs.py")
        return 1 if changed or stale else 0
    for path in stale:
        path.unlink()
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expected[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
