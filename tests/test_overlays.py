"""Overlays: a folder whose name renders to `.`, which Copier does and does not document. Pinned on a small template."""

from pathlib import Path

import pytest
from copier import run_copy, run_update
from releases import commit
from throwaway import Contents, release
from updating import QUIETLY

pytestmark = pytest.mark.update

LINES = "".join(f"line {number}\n" for number in range(9))
LAYERS = {
    "template/src/base.txt": "base\n",
    "template/{{on_a}}/src/layered.txt": "a\n" + LINES,
    "template/{{on_b}}/src/layered.txt": "b\n" + LINES,
    "template/{{on_a}}/src/only_a.txt": "a\n",
    "template/{{on_b}}/only_b/b.txt": "b\n",
    "template/{{on_a}}/{{on_deep}}/src/deep.txt": "deep\n",
}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Two releases; the second changes the end of both layered files."""
    path = release(tmp_path / "template", "v1.0.0", LAYERS)
    changed: Contents = {name: text + "new\n" if "layered" in name else text for name, text in LAYERS.items()}
    return release(path, "v1.1.0", changed)


def tree(service: Path) -> list[str]:
    """Return the rendered files."""
    found = (path.relative_to(service).as_posix() for path in service.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.startswith("."))


@pytest.fixture
def service(template: Path, tmp_path: Path) -> Path:
    """A service of the first release, whose owner changed a layered file."""
    path = tmp_path / "service"
    run_copy(str(template), path, vcs_ref="v1.0.0", **QUIETLY)
    commit(path, "Rendered")
    return path


def test_a_copy_lays_the_chosen_overlay_over_the_rest(service: Path) -> None:
    """Files of a chosen overlay, even a nested one, are merged into the render; others leave no file and no folder."""
    assert tree(service) == ["src/base.txt", "src/deep.txt", "src/layered.txt", "src/only_a.txt"]
    assert (service / "src/layered.txt").read_text().startswith("a\n")
    assert not (service / "only_b").exists()


@pytest.mark.parametrize("choice", ["a", "b"])
def test_an_edit_of_a_layered_file_survives(service: Path, choice: str) -> None:
    """An update merges a layered file as any other, also when the answer and with it the layer changes."""
    layered = service / "src/layered.txt"
    layered.write_text(layered.read_text().replace("line 4\n", "line 4, the owner's\n"))
    commit(service, "The owner's work")
    run_update(service, {"choice": choice}, vcs_ref="v1.1.0", **QUIETLY)
    merged = LINES.replace("line 4\n", "line 4, the owner's\n")
    assert layered.read_text() == f"{choice}\n{merged}new\n"


def test_another_answer_swaps_the_layers(service: Path) -> None:
    """When the answer changes, the files of the old overlay go and those of the new one come."""
    run_update(service, {"choice": "b"}, vcs_ref="v1.1.0", **QUIETLY)
    assert tree(service) == ["only_b/b.txt", "src/base.txt", "src/layered.txt"]
    commit(service, "Another answer")
    run_update(service, {"choice": "a"}, vcs_ref="v1.1.0", **QUIETLY)
    assert tree(service) == ["src/base.txt", "src/deep.txt", "src/layered.txt", "src/only_a.txt"]
    assert not (service / "only_b").exists()
