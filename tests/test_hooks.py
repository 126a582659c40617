"""The machinery of migrations: an owner's edits follow a file that a major release renames."""

import sys
from pathlib import Path

import pytest
from copier import run_copy, run_update
from copier.errors import UnsafeTemplateError
from questions import ROOT
from releases import commit, git
from throwaway import Contents, release
from updating import QUIETLY, run

pytestmark = pytest.mark.update

SCRIPT = "hooks/carry_renamed_files.py"
LINES = "".join(f"line {number} of {{{{ choice }}}}\n" for number in range(9))
NEW_LINES = LINES.replace("line 8", "line eight")
# What a major release that renames two files writes into copier.yml.
MIGRATION = """
_migrations:
  - version: v2.0.0
    command:
      - "{{ _copier_python }}"
      - "{{ _copier_conf.src_path }}/hooks/carry_renamed_files.py"
      - "{{ _copier_answers._src_path }}"
      - "{{ _copier_conf.answers_file }}"
      - src/old.txt=src/new/name.txt
      - logo.png=images/logo.png
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A release, and a major one that renames its files and changes the last line of one."""
    path = tmp_path / "template"
    old: Contents = {"template/src/old.txt.jinja": LINES, "template/logo.png": b"\x89PNG\x00old"}
    new: Contents = {
        "template/src/new/name.txt.jinja": NEW_LINES,
        "template/images/logo.png": b"\x89PNG\x00new",
        SCRIPT: (ROOT / SCRIPT).read_bytes(),
    }
    release(path, "v1.0.0", old)
    return release(path, "v2.0.0", new, MIGRATION)


@pytest.fixture
def service(template: Path, tmp_path: Path) -> Path:
    """A service of the first release, with an answer that is not the default."""
    path = tmp_path / "service"
    run_copy(str(template), path, {"choice": "b"}, vcs_ref="v1.0.0", **QUIETLY)
    commit(path, "Rendered")
    return path


def update(service: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Commit what the owner did, update with trust, and return what the migration said."""
    commit(service, "The owner's work")
    capfd.readouterr()
    run_update(service, vcs_ref="v2.0.0", unsafe=True, **QUIETLY)
    return capfd.readouterr().err


def edit(service: Path, old: str, new: str) -> None:
    """Change a line of the file that will be renamed."""
    file = service / "src/old.txt"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_an_edit_follows_the_file_to_its_new_name(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A clean merge holds the owner's edit and the release's, under the new name alone."""
    edit(service, "line 2 of b", "line 2 of the owner")
    said = update(service, capfd)
    text = (service / "src/new/name.txt").read_text()
    assert "line 2 of the owner\n" in text
    assert "line eight of b\n" in text
    assert not (service / "src/old.txt").exists()
    assert "src/new/name.txt took over your edits to src/old.txt." in said


def test_a_conflict_keeps_both_texts(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A line that both changed is marked, with both texts, and one sentence says where."""
    edit(service, "line 8 of b", "line 8 of the owner")
    said = update(service, capfd)
    text = (service / "src/new/name.txt").read_text()
    assert "<<<<<<< before updating\nline 8 of the owner\n=======\nline eight of b\n>>>>>>> after updating\n" in text
    assert "src/new/name.txt has 1 conflict(s)" in said


def test_an_untouched_file_is_only_renamed(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that its owner never edited is the new render, and nothing is said."""
    said = update(service, capfd)
    assert (service / "src/new/name.txt").read_text() == LINES.replace("line 8", "line eight").replace(
        "{{ choice }}", "b"
    )
    assert (service / "images/logo.png").read_bytes() == b"\x89PNG\x00new"
    assert not (service / "src/old.txt").exists()
    assert "edits" not in said


def test_a_deleted_file_is_left_to_its_owner(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that its owner had deleted comes as rendered, and a sentence says so."""
    (service / "src/old.txt").unlink()
    said = update(service, capfd)
    assert "line eight of b\n" in (service / "src/new/name.txt").read_text()
    assert "src/old.txt was deleted here" in said


def test_what_cannot_be_merged_lies_beside(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A binary file that both changed comes as rendered, with the owner's beside it."""
    (service / "logo.png").write_bytes(b"\x89PNG\x00ours")
    said = update(service, capfd)
    assert (service / "images/logo.png").read_bytes() == b"\x89PNG\x00new"
    assert (service / "images/logo.png.rej").read_bytes() == b"\x89PNG\x00ours"
    assert "could not be merged with your logo.png" in said


def test_a_file_of_the_owners_under_the_new_name_is_kept(service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where the owner has another file under the new name, neither of the two texts is lost."""
    edit(service, "line 2 of b", "line 2 of the owner")
    (service / "src/new").mkdir()
    (service / "src/new/name.txt").write_text("another file\n")
    update(service, capfd)
    assert "another file\n" in (service / "src/new/name.txt").read_text()
    assert "line 2 of the owner\n" in (service / "src/new/name.txt.rej").read_text()


def test_without_the_old_render_nothing_is_merged(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the old release cannot be rendered, the owner's file lies beside the new one, unmerged."""
    edit(service, "line 2 of b", "line 2 of the owner")
    commit(service, "The owner's work")
    (service / "src/old.txt").rename(service / "src/new.txt").write_text("rendered\n")
    monkeypatch.setenv("VERSION_FROM", "v0.0.0")
    rename = ["no template", ".copier-answers.yml", "src/old.txt=src/new.txt"]
    result = run(sys.executable, ROOT / SCRIPT, *rename, cwd=service)
    assert result.returncode == 0, result.stderr
    assert (service / "src/new.txt").read_text() == "rendered\n"
    assert "line 2 of the owner\n" in (service / "src/new.txt.rej").read_text()


def test_a_migration_needs_trust(service: Path) -> None:
    """Without --trust the update to a release with a migration is refused, and the service is as it was."""
    with pytest.raises(UnsafeTemplateError):
        run_update(service, vcs_ref="v2.0.0", **QUIETLY)
    assert git(service, "status", "--porcelain") == ""


def test_the_script_needs_nothing_installed() -> None:
    """The script imports the standard library alone: it runs before anything is installed, isolated from the path."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='not main')"
    result = run(sys.executable, "-S", "-I", "-c", code, ROOT / SCRIPT, cwd=ROOT)
    assert result.returncode == 0, result.stderr
