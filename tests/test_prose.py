"""Checks the English of documents, docstrings, comments and messages: phrases that made readers stop do not come back.

Each pattern is a phrase that a reader had to read twice, with the wording to use instead. The test reads Markdown,
question files and settings as text, and of Python only comments and string literals.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("template", "options", "docs", "scripts", "hooks", "benchmarks", "tests", "examples")
SUFFIXES = {".md", ".yml", ".yaml", ".toml", ".env", ".production", ".jinja", ".py", ".sh"}
# Generated from benchmark runs or code, dependencies, and this file, which must spell the phrases out.
IGNORED = {"__pycache__", "node_modules", "test_prose.py", "licenses", "releases"}
# `path: phrase` of texts that must stay: this title is in the settings.py of owners, and their documents repeat it.
ALLOWED = frozenset(
    f"{path}: of your own"
    for path in (
        "options/settings/yours.env",
        "options/settings/yours.md",
        "scripts/settings_docs.py",
        "template/src/{{package_name}}/settings.py.jinja",
        *(f"examples/{name}/service/src/{name}/settings.py" for name in ("deals", "insurance", "prices", "training")),
    )
)

PATTERNS = {
    "name the subject, not What or Who": r"(?:^|[.:] |\| |- |> |\n)(?:What|Who|Whoever)\b[^.?]*[.|]",
    "search words as heading": r"(?:^|\n)##+ (?:Who|Whoever|Whose|Is it|Every now|What came)\b[^?\n]*(?=\n|$)",
    "is not a, or invalid": r"(?<!here )\b(?:is|are|was|were) no (?!longer|more|less|fewer|later|\w+er than)\w+",
    "again, or new": r"\banew\b",
    "recently, or drop it": r"\bof late\b",
    "forever, or a limit": r"\bfor ever\b",
    "also, or drop it": r"\bbesides\b",
    "reported, or logged": r"\b(?:is|are|was|were|be|been) told of\b",
    "handled, or checked": r"\b(?:is|are|was|were|be) seen to\b",
    "result, or outcome": r"\b(?:came|comes|become|became|becomes) of (?:it|that|them)\b",
    "no one, none, or the component": r"\b(?:[Nn]obody(?=[\s.,;:])|[Ww]homever\b|[Ww]hoever\b)",
    "timeout": r"\b[Tt]ime-outs?\b",
    "gets or receives": r"\bhears? (?:503|429|504|of)\b",
    "is, or is stored": r"\b(?:lies|lie) (?:in|beside|at|on|under|there|behind)\b",
    "unavailable, or unreachable": r"\b(?:is|are|was|were|be) away\b",
    "evaluate, enforce, or check": r"\b[Jj]udg(?:es|ed|ement|ements)\b",
    "fix": r"\b[Mm]end(?:s|ed|ing)?\b",
    "its own, or drop it": r"\bof (?:its|their|our|your|my) own\b",
    "drop it": r"\bas it is[.,;)]",
    "finish it": r"\bTODO\(\w+\)",
}  # fmt: skip
COMPILED = {advice: re.compile(pattern) for advice, pattern in PATTERNS.items()}


def texts(root: Path) -> Iterator[Path]:
    """Yield every file that holds prose for a reader."""
    yield from (path for path in root.iterdir() if path.suffix in SUFFIXES and path.is_file())
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.suffix in SUFFIXES and path.is_file() and IGNORED.isdisjoint(path.parts):
                yield path


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments and string literals with the number of their first line; adjoining comments count as one."""
    comment, began, ended = "", 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind, text, (line, _), _, _ = token
        if kind == tokenize.COMMENT:
            if line != ended + 1:
                yield began, comment
                comment, began = "", line
            comment, ended = f"{comment} {text.lstrip('# ')}", line
        elif kind == tokenize.STRING or tokenize.tok_name[kind] == "FSTRING_MIDDLE":
            yield line, text.lstrip("rbfRBF").strip("\"'")
    yield began, comment


def plain_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a text with the number of their first line; code blocks are left out."""
    source = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), source, flags=re.DOTALL | re.MULTILINE)
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", source):
        yield line + len(paragraph) - len(paragraph.lstrip("\n")), paragraph
        line += paragraph.count("\n")


def faults(path: Path, source: str) -> Iterator[str]:
    """Yield each phrase of a file that a pattern names, as `path:line: "phrase": advice`."""
    prose = python_prose(source) if path.suffix == ".py" else plain_prose(source)
    for line, text in prose:
        plain = re.sub(r"\n[ #]*", "\n", text) if "|" in text or "- " in text else re.sub(r"\s*\n[ #]*", " ", text)
        for advice, pattern in COMPILED.items():
            for found in pattern.finditer(plain):
                phrase = " ".join(found[0].split())
                if f"{path.as_posix()}: {phrase}" not in ALLOWED:
                    yield f'{path.as_posix()}:{line}: "{phrase[:70]}": {advice}'


def test_documents_docstrings_and_messages_use_plain_english() -> None:
    """No document, docstring, comment, question or message holds a phrase of the list."""
    found = [
        fault
        for path in sorted(set(texts(ROOT)))
        for fault in faults(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    assert found == [], f"{len(found)} phrases:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "What cannot be read is refused.",
        "It stops. Whoever waits for it gets 503.",
        "'x' is no port.",
        "Start it anew.",
        "The database is away.",
        "Requests get 503: nobody waits.",
        "A time-out ends the call.",
        "All others hear 503 at once.",
        "The file lies in `docs/`.",
        "Mend the database.",
    ],
)
def test_faults_of_a_riddle_names_the_phrase(sentence: str) -> None:
    """Each kind of riddle is found, in a document and in a docstring."""
    assert len(list(faults(Path("page.md"), sentence))) >= 1
    assert len(list(faults(Path("module.py"), f'"""{sentence}"""\n'))) >= 1


@pytest.mark.parametrize(
    "sentence",
    [
        "What is a chassis?",
        "The server rejects malformed requests.",
        "There is no lock file.",
        "It is no longer sent.",
        "Requests fail fast with 503.",
        "The handler decides what is stored.",
    ],
)
def test_faults_of_plain_english_finds_nothing(sentence: str) -> None:
    """Plain sentences pass, questions among them."""
    assert list(faults(Path("page.md"), sentence)) == []


def test_python_prose_leaves_code_out() -> None:
    """Only comments and strings of Python are read; a name may be anything."""
    assert list(faults(Path("module.py"), "nobody = besides\n")) == []
    assert len(list(faults(Path("module.py"), "x = 1  # nobody waits\n"))) == 1
