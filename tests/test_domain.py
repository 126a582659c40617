"""`make domain`: its copy of the example, the names it accepts and refuses, and the files it writes.

test_stacks.py runs the checks of a service with a new domain.
"""

import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live import run
from questions import ROOT
from rendering import Render, Renderer

RUFF = str(Path(sys.executable).with_name("ruff"))
MAIN = "src/my_service/main.py"


@pytest.fixture(scope="module")
def rendered(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return renderer(tmp_path_factory.mktemp("domain") / "service", {"database": "sqlite"}).path


@pytest.fixture
def service(rendered: Path, tmp_path: Path) -> Path:
    """A service whose files a test may change."""
    return shutil.copytree(rendered, tmp_path / "service")


def domain(service: Path, name: str, singular: str = "") -> int:
    """Run the tool in this process, and return its exit code."""
    code: int = runpy.run_path(str(service / "tools/domain.py"))["main"](name, singular)
    return code


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns the sentence with which the tool refuses a name. It writes nothing."""

    def refuse(service: Path, name: str, singular: str = "") -> str:
        before = written(service)
        capsys.readouterr()
        assert domain(service, name, singular) == 2
        assert written(service) == before
        said = capsys.readouterr()
        (sentence,) = said.err.splitlines()
        assert said.out == ""
        return str(sentence)

    return refuse


def written(service: Path) -> dict[str, bytes]:
    """Return the files of a service without those that Python writes."""
    return {path: text for path, text in Render(service, {}).files().items() if "__pycache__" not in path}


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("orders", "order"), ("order_items", "order_item"), ("categories", "category"), ("boxes", "box"),
        ("addresses", "address"), ("dishes", "dish"), ("branches", "branch"), ("coaches", "coach"),
        ("caches", "cache"), ("houses", "house"), ("purchases", "purchase"), ("prices", "price"),
        ("statuses", "status"), ("buses", "bus"), ("quizzes", "quizz"),
    ],
)  # fmt: skip
def test_singular_of_a_plural_follows_its_ending(plural: str, singular: str) -> None:
    tool = runpy.run_path(str(ROOT / "template/tools/domain.py"))
    assert tool["singular_of"](plural) == singular


@pytest.mark.parametrize(
    ("name", "singular", "reason"),
    [
        ("", "", "Which name? make domain NAME=orders"),
        ("Orders", "", "NAME=Orders: invalid name; use at most 30 lower-case letters"),
        ("2orders", "", "NAME=2orders: invalid name"),
        ("../orders", "", "NAME=../orders: invalid name"),
        ("orders; true", "", "NAME=orders; true: invalid name"),
        ("order__items", "", "NAME=order__items: invalid name"),
        ("_orders", "", "NAME=_orders: invalid name"),
        ("änderungen", "", "NAME=änderungen: invalid name"),
        ("o" * 30 + "s", "", "invalid name"),
        ("orders", "Order", "SINGULAR=Order: invalid name"),
        ("class", "", "NAME=class: this is a keyword of Python"),
        ("orders", "lambda", "SINGULAR=lambda: this is a keyword of Python"),
        ("test", "", "NAME=test: this name is reserved"),
        ("secrets", "", "NAME=secrets: this name is reserved"),
        ("pydantic", "model", "NAME=pydantic: this name is reserved"),
        ("notes", "", "NAME=notes: this name is taken by src/my_service/notes; use another name."),
        ("chassis", "", "NAME=chassis: this name is taken"),
        ("settings", "", "NAME=settings: this name is taken by src/my_service/settings.py;"),
        ("servers", "", "NAME=servers: this name is taken by tests/servers;"),
        ("inventory", "", "NAME=inventory: the singular is unclear; add it, as in SINGULAR=item."),
        ("sheep", "sheep", "SINGULAR=sheep: this is also the plural"),
        ("titles", "", "NAME=titles: the code of a domain uses title already"),
        ("items", "", "NAME=items: the code of a domain uses items already"),
        ("lists", "", "NAME=lists: the code of a domain uses list already"),
    ],
)
def test_unusable_name_is_refused_in_one_sentence(
    rendered: Path, refusal: Callable[..., str], name: str, singular: str, reason: str
) -> None:
    assert reason in refusal(rendered, name, singular)


def test_table_that_exists_is_refused(service: Path, refusal: Callable[..., str]) -> None:
    models = service / "src/my_service/notes/models.py"
    models.write_text(models.read_text(encoding="utf-8").replace('"notes"', '"orders"'), encoding="utf-8")
    assert refusal(service, "orders") == "NAME=orders: a model has a table of this name; use another name."


def test_several_newest_migrations_are_refused(service: Path, refusal: Callable[..., str]) -> None:
    first = service / "migrations/versions/0001_notes.py"
    other = first.read_text(encoding="utf-8").replace('"0001"', '"0002"')
    (first.parent / "0002_other.py").write_text(other, encoding="utf-8")
    found = refusal(service, "orders")
    assert found.startswith("There are several newest migrations, 0001, 0002; run `")
    assert found.endswith(' -m my_service migrate merge "merge"` first.')


def test_main_without_a_list_of_domains_is_refused(service: Path, refusal: Callable[..., str]) -> None:
    main = service / MAIN
    main.write_text(main.read_text(encoding="utf-8").replace("load_domains(", "list("), encoding="utf-8")
    assert refusal(service, "orders").startswith(f"{MAIN} has no call of load_domains; add")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('load_domains(__name__, "notes")', 'load_domains(__name__, "notes", "orders")'),
        ("load_domains(__name__)", 'load_domains(__name__, "orders")'),
        (
            'load_domains(\n    __name__,\n    "notes",  # é\n)',
            'load_domains(\n    __name__,\n    "notes",\n    "orders",  # é\n)',
        ),
        (
            "load_domains(\n    __name__,\n    # One line for each domain.\n)",
            'load_domains(\n    __name__,\n    # One line for each domain.\n    "orders",\n)',
        ),
    ],
)  # fmt: skip
def test_domain_is_listed_in_main_as_its_owner_wrote_it(service: Path, before: str, after: str) -> None:
    main = service / MAIN
    text = re.sub(r"load_domains\(\n.*?\n\)", before, main.read_text(encoding="utf-8"), flags=re.DOTALL)
    main.write_text(text, encoding="utf-8")
    assert domain(service, "orders") == 0
    assert main.read_text(encoding="utf-8") == text.replace(before, after)


def test_domains_follow_each_other(service: Path, refusal: Callable[..., str]) -> None:
    """Each migration follows the newest one. The example may be gone, and a name that was written is taken."""
    shutil.rmtree(service / "src/my_service/notes")
    shutil.rmtree(service / "tests/notes")
    assert domain(service, "orders") == 0
    assert domain(service, "people", "person") == 0
    assert refusal(service, "orders").startswith("NAME=orders: this name is taken")
    texts = {
        name: next((service / "migrations/versions").glob(f"*_{name}.py")).read_text(encoding="utf-8")
        for name in ("orders", "people")
    }
    first, second = (re.findall(r'revision = "(\w+)"', text) for text in texts.values())
    assert first[1] == "0001"
    assert second[1] == first[0]
    assert "class Person(Base):" in (service / "src/my_service/people/models.py").read_text(encoding="utf-8")
    assert '"notes",\n    "orders",\n    "people",\n' in (service / MAIN).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "stack", [("fastapi", "sqlite"), ("fastapi", "none"), ("flask", "sqlite"), ("flask", "none")], ids="-".join
)
def test_domain_has_every_file_of_the_example_and_passes_the_linter(
    stack: tuple[str, str], renderer: Renderer, tmp_path: Path
) -> None:
    """The tool's copy is that of the service. The words of a long name are separated by spaces in texts."""
    service = renderer(tmp_path / "service", dict(zip(("framework", "database"), stack, strict=True))).path
    before = {path: text.decode() for path, text in written(service).items()}
    parts = re.split(r"^=== (.+)\n", before["tools/domain.txt"], flags=re.MULTILINE)
    wanted = {path for path in before if re.search(r"/notes/|/0001_notes\.py$", path)}
    wanted -= {"tests/notes/test_disaster_recovery.py"}
    assert dict(zip(parts[1::2], parts[2::2], strict=True)) == {path: before[path] for path in wanted}
    assert domain(service, "customer_subscription_changes") == 0
    run(RUFF, "check", "--no-cache", ".", cwd=service)
    run(RUFF, "format", "--no-cache", "--check", ".", cwd=service)
    files = written(service)
    new = {path: files[path].decode() for path in files.keys() - before.keys()}
    assert len(new) == len(wanted)
    for path, text in new.items():
        compile(text, path, "exec")
        assert not re.search(r"note", path + text, re.IGNORECASE)
        assert not re.search(r"\b(\w+_)?an?[ _]customer", text), "`make domain NAME=orders` would write `a order`"
    errors = new["src/my_service/customer_subscription_changes/errors.py"]
    assert 'default_detail = "There is no customer subscription change with this id."' in errors
