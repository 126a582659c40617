"""A rendered service's documents say what is so: whose a file is, what settings there are, and what is not there."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pytest
from pathspec import GitIgnoreSpec
from questions import ROOT, questions
from rendering import Render

# A word of a make target, and no setting of the service.
MAKE_VARIABLES = {"ENV_FILE"}
WHOSE = ("yours", "chassis")


def markdown(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for path, content in files.items():
        if path.endswith(".md"):
            yield path, content.decode()


def capabilities(files: Mapping[str, bytes]) -> set[str]:
    """What the modules and folders of a chassis are called, as people write it: `rate_limit` is "rate limit"."""
    paths = (PurePosixPath(path.partition("/chassis/")[2]) for path in files if path.startswith("src/"))
    words = {part.removesuffix(".py") for path in paths for part in path.parts}
    return {word.replace("_", " ") for word in words - {"__init__"}}


def denials(files: Mapping[str, bytes]) -> list[str]:
    """Sentences that say of something in the chassis that it is not there."""
    names = "|".join(sorted(map(re.escape, capabilities(files))))
    denial = re.compile(rf"\b(?:it|service) (?:has|knows|offers|comes with) no ({names})s?\b", re.IGNORECASE)
    return [
        f"{path}: {found[0]}" for path, text in markdown(files) for found in denial.finditer(re.sub(r"\s+", " ", text))
    ]


def unknown_settings(files: Mapping[str, bytes]) -> list[str]:
    """Settings that a document names and the configuration does not list."""
    known = set(re.findall(r"^\| `([A-Z_]+)`", files["docs/configuration.md"].decode(), re.MULTILINE))
    named = {(path, name) for path, text in markdown(files) for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b", text)}
    return sorted(f"{path}: {name}" for path, name in named if name not in known | MAKE_VARIABLES)


def test_documents_deny_nothing_that_is_there(renders: list[Render]) -> None:
    """No document says that the service has no rate limit, or whatever else its chassis has a module for."""
    assert [fault for render in renders for fault in denials(render.files())] == []


@pytest.mark.parametrize("module", ["rate_limit/judge.py", "cors.py"])
def test_a_denial_is_seen(module: str) -> None:
    """It is one only where the module is there, and across the ends of lines."""
    text = f"It has\nno {PurePosixPath(module).parts[0].removesuffix('.py').replace('_', ' ')}: bring one.".encode()
    assert len(denials({"SECURITY.md": text, f"src/orders/chassis/{module}": b""})) == 1
    assert denials({"SECURITY.md": text, "src/orders/chassis/problem.py": b""}) == []


def test_documents_name_settings_that_there_are(renders: list[Render]) -> None:
    """Every setting that a document names is one of the service."""
    assert [fault for render in renders for fault in unknown_settings(render.files())] == []


def test_a_setting_that_is_gone_is_seen() -> None:
    """A document that names a setting of yesterday is found."""
    files = {"docs/configuration.md": b"| `PORT` | integer |\n", "SECURITY.md": b"Set `RATE_LIMIT` or `PORT`.\n"}
    assert unknown_settings(files) == ["SECURITY.md: RATE_LIMIT"]


def rows_of(text: str, heading: str) -> list[str]:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()


def test_a_row_of_the_checklist_stands_under_its_heading(renders: list[Render]) -> None:
    """What an option adds to the checklist goes to a section of its own, or to the one that it is about."""
    for render in renders:
        checklist = render.files()["docs/production-checklist.md"].decode()
        passed = "- [ ] `main` takes only what has passed CI."
        assert (passed in rows_of(checklist, "The code")) == (render.answers["ci"] == "github")


def table(text: str) -> dict[str, set[str]]:
    """The paths in the rows of a table of whose a file is, without the slash at the end of a folder."""
    found = {}
    for whose in WHOSE:
        row = re.search(rf"^\| \*\*(?:the )?{whose}\*\*[^|]*\|([^|]*)\|", text, re.MULTILINE)
        found[whose] = {path.rstrip("/") for path in re.findall(r"`(.+?)`", row[1])} if row else set()
    return found


def differences(text: str, territories: Mapping[str, list[str]], package: str) -> list[str]:
    """What a document's table has and the table of territories has not, and the other way round."""
    faults = []
    for whose, named in table(text).items():
        wanted = {pattern.strip("/") for pattern in territories[whose]}
        full = {path if path in wanted else f"src/{package}/{path}" for path in named}
        faults += [f"{whose}: {path}" for path in sorted(full ^ wanted)]
    return faults


def in_force(render: Render) -> dict[str, list[str]]:
    """The territories of a render, without the patterns that own nothing in it."""
    files = set(render.files())
    return {
        whose: [pattern for pattern in patterns if any(GitIgnoreSpec.from_lines([pattern]).match_files(files))]
        for whose, patterns in render.answers["territories"].items()
    }


def test_a_service_says_whose_its_files_are(renders: list[Render]) -> None:
    """The table of a service's architecture names what is yours and what is the chassis's, and nothing it has not."""
    for render in renders:
        text = render.files()["docs/architecture.md"].decode()
        assert differences(text, in_force(render), render.answers["package_name"]) == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/updating.md"])
def test_the_template_says_whose_a_file_is(page: str, renders: list[Render]) -> None:
    """The tables of the template's own documents are the table of territories."""
    render = renders[0]
    package = render.answers["package_name"]
    text = (ROOT / page).read_text(encoding="utf-8").replace("<package>", package)
    assert differences(text, render.answers["territories"], package) == []


@pytest.mark.parametrize("lacking", ["`tests/servers/`", "`__init__.py`"])
def test_a_path_that_a_table_lacks_is_seen(lacking: str, renders: list[Render]) -> None:
    """A folder of the chassis, or a file of the owner's, that no row names."""
    text = renders[0].files()["docs/architecture.md"].decode()
    assert len(differences(text.replace(lacking, ""), in_force(renders[0]), renders[0].answers["package_name"])) == 1


def test_agents_are_told_what_is_the_chassis_s(renders: list[Render]) -> None:
    """The rule that forbids edits names every folder of the chassis."""
    for render in renders:
        rule = re.search(r"^- Do not edit (.*?): they belong", render.files()["AGENTS.md"].decode(), re.MULTILINE)
        folders = {pattern.strip("/") for pattern in in_force(render)["chassis"] if not pattern.endswith(".yml")}
        assert rule
        assert {path.rstrip("/") for path in re.findall(r"`(.+?)`", rule[1])} == folders


def test_drift_looks_at_all_of_the_chassis(renders: list[Render]) -> None:
    """`make drift` compares what the table of territories calls the chassis's."""
    for render in renders:
        compared = re.search(r"^CHASSIS := (.*)$", render.files()["Makefile"].decode(), re.MULTILINE)
        assert compared
        paths = compared[1].replace("$(PACKAGE)", render.answers["package_name"]).split()
        assert paths == [pattern.strip("/") for pattern in render.answers["territories"]["chassis"]]


def test_every_territory_is_documented() -> None:
    """There are three territories, and the pages have a row for each."""
    assert re.findall(r"^(\w+):$", questions()["territories"]["default"], re.MULTILINE) == [*WHOSE, "shared"]
