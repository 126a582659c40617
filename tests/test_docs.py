"""Checks the documents: generated parts are up to date, links resolve, and lists match the repository."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import layout_rules
import pytest
import python_rules
import release_rules
import render_rules
import shape_rules
import waiting_rules
from planting import put, swap
from questions import ROOT, asked, values
from rendering import Render, Renderer

ASYNCIO, SYNC = "template/{{on_asyncio}}", "template/{{on_sync}}"
# The words in which the asynchronous and the synchronous overlay may differ.
SYNCHRONOUS = {
    "async def ": "def ",
    "async with ": "with ",
    "await ": "",
    "AsyncIterator": "Iterator",
    "asynccontextmanager": "contextmanager",
    "AsyncSession": "Session",
    "sqlalchemy.ext.asyncio": "sqlalchemy.orm",
    "database.asyncio": "database.sync",
    "asyncio": "threading",
}


def test_options_docs_of_this_tree_have_not_drifted() -> None:
    """The generated parts of the documents match the options and the tree."""
    run = [sys.executable, "scripts/options_docs.py", "--check"]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def documented(planted: Path, template: Path) -> Path:
    """Return a copy of the template with its documents, to change one file in."""
    for name in ("docs", "scripts", "tests"):
        shutil.copytree(template / name, planted / name, dirs_exist_ok=True)
    shutil.copy(template / "README.md", planted)
    return planted


@pytest.mark.parametrize(
    ("path", "old", "new", "drifted"),
    [
        ("options/license.yml", "all rights reserved", "no rights", {"docs/options.md"}),
        ("options/framework.yml", "Which web framework?", "Which one?", {"docs/options.md", "README.md"}),
        ("options/framework.yml", "label: Flask", "label: flask", {"docs/options.md", "docs/adding-an-option.md"}),
        ("docs/decisions/0001-options-are-files.md", "Options", "Values", {"docs/decisions/README.md"}),
    ],
)
def test_options_docs_after_a_change_name_the_drifted_document(
    path: str, old: str, new: str, drifted: set[str], documented: Path
) -> None:
    """A document that has drifted is named, with the command that regenerates it."""
    swap(path, old, new)(documented)
    run = [sys.executable, "scripts/options_docs.py", "--check"]
    result = subprocess.run(run, cwd=documented, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    sentences = {f"{name} has drifted from the options: run make docs" for name in drifted}
    assert sentences <= set(result.stdout.splitlines())


def without_code(text: str) -> str:
    """Return the text without fenced blocks, whose brackets and hashes have another meaning."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub creates them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken_links(pages: Mapping[str, str], paths: set[str]) -> list[str]:
    """Return relative links whose file, folder or heading does not exist."""
    folders = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    faults = []
    for page, text in pages.items():
        for link in re.findall(r"(?<!`)\[[^]]*\]\(([^)\s]+)\)", without_code(text)):
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            path, _, anchor = link.partition("#")
            target = _resolved(page, path) if path else page
            if target not in paths | folders or (anchor and anchor not in anchors(pages.get(target, ""))):
                faults.append(f"{page}: {link} leads nowhere")
    return faults


def _resolved(page: str, link: str) -> str:
    """Return the path of a link from the root; a link that leaves the root is returned unchanged."""
    parts: list[str] = []
    for part in [*PurePosixPath(page).parent.parts, *PurePosixPath(link).parts]:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def pages(paths: Mapping[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in paths.items() if path.endswith(".md")}


def repository_files(template: Path) -> dict[str, bytes]:
    """Return the files of the repository without those that are rendered."""
    found = (path for path in template.rglob("*") if path.is_file())
    named = {path.relative_to(template).as_posix(): path for path in found}
    rendered = ("template/", "options/")
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(rendered)}


def test_links_of_the_repository_resolve(template: Path) -> None:
    """Every relative link in the template's documents has a target."""
    found = repository_files(template)
    paths = {path.relative_to(template).as_posix() for path in template.rglob("*")}
    assert not broken_links(pages(found), paths)


def test_links_of_rendered_documents_resolve(renders: list[Render]) -> None:
    """Every relative link in a rendered service has a target in that service."""
    for render in renders:
        files = render.files()
        assert not broken_links(pages(files), set(files)), render


@pytest.mark.parametrize(
    ("text", "leads_nowhere"),
    [
        ("[a](b.md)", False),
        ("[a](../README.md#top-of-it)", False),
        ("[a](../docs)", False),
        ("[a](https://example.org/none.md)", False),
        ("```\n[a](none.md)\n```", False),
        ("[a](none.md)", True),
        ("[a](../../README.md)", True),
        ("[a](b.md#none)", True),
        ("[a](#none)", True),
    ],
)
def test_broken_links_without_a_target_are_found(text: str, leads_nowhere: bool) -> None:
    """Only links without a target are reported."""
    found = {"README.md": "# `Top` of it!\n", "docs/b.md": "# B\n", "docs/a.md": text}
    assert bool(broken_links(found, set(found))) is leads_nowhere


def tree(text: str) -> Iterator[str]:
    """Yield the paths of the tree in README.md; a line may contain several."""
    block = re.search(r"```\n(orders/\n.*?)```", text, re.DOTALL)
    assert block, "README.md contains no tree"
    above: list[str] = []
    for line in block[1].splitlines()[1:]:
        lead, names = re.split(r"── ", line, maxsplit=1)
        depth = len(lead) // 4
        found = re.split(r"  +", names)[0].split(", ")
        above[depth:] = [found[-1].rstrip("/")]
        yield from ("/".join([*above[:depth], name.rstrip("/")]) for name in found)


def test_readme_tree_matches_a_render(renderer: Renderer, tmp_path: Path) -> None:
    """Every path in the tree of README.md is rendered, and the tree contains every file at the top of a render."""
    service = renderer(tmp_path / "orders", {"project_name": "Orders"}).path
    drawn = set(tree((ROOT / "README.md").read_text(encoding="utf-8")))
    assert not [path for path in drawn if not list(service.glob(path))]
    top = {path.name for path in service.iterdir()} - {".copier-answers.yml"}
    assert top == {path.split("/")[0] for path in drawn}


def test_readme_command_renders_a_service(template: Path, tmp_path: Path) -> None:
    """The command of README.md that asks no questions renders a service."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("copier copy --defaults"))
    command = command.replace("copier", f"{sys.executable} -m copier", 1).replace("$SEAWORTHY", str(template))
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)  # noqa: S602 - our own text
    assert (tmp_path / "orders/src/orders/main.py").is_file()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_readme_and_contributing_name_the_excluded_tests(page: str) -> None:
    """The documents name the commands of the tests that `make test` excludes, and the servers that tests need."""
    makefile, text = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", page))
    recipe = re.search(r"^suite:.*\n(.*)", makefile, re.MULTILINE)
    assert recipe
    left_out = re.findall(r"not (\w+)", recipe[1])
    assert len(left_out) == 4
    assert [name for name in left_out if f"`make {name}`" not in text] == []
    assert "PostgreSQL, MariaDB or Redis are skipped where" in " ".join(text.split())


def test_contributing_names_duration_and_last_run_of_what_ci_leaves_out() -> None:
    """Each command that runs tests or writes a measured page, and that `.ci/run` does not run."""
    makefile, text = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "CONTRIBUTING.md"))
    runs = r"^([a-z]+): .*\n\t@.*(?:-m \1$|-m \1\.table|benchmarks/run\.py)"
    commands = re.findall(runs, makefile, re.MULTILINE)
    rows = re.findall(r"^\| `make (\w+)` \| [^|]+ \| \d{4}-\d{2}-\d{2}, [^|]+ \|$", text, re.MULTILINE)
    assert rows == sorted(commands)
    assert len(rows) == 9


def test_choosing_covers_every_question_and_value() -> None:
    """docs/choosing.md has a section for every question that offers choices, and names every value."""
    text = (ROOT / "docs/choosing.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for question, found in values().items():
        assert question in sections
        missing = [value for value in found if question != "python_version" and f"`{value}`" not in sections[question]]
        assert not missing, question
    changeable = re.search(r"^## What can be changed later\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    assert changeable
    assert not [name for name in asked() if f"`{name}`" not in changeable[1]]


def test_rules_named_by_tests_are_documented() -> None:
    """The rules that tests name by number are those of docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition("### Rules of the layout")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^(\d)\. ", section, re.MULTILINE))
    modules = (layout_rules, python_rules, shape_rules, waiting_rules, render_rules, release_rules)
    first_words = [str(rule.__doc__).split(" ")[0] for module in modules for rule in vars(module).values()]
    numbered = {word.rstrip(".") for word in first_words if re.fullmatch(r"\d\.", word)}
    assert len(numbered) > 5
    assert numbered <= documented


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_decision_record_has_its_parts(page: Path) -> None:
    """A decision record is numbered as its file, dated, and has a context, a decision and consequences."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert re.search(r"^Accepted, \d{4}-\d\d-\d\d", text, re.MULTILINE)
    parts = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert [part for part in parts if part != "Measurement"] == ["Context", "Decision", "Consequences"]


def test_decision_records_are_few_and_numbered_without_gaps() -> None:
    """At most 30 decisions are numbered from 1, in a row. If there are more, merge those that belong together."""
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))]
    assert len(numbers) <= 30
    assert numbers == list(range(1, len(numbers) + 1))


def test_glossary_is_sorted() -> None:
    """The terms are in alphabetical order."""
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert words == sorted(words)
    assert len(words) > 10


def twins(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of the example that exist in both overlays."""
    for path in sorted((root / ASYNCIO).rglob("src/**/*.py")):
        yield path, root / SYNC / path.relative_to(root / ASYNCIO)


def synchronous(text: str) -> str:
    """Return the text with asynchronous Python replaced by synchronous Python."""
    for word, instead in SYNCHRONOUS.items():
        text = text.replace(word, instead)
    return text


def differences(root: Path) -> list[str]:
    """Return the files whose two forms differ in anything else."""
    return [
        path.relative_to(root / ASYNCIO).as_posix()
        for path, twin in twins(root)
        if synchronous(path.read_text(encoding="utf-8")) != twin.read_text(encoding="utf-8")
    ]


def test_overlays_of_both_kinds_of_handlers_are_equal() -> None:
    """Services and repositories differ only in `await` and in the names of asynchronous types."""
    assert len(list(twins(ROOT))) >= 3
    assert not differences(ROOT)


def test_differences_after_a_change_of_one_overlay_name_the_file(planted: Path) -> None:
    """A file that was changed in one overlay only is reported."""
    put(f"{SYNC}/src/{{{{package_name}}}}/notes/service.py", "# changed\n")(planted)
    assert differences(planted) == ["src/{{package_name}}/notes/service.py"]
