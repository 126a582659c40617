"""The documents say what is so: generated parts are up to date, links resolve, and what they list is what is there."""

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

ASGI, WSGI = "template/{{on_asgi}}", "template/{{on_wsgi}}"
# What asynchronous code says, and the synchronous code beside it: the words in which two overlays may differ.
SYNCHRONOUS = {
    "async def ": "def ",
    "async with ": "with ",
    "await ": "",
    "AsyncIterator": "Iterator",
    "asynccontextmanager": "contextmanager",
    "AsyncSession": "Session",
    "sqlalchemy.ext.asyncio": "sqlalchemy.orm",
    "asyncio": "threading",
    "database.asgi": "database.wsgi",
}


def test_what_is_generated_is_up_to_date() -> None:
    """No document has drifted from the options and the tree."""
    run = [sys.executable, "scripts/options_docs.py", "--check"]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def documented(planted: Path, template: Path) -> Path:
    """A copy of the template with its documents, to plant a fault in."""
    for name in ("docs", "scripts", "tests"):
        shutil.copytree(template / name, planted / name, dirs_exist_ok=True)
    shutil.copy(template / "README.md", planted)
    return planted


@pytest.mark.parametrize(
    ("path", "old", "new", "drifted"),
    [
        ("options/license.yml", "all rights reserved", "no rights", {"docs/options.md"}),
        ("options/framework.yml", "Which web framework?", "Which one?", {"docs/options.md", "README.md"}),
        ("template/{{on_flask}}/src/{{package_name}}/main.py", "\n", "\n\n", {"docs/adding-an-option.md"}),
        ("docs/decisions/0001-options-are-places.md", "place", "file", {"docs/decisions/README.md"}),
    ],
)
def test_drift_is_seen(path: str, old: str, new: str, drifted: set[str], documented: Path) -> None:
    """A document that no longer says what is so is named, with the command that mends it."""
    swap(path, old, new)(documented)
    run = [sys.executable, "scripts/options_docs.py", "--check"]
    result = subprocess.run(run, cwd=documented, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    sentences = {f"{name} has drifted from the options: run make docs" for name in drifted}
    assert sentences <= set(result.stdout.splitlines())


def without_code(text: str) -> str:
    """The text without fenced blocks, whose brackets and hashes mean something else."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names that a page's headings can be linked by, made the way GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def broken_links(pages: Mapping[str, str], paths: set[str]) -> list[str]:
    """Relative links that lead nowhere: to no file or folder of these paths, or to no heading of a page."""
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
    """The path that a link of a page means, from the top; one that leads out of it stays as it is."""
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
    """Every file of the repository but what is rendered, which is judged once it is."""
    found = (path for path in template.rglob("*") if path.is_file())
    named = {path.relative_to(template).as_posix(): path for path in found}
    rendered = ("template/", "options/")
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(rendered)}


def test_links_of_the_documents_resolve(template: Path) -> None:
    """Every relative link in the template's documents points at a file, a folder, or a heading."""
    found = repository_files(template)
    paths = {path.relative_to(template).as_posix() for path in template.rglob("*")}
    assert not broken_links(pages(found), paths)


def test_links_of_rendered_documents_resolve(renders: list[Render]) -> None:
    """Every relative link in a rendered service points at something that is rendered too."""
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
def test_a_broken_link_is_seen(text: str, leads_nowhere: bool) -> None:
    """Links to nothing are found, and nothing else is."""
    found = {"README.md": "# `Top` of it!\n", "docs/b.md": "# B\n", "docs/a.md": text}
    assert bool(broken_links(found, set(found))) is leads_nowhere


def tree(text: str) -> Iterator[str]:
    """The paths of the tree that README.md draws; a line may name several that lie side by side."""
    block = re.search(r"```\n(orders/\n.*?)```", text, re.DOTALL)
    assert block, "README.md draws no tree"
    above: list[str] = []
    for line in block[1].splitlines()[1:]:
        lead, names = re.split(r"── ", line, maxsplit=1)
        depth = len(lead) // 4
        found = re.split(r"  +", names)[0].split(", ")
        above[depth:] = [found[-1].rstrip("/")]
        yield from ("/".join([*above[:depth], name.rstrip("/")]) for name in found)


def test_the_tree_of_the_readme_is_what_is_rendered(renderer: Renderer, tmp_path: Path) -> None:
    """Every path in README.md's tree is rendered, and nothing at the top of a render is missing from it."""
    service = renderer(tmp_path / "orders", {"project_name": "Orders"}).path
    drawn = set(tree((ROOT / "README.md").read_text(encoding="utf-8")))
    assert not [path for path in drawn if not list(service.glob(path))]
    top = {path.name for path in service.iterdir()} - {".copier-answers.yml"}
    assert top == {path.split("/")[0] for path in drawn}


def test_the_readme_s_commands_render_a_service(template: Path, tmp_path: Path) -> None:
    """The command that asks nothing is run as it stands in README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("copier copy --defaults"))
    command = command.replace("copier", f"{sys.executable} -m copier", 1).replace("$SEAWORTHY", str(template))
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)  # noqa: S602 - our own text
    assert (tmp_path / "orders/src/orders/main.py").is_file()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_make_test_leaves_out_is_said(page: str) -> None:
    """Parts of the suite that have a command of their own are named by it, and so is what a machine must bring."""
    makefile, text = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", page))
    recipe = re.search(r"^test:.*\n(.*)", makefile, re.MULTILINE)
    assert recipe
    left_out = re.findall(r"not (\w+)", recipe[1])
    assert len(left_out) == 2
    assert [name for name in left_out if f"`make {name}`" not in text] == []
    assert not re.search(r"make test`[^.]*\b(everything|whole suite)\b", text)
    assert re.search(r"PostgreSQL, MariaDB or Redis are skipped where", text)


def test_every_choice_is_weighed() -> None:
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


def test_every_rule_is_documented() -> None:
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
def test_a_decision_has_its_parts(page: Path) -> None:
    """A decision is numbered as its file, dated, and says context, decision and consequences."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    parts = re.findall(r"^(\d{4}-\d\d-\d\d, accepted|\*\*\w+\.\*\*)", text, re.MULTILINE)
    assert parts[1:] == ["**Context.**", "**Decision.**", "**Consequences.**"]


def test_decisions_are_numbered_without_gaps() -> None:
    """Decisions are numbered from 1, in a row."""
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def outdated_signals(decisions: Mapping[str, str], sources: str) -> list[str]:
    """Signals that were decided on and the code does not know, where no newer page revises the decision."""
    faults = []
    for name, text in decisions.items():
        decided = text.partition("**Decision.**")[2].partition("**Consequences.**")[0]
        revised = re.search(r"^\d{4}-\d\d-\d\d, accepted;.* revised by \[", text, re.MULTILINE)
        named = set() if revised else set(re.findall(r"\bSIG[A-Z0-9]+\b", decided))
        faults += [f"{name}: {signal}" for signal in sorted(named) if signal not in sources]
    return faults


def test_decisions_name_the_signals_of_the_code() -> None:
    """A decision that the code no longer follows says which one revised it."""
    decisions = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs/decisions").glob("[0-9]*.md")}
    chassis = (ROOT / "template/src/{{package_name}}/chassis").rglob("*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in chassis)
    assert outdated_signals(decisions, sources) == []
    revised = decisions["0011-drain-by-signal.md"]
    assert outdated_signals({"11": revised.replace("; how", ". How")}, sources) == ["11: SIGUSR1"]


def test_the_glossary_is_in_order() -> None:
    """Words are found where the alphabet puts them."""
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert words == sorted(words)
    assert len(words) > 10


def twins(root: Path) -> Iterator[tuple[Path, Path]]:
    """The example's files that both interfaces have."""
    for path in sorted((root / ASGI).rglob("src/**/*.py")):
        yield path, root / WSGI / path.relative_to(root / ASGI)


def synchronous(text: str) -> str:
    """The text with the words of asynchronous Python taken out."""
    for word, instead in SYNCHRONOUS.items():
        text = text.replace(word, instead)
    return text


def differences(root: Path) -> list[str]:
    """Twins that say different things."""
    return [
        path.relative_to(root / ASGI).as_posix()
        for path, twin in twins(root)
        if synchronous(path.read_text(encoding="utf-8")) != twin.read_text(encoding="utf-8")
    ]


def test_the_overlays_of_both_interfaces_say_the_same() -> None:
    """Services and repositories differ in `await` and the names of asynchronous types, and in nothing else."""
    assert len(list(twins(ROOT))) >= 3
    assert not differences(ROOT)


def test_a_fix_on_one_side_only_is_seen(planted: Path) -> None:
    """A twin that was changed alone is named."""
    put(f"{WSGI}/src/{{{{package_name}}}}/notes/service.py", "# changed\n")(planted)
    assert differences(planted) == ["src/{{package_name}}/notes/service.py"]
