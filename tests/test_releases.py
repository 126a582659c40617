"""The table of releases, and the tagged clone that is made from it."""

from pathlib import Path

import pytest
from releases import commit, faults, git, recorded, starting_points, tagged_clone

pytestmark = pytest.mark.update


def record(root: Path, **releases: str) -> None:
    """Write a table of releases; v0_1_0 stands for 0.1.0."""
    lines = [f'"{tag[1:].replace("_", ".")}" = "{name}"\n' for tag, name in releases.items()]
    (root / "tests").mkdir(parents=True, exist_ok=True)
    (root / "tests/releases.toml").write_text("[releases]\n" + "".join(lines), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of two commits and a tag that is not a release."""
    path = tmp_path / "root"
    record(path)
    commit(path, "First", "v7.7.7")
    (path / "file").write_text("committed\n", encoding="utf-8")
    commit(path, "Second")
    return path


def test_every_recorded_release_is_in_the_history() -> None:
    """The table names full commits of this history, in order. It may be empty."""
    assert faults(recorded()) == []


def test_an_empty_table_is_allowed(root: Path) -> None:
    """Without a release yet, updates start from the last commit alone."""
    assert faults(recorded(root), root) == []
    assert starting_points(root) == {"v0.0.1": git(root, "rev-parse", "HEAD~1")}


def test_a_release_that_is_no_ancestor_is_named(root: Path) -> None:
    """A release on another branch, one that is not here, a short name and a wrong order are each named."""
    git(root, "checkout", "--quiet", "-b", "aside", "HEAD~1")
    commit(root, "Aside")
    aside = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "--quiet", "main")
    head = git(root, "rev-parse", "HEAD")
    assert faults({"0.1.0": aside}, root) == [f"0.1.0: {aside} is not in the history of HEAD"]
    assert "is not here" in faults({"0.1.0": "0" * 40}, root)[0]
    assert faults({"0.1.0": head[:7]}, root) == [f"0.1.0: {head[:7]} is not a full commit id"]
    assert faults({"0.10.0": head, "0.9.0": head}, root) == ["not in order, oldest first"]
    assert faults({"0.9.0": head, "0.10.0": head}, root) == []


def test_tags_come_from_the_table_alone(root: Path, tmp_path: Path) -> None:
    """The clone has a tag for every release, for the last commit and for the working tree, and no other."""
    first = git(root, "rev-parse", "HEAD~1")
    record(root, v0_1_0=first)
    commit(root, "Record the release")
    commit(root, "Afterwards")
    found = tagged_clone(tmp_path / "clone", root)
    assert (found.old, found.new) == (("v0.1.0", "v0.1.1"), "v0.2.0")
    assert git(found.path, "tag", "--list").split() == ["v0.1.0", "v0.1.1", "v0.2.0"]
    assert git(found.path, "rev-parse", "v0.1.0^{commit}") == first
    assert git(found.path, "rev-parse", "v0.1.1^{commit}") == git(root, "rev-parse", "HEAD~1")
    assert git(found.path, "diff", "v0.2.0", git(root, "rev-parse", "HEAD")) == ""


def test_uncommitted_work_is_the_newest_version(root: Path, tmp_path: Path) -> None:
    """Uncommitted changes are in the newest version; the last commit is an old one."""
    (root / "file").unlink()
    (root / "new").write_text("uncommitted\n", encoding="utf-8")
    found = tagged_clone(tmp_path / "clone", root)
    assert git(found.path, "rev-parse", f"{found.old[-1]}^{{commit}}") == git(root, "rev-parse", "HEAD")
    assert git(found.path, "diff", "--name-status", found.old[-1], found.new).split() == ["D", "file", "A", "new"]
    assert git(root, "status", "--porcelain") != ""
