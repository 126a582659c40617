"""Tells which file of the template a rendered file comes from."""

import re
import sys
from functools import cache
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "template"
OVERLAY = re.compile(r"\{\{on_\w+\}\}/")


def rendered_path(source: Path) -> str:
    """Return the path that a template file has in a service, with `{{package_name}}` left in it."""
    path = OVERLAY.sub("", source.relative_to(TEMPLATE).as_posix())
    return path.replace("{{_copier_conf.answers_file}}", ".copier-answers.yml").removesuffix(".jinja")


@cache
def templates() -> list[tuple[str, Path]]:
    """Return every template file, with the path that it has in a service."""
    return [(rendered_path(path), path) for path in sorted(TEMPLATE.rglob("*")) if path.is_file()]


def sources(file: str) -> list[Path]:
    """Return the template files that render to `file`: one, or one for each framework or kind of storage."""
    wanted = re.sub(r"^src/[^/]+/", "src/{{package_name}}/", file.removeprefix("./"))
    return [path for rendered, path in templates() if rendered == wanted]


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1]:
        print("Say which file: make where FILE=src/my_service/main.py", file=sys.stderr)
        return 2
    found = sources(sys.argv[1])
    if not found:
        print(f"Nothing in the template renders to {sys.argv[1]}.", file=sys.stderr)
        return 1
    for path in found:
        print(path.relative_to(TEMPLATE.parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
