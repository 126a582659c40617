"""A measurement replaces its own part of a document, and nothing that was written by hand."""

import pytest
from measured import replaced
from questions import ROOT

PAGE = "Before.\n<!-- measured: one -->\n\nold\n\n<!-- end -->\nAfter.\n<!-- measured: two -->\n<!-- end -->\n"


def test_replaced_part_leaves_the_rest_of_the_page() -> None:
    page = replaced(PAGE, "one", r"new \1")
    assert page == PAGE.replace("old", r"new \1")
    assert replaced(page, "one", "old") == PAGE


@pytest.mark.parametrize(("page", "name"), [(PAGE, "three"), (PAGE + PAGE, "one"), ("<!-- measured: one -->", "one")])
def test_part_that_is_missing_or_repeated_raises(page: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"there must be one part `<!-- measured: {name} -->`"):
        replaced(page, name, "new")


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ("docs/reliability.md", ["faults", "services", "leaks", "settings", "alerts", "deployments"]),
        ("docs/versions.md", ["versions"]),
        ("CHANGELOG.md", ["libraries"]),
    ],
)
def test_document_has_each_part_that_is_measured(document: str, names: list[str]) -> None:
    page = (ROOT / document).read_text(encoding="utf-8")
    for name in names:
        assert "new" in replaced(page, name, "new")
