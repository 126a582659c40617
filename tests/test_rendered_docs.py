"""A rendered service's documents say what is so: whose a file is, what settings there are, and what is not there."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec
from questions import ROOT, metadata, questions
from rendering import Render

# Names in documents that are not settings: of make, compose.yaml, deploy.sh, migrations/env.py, OpenTelemetry's SDK,
# and of `ssl-mode`.
NO_SETTINGS = {
    "BACKUP_COPY_TO",
    "ENV_FILE",
    "HTTPS_PORT",
    "HTTP_PORT",
    "IGNORED_TABLES",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "READY_SECONDS",
    "SSL_CERT_FILE",
    "VERIFY_CA",
    "VERIFY_IDENTITY",
}
# The values that a pipeline needs to deploy.
NO_SETTINGS |= {"DEPLOY_URL", "LOAD_CREDENTIALS"} | {
    name for row in metadata("deployment").values() for name in [*row.get("variables", []), *row.get("secrets", [])]
}
WHOSE = ("yours", "chassis")


def markdown(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for path, content in files.items():
        if path.endswith(".md"):
            yield path, content.decode()


def configured(files: Mapping[str, bytes]) -> set[str]:
    """The settings that the configuration lists."""
    return set(re.findall(r"^\| `([A-Z_]+)`", files["docs/configuration.md"].decode(), re.MULTILINE))


def unknown_settings(files: Mapping[str, bytes], known: Set[str] = frozenset()) -> list[str]:
    """Settings that a document names and that neither the configuration lists nor `known` holds."""
    known = known | configured(files)
    named = {(path, name) for path, text in markdown(files) for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b", text)}
    return sorted(f"{path}: {name}" for path, name in named if name not in known | NO_SETTINGS)


def test_documents_name_settings_that_there_are(renders: list[Render]) -> None:
    """A document names settings of the service only. The page of an option may name those of every service."""
    every = {setting for render in renders for setting in configured(render.files())}
    for render in renders:
        faults = unknown_settings(render.files())
        assert [fault for fault in faults if not fault.startswith("docs/options/")] == []
        assert unknown_settings(render.files(), every) == []


def test_a_setting_that_is_gone_is_seen() -> None:
    """A document that names a setting of yesterday is found."""
    files = {"docs/configuration.md": b"| `PORT` | integer |\n", "SECURITY.md": b"Set `RATE_LIMIT` or `PORT`.\n"}
    assert unknown_settings(files) == ["SECURITY.md: RATE_LIMIT"]


def rows_of(text: str, heading: str) -> list[str]:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()


def test_a_row_of_the_checklist_stands_under_its_heading(renders: list[Render]) -> None:
    """Options add rows to the section of the checklist that they concern."""
    for render in renders:
        checklist = render.files()["docs/production-checklist.md"].decode()
        passed = "- The branch `main` is protected: it accepts a merge only after CI has passed."
        assert (passed in rows_of(checklist, "Code")) == (render.answers["ci"] == "github")


def table(text: str) -> dict[str, set[str]]:
    """The paths in the rows of a table of whose a file is, without the slash at the end of a folder."""
    found = {}
    for whose in WHOSE:
        row = re.search(rf"^\| \*\*(?:the )?{whose}\*\*[^|]*\|([^|]*)\|", text, re.MULTILINE)
        found[whose] = {path.rstrip("/") for path in re.findall(r"`(.+?)`", row[1])} if row else set()
    return found


def differences(text: str, territories: Mapping[str, list[str]], package: str) -> list[str]:
    """Return paths that only a document's table or only the table of territories has."""
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


@pytest.mark.parametrize("lacking", ["`tests/servers/`", "`tests/settings.env`"])
def test_a_path_that_a_table_lacks_is_seen(lacking: str, renders: list[Render]) -> None:
    """A folder of the chassis, or a file of the owner's, that no row names."""
    text = renders[0].files()["docs/architecture.md"].decode()
    assert len(differences(text.replace(lacking, ""), in_force(renders[0]), renders[0].answers["package_name"])) == 1


def test_agents_are_told_what_is_the_chassis_s(renders: list[Render]) -> None:
    """The rule that forbids edits names all of the chassis."""
    for render in renders:
        rule = re.search(r"^- Do not edit (.*?): they belong", render.files()["AGENTS.md"].decode(), re.MULTILINE)
        folders = {pattern.strip("/") for pattern in in_force(render)["chassis"]}
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


def missing_imports(files: Mapping[str, bytes]) -> list[str]:
    """Imports in documents of a module, or of a name in it, that the service lacks."""
    package = next(path.removesuffix("/chassis/features.py") for path in files if path.endswith("/chassis/features.py"))
    faults = []
    for path, text in markdown(files):
        for module, names in re.findall(r"^ *from \.+(chassis[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
            base = f"{package}/{module.replace('.', '/')}"
            source = files.get(f"{base}.py", files.get(f"{base}/__init__.py", b"")).decode()
            for name in names.split(", "):
                defined = rf"^(?:(?:async )?def |class |from \S+ import .*\b)?{name}\b"
                if not re.search(defined, source, re.MULTILINE):
                    faults.append(f"{path}: from {module} import {name}")
    return faults


def test_imports_in_documents_exist(renders: list[Render]) -> None:
    """The modules and names that an example imports are those of the service."""
    assert [fault for render in renders for fault in missing_imports(render.files())] == []


def missing_tests(documents: Iterable[tuple[str, str]], files: Mapping[str, bytes]) -> list[str]:
    """Return the tests that documents name as `test_file.py::test_name` and that do not exist."""
    sources = {path.rpartition("/")[2]: content.decode() for path, content in files.items() if path.endswith(".py")}
    return [
        f"{path}: {module}::{name}"
        for path, text in documents
        for module, name in re.findall(r"\b(test_\w+\.py)::(test_\w+)(?![\w*])", text)
        if not re.search(rf"^(?:async )?def {name}\(", sources.get(module, ""), re.MULTILINE)
    ]


def test_tests_named_in_documents_exist(renders: list[Render]) -> None:
    """A statement with a test is one that the owner can check, whatever was chosen."""
    for render in renders:
        files = render.files()
        assert missing_tests(markdown(files), files) == []
        assert files["docs/api-security.md"].count(b"\n| **API") == 10


def test_tests_named_in_reliability_exist() -> None:
    """Its tests are those of the template and those of every service."""
    files = {path.name: path.read_bytes() for folder in ("tests", "template/tests") for path in python_files(folder)}
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    assert missing_tests([("docs/reliability.md", text)], files) == []


def python_files(folder: str) -> Iterator[Path]:
    return (ROOT / folder).rglob("test_*.py")


@pytest.mark.parametrize("name", ["test_b.py::test_one", "test_a.py::test_on", "test_a.py::test_one_more"])
def test_missing_tests_finds_a_name_that_does_not_exist(name: str) -> None:
    """The name of another file or a part of a name is not enough."""
    files = {"tests/chassis/test_a.py": b"def test_one() -> None:\n"}
    assert missing_tests([("page.md", f"Safe. `{name}`")], files) == [f"page.md: {name}"]
    assert missing_tests([("page.md", "`test_a.py::test_one`, `test_b.py::test_group_*`")], files) == []
