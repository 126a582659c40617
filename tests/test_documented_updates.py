"""The commands of the template's own documents, run unchanged and in order: a service is rendered and updated."""

import shutil
import sys
from pathlib import Path

import pytest
from documented import Command, Walk, commands
from releases import commit

RENDER = "README.md: Start"
UPDATE = "README.md: Updates"
UPDATE_AND_COMMIT = "docs/updating.md: Update a service"
CHANGE = "docs/updating.md: Change an answer"
WORK = "README.md: Work on the template"
RENAMES = "docs/updating.md: Upgrade to a release that renames"
# Sections of which the test below runs every command that is not in NOT_RUN.
RUN = (RENDER, UPDATE, UPDATE_AND_COMMIT, CHANGE)
NOT_RUN = {
    Command(RENDER, 'copier copy "$SEAWORTHY" orders'): "asks questions, which test_prompts.py answers",
    Command(RENDER, "make setup run"): "`make demo` and test_documented_commands.py run it",
    Command(UPDATE_AND_COMMIT, "make setup check"): "test_make_check_of_a_fresh_render_passes runs it",
}
# Sections of which other tests run every command.
ELSEWHERE = {RENAMES: "test_upgrade.py", WORK: ".ci/run"}


def documented(template: Path) -> list[Command]:
    """Return the commands of the documents of the template."""
    pages = [*template.glob("*.md"), *template.glob("docs/**/*.md"), *template.glob("hooks/**/*.md")]
    return list(commands({path.relative_to(template).as_posix(): path.read_bytes() for path in pages}))


def test_every_command_of_the_template_is_run_or_says_why_not(template: Path) -> None:
    there = documented(template)
    assert {command.section for command in there} == {*RUN, *ELSEWHERE}
    assert NOT_RUN.keys() <= set(there)


@pytest.mark.update
def test_service_is_rendered_and_updated_as_the_documents_say(repository: Path, tmp_path: Path) -> None:
    template = shutil.copytree(repository, tmp_path / "template")
    commit(template, "A release", "v98.0.0")
    left = [command for command in documented(template) if command.section in RUN and command not in NOT_RUN]
    walk = Walk(tmp_path, left)
    author = [f"export GIT_{role}_NAME=Owner GIT_{role}_EMAIL=owner@localhost" for role in ("AUTHOR", "COMMITTER")]
    walk.exported = [*author, f"export PATH={Path(sys.executable).parent}:$PATH"]
    walk.shell(RENDER, values={"~/seaworthy": str(template)})
    walk.service = tmp_path / "orders"
    for number, section in enumerate((UPDATE, UPDATE_AND_COMMIT)):
        with (template / "template/SECURITY.md.jinja").open("a", encoding="utf-8") as page:
            page.write(f"\n{section}.\n")
        commit(template, "The next release", f"v99.{number}.0")
        walk.shell(section)
        assert section in (walk.service / "SECURITY.md").read_text(encoding="utf-8")
        walk.run("git add --all && git commit --allow-empty --message 'Update'")
    walk.shell(CHANGE, values={"<template>": str(template)})
    assert (tmp_path / "beside/SECURITY.md").read_bytes() == (walk.service / "SECURITY.md").read_bytes()
    assert walk.left == []
