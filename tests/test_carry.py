"""An owner's edits follow a file that a release renames, and each edit without a place to go is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from carry import Carried, Renders, carry

LINES = "".join(f"line {number}\n" for number in range(9))
NEW_LINES = LINES.replace("line 8", "line eight")
OLD, NEW, GONE, LOGO = "src/old.txt", "src/new/name.txt", "src/gone.txt", "logo.png"
FILES = {OLD: NEW, LOGO: "images/logo.png"}
COMMIT = "0123456789abcdef"


class Names:
    """A release that renames two files, drops one, and renames a word."""

    def path(self, old: str) -> str | None:
        return FILES.get(old)

    def whereabouts(self, path: str) -> str:
        return f"see src/other.txt for {path}"

    def text(self, text: str, path: str, new: str) -> str:
        assert new == FILES[path]
        return text.replace("old word", "new word")


class Service:
    """A service before and after its update, and what both releases render."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new, self.now = folder / "old", folder / "new", folder / "now"
        self.committed: dict[str, bytes | None] = {}
        self.render(self.old, {OLD: LINES.encode(), GONE: LINES.encode(), LOGO: b"\x89PNG\x00old"})
        for folder in (self.new, self.now):
            self.render(folder, {NEW: NEW_LINES.encode(), FILES[LOGO]: b"\x89PNG\x00new"})

    def render(self, folder: Path, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)

    def found(self, path: str, commit: str) -> bytes | None:
        assert commit == COMMIT
        return self.committed.get(path, (self.old / path).read_bytes())

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.old / path).read_text()
        assert old in text
        self.committed[path] = text.replace(old, new).encode()

    def carry(self) -> Carried:
        return carry(Renders(self.old, self.new, self.now, self.found, COMMIT), Names())


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_carry_an_edit_of_other_lines_merges_it(service: Service) -> None:
    """The owner's line and the release's line are both in the file with the new name."""
    service.edit(OLD, "line 2", "line 2 of the owner")
    carried = service.carry()
    assert carried.contents == {NEW: NEW_LINES.replace("line 2", "line 2 of the owner").encode()}
    assert carried.sentences == [f"{NEW} took over your edits to {OLD}."]
    assert carried.notes == []


def test_carry_an_edit_of_the_same_line_marks_a_conflict(service: Service) -> None:
    """Both texts stay, and the line of the markers is named."""
    service.edit(OLD, "line 8", "line 8 of the owner")
    carried = service.carry()
    conflict = "<<<<<<< before updating\nline 8 of the owner\n=======\nline eight\n>>>>>>> after updating\n"
    assert conflict in carried.contents[NEW].decode()
    (note,) = carried.notes
    assert (note.path, note.line, note.is_certain) == (NEW, 9, True)


def test_carry_a_line_whose_names_alone_changed_is_no_conflict(service: Service) -> None:
    """Base and ours get the new names before the merge."""
    for folder, word in ((service.old, "old"), (service.new, "new"), (service.now, "new")):
        path = folder / (OLD if word == "old" else NEW)
        path.write_text(LINES.replace("line 5", f"a {word} word"))
    service.edit(OLD, "line 4", "line 4 of the owner")
    carried = service.carry()
    assert "line 4 of the owner\na new word\n" in carried.contents[NEW].decode()
    assert carried.notes == []


def test_carry_an_untouched_file_says_nothing(service: Service) -> None:
    """The new render stays unchanged."""
    assert service.carry() == Carried()


def test_carry_a_second_time_changes_nothing(service: Service) -> None:
    """Edits that are there are not merged again, whatever the owner wrote since."""
    service.edit(OLD, "line 2", "line 2 of the owner")
    service.render(service.now, service.carry().contents)
    assert service.carry() == Carried()
    (service.now / NEW).write_text(NEW_LINES.replace("line 2", "line 2 of a later day"))
    later = service.carry()
    assert (later.contents, later.notes) == ({}, [])
    assert "taken to be in it" in later.sentences[0]


def test_carry_a_deleted_file_is_named(service: Service) -> None:
    """The owner deleted it under its old name, and it came back under the new one."""
    service.committed[OLD] = None
    carried = service.carry()
    assert carried.contents == {}
    (note,) = carried.notes
    assert (note.path, note.is_certain) == (NEW, False)
    assert f"you deleted {OLD}" in note.text


def test_carry_a_binary_file_lays_the_edit_beside(service: Service) -> None:
    """Nothing is lost where no merge is possible."""
    service.committed[LOGO] = b"\x89PNG\x00ours"
    carried = service.carry()
    assert carried.contents == {"images/logo.png.rej": b"\x89PNG\x00ours"}
    assert "cannot be merged" in carried.notes[0].text


def test_carry_a_file_without_a_new_name_names_each_edit(service: Service) -> None:
    """Path, line, where the content is now, and how to see the owner's version."""
    service.edit(GONE, "line 3\n", "mine\nline 3\n")
    carried = service.carry()
    assert carried.contents == {}
    (note,) = carried.notes
    assert (note.path, note.line, note.is_certain) == (GONE, 4, True)
    assert "see src/other.txt for src/gone.txt; your version: git show 0123456789ab:./src/gone.txt" in note.text


def test_carry_a_file_that_the_service_still_has_is_left_alone(service: Service) -> None:
    """An update leaves the owner's files where they are."""
    service.edit(GONE, "line 3", "mine")
    service.render(service.now, {GONE: b"mine"})
    assert service.carry() == Carried()
