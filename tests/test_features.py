"""Features are optional: an update adds and removes each, and a service carries only what was chosen."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy, run_recopy
from owner import develop
from questions import questions, read_yaml, values
from releases import commit
from rendering import Render, Renderer
from updating import QUIETLY, conflicts, differences, files, territory, update

# The most lines of Python that chassis/ may have. Decision record 5 has the figures and the aims.
MOST_LINES: list[tuple[int, dict[str, Any]]] = [
    (4550, {"framework": "fastapi", "database": "none", "features": [], "monitoring": []}),
    (5870, {"framework": "fastapi", "features": [], "monitoring": []}),
    (7870, {"framework": "fastapi", "monitoring": []}),
    (8215, {"framework": "fastapi"}),
    (4725, {"framework": "flask", "database": "none", "features": [], "monitoring": []}),
    (6020, {"framework": "flask", "features": [], "monitoring": []}),
    (8050, {"framework": "flask", "monitoring": []}),
    (8395, {"framework": "flask"}),
]
FEATURES = values()["features"]
DEFAULT = ["rate-limit", "backup", "deploy-check", "http-client"]
# Those of 0.2.3.
BEFORE = [*DEFAULT, "cache", "data-files"]
Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("most", "answers"), MOST_LINES, ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else None
)
def test_the_chassis_has_at_most_so_many_lines(
    most: int, answers: dict[str, Any], renderer: Renderer, tmp_path: Path
) -> None:
    """A service without features is small, and the default one does not grow unnoticed."""
    render = renderer(tmp_path, answers)
    sources = render.path.glob("src/*/chassis/**/*.py")
    assert sum(path.read_bytes().count(b"\n") for path in sources) <= most


def imports(render: Render) -> str:
    """The text of the list of features."""
    return render.files()["src/my_service/chassis/features.py"].decode()


@pytest.mark.parametrize("framework", values()["framework"])
def test_without_features_nothing_of_them_is_rendered(framework: str, renderer: Renderer, tmp_path: Path) -> None:
    """Neither files, nor settings, nor libraries, nor containers, nor a store."""
    answers = {"framework": framework, "features": [], "database": "sqlite"}
    render = renderer(tmp_path, answers | {"cache": "redis"})  # a store that nothing uses
    assert render.answers["store"] == "none"
    named = {name.replace("-", "_") for name in FEATURES} | {"redis", "memory"}
    found = [path for path in render.files() if named & {Path(path).stem, *Path(path).parts}]
    found = [path for path in found if not path.endswith("chassis/web/websocket.py")]  # of FastAPI
    assert found == []
    everything = b"".join(content for path, content in render.files().items() if not path.endswith((".md", ".py")))
    assert not [word for word in (b"RATE_LIMIT", b"BACKUP_", b"REDIS", b"pyrage", b"redis") if word in everything]
    assert not named & set(imports(render).replace(",", " ").split())
    page = render.path / "docs/options/fastapi.md"
    assert (render.path / "tests/chassis/test_fastapi_websocket.py").exists() == page.exists()


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_alone_brings_itself(feature: str, renderer: Renderer, tmp_path: Path) -> None:
    """The folder of the chassis is there, and it is the only one of a feature."""
    render = renderer(tmp_path, {"features": [feature]})
    folders = {path.name for path in (render.path / "src/my_service/chassis").iterdir() if path.is_dir()}
    assert folders & {name.replace("-", "_") for name in FEATURES} == {feature.replace("-", "_")}
    assert (render.answers["store"] == "memory") == (feature in ("rate-limit", "cache", "idempotency", "websocket"))


def test_the_default_has_no_backup_without_a_database(renderer: Renderer, tmp_path: Path) -> None:
    """The defaults are valid whatever was answered before."""
    assert renderer(tmp_path / "none", {"database": "none"}).answers["features"] == [
        name for name in DEFAULT if name != "backup"
    ]
    assert renderer(tmp_path / "sqlite").answers["features"] == DEFAULT


@pytest.fixture
def service(repository: Path, tmp_path: Path) -> Make:
    """Renders a service of the template into a new repository."""

    def make(name: str = "service", **answers: Any) -> Path:
        run_copy(str(repository), tmp_path / name, answers, vcs_ref="HEAD", **QUIETLY)
        commit(tmp_path / name, "Rendered")
        return tmp_path / name

    return make


def recorded(service: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(service / ".copier-answers.yml")
    return found


@pytest.mark.update
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], FEATURES),
        (FEATURES, []),
        (["backup", "cache", "data-files"], ["rate-limit", "backup", "http-client"]),
    ],
    ids=["add all", "remove all", "swap"],
)
def test_an_update_changes_the_features_and_keeps_every_edit(
    before: list[str], after: list[str], service: Make
) -> None:
    """The chassis becomes what a fresh render has, the owner's files stay, and there is no conflict."""
    owner = develop(service(features=before))
    owner.append(f"{owner.package}/chassis/features.py", "\n# Reviewed by the owner.\n")
    found = update(owner.service, "HEAD", features=after)
    assert conflicts(found) == []
    assert owner.lost() == []
    fresh = files(service("fresh", features=after))
    edited = {*owner.lines, *(path for path in fresh if path not in found and path.endswith("SECURITY.md"))}
    changed = differences(territory(found, yours=False), territory(fresh, yours=False))
    assert set(changed) - edited == set()
    assert recorded(owner.service)["features"] == after


@pytest.mark.update
def test_an_update_adds_monitoring_with_its_own_files_and_keeps_them(service: Make) -> None:
    """Adding monitoring later also renders the owner's files. A further update does not change them."""
    project = service(monitoring=[], ci="none", repository="acme/orders")
    before = files(project)
    (project / "monitoring").mkdir()
    (project / "monitoring/alertmanager.yml").write_text("# mine\n", encoding="utf-8")
    found = update(project, "HEAD", monitoring=["prometheus", "sentry"], ci="github")
    assert found["monitoring/alertmanager.yml"] == b"# mine\n"
    answers = {"monitoring": ["prometheus", "sentry"], "ci": "github", "repository": "acme/orders"}
    fresh = files(service("fresh", **answers))
    assert differences(territory(found, yours=False), territory(fresh, yours=False)) == []
    mine = [path for path in fresh if path.startswith(("load/", "monitoring/", ".github/"))]
    mine.remove("monitoring/alertmanager.yml")
    assert {f".github/workflows/{name}.yml" for name in ("ci", "release", "deploy")} <= set(mine)
    assert {"load/scenario.py", "monitoring/slo.yml", "monitoring/rules/yours.yml"} <= set(mine)
    assert [path for path in mine if found.get(path) != fresh[path]] == []
    assert [path for path in before if path not in found] == []
    objectives = project / "monitoring/slo.yml"
    objectives.write_text(objectives.read_text("utf-8").replace("99.9", "99.5"), encoding="utf-8")
    (project / "load/scenario.py").unlink()
    again = update(project, "HEAD", license="apache-2.0")
    assert b"99.5" in again["monitoring/slo.yml"]
    assert "load/scenario.py" not in again
    assert conflicts(again) == []
    removed = update(project, "HEAD", monitoring=[])
    assert [path for path in removed if path.startswith("monitoring/chassis")] == []
    assert removed["monitoring/slo.yml"] == again["monitoring/slo.yml"]


@pytest.mark.update
def test_an_update_to_another_database_keeps_the_other_features(service: Make) -> None:
    """A backup goes with the database that it needs, and what was not chosen is not added."""
    project = service(features=["backup", "cache"])
    update(project, "HEAD", database="none", domain_storage="memory")
    assert recorded(project)["features"] == ["cache"]


@pytest.mark.update
def test_a_service_from_before_the_question_keeps_every_feature(service: Make, tmp_path: Path) -> None:
    """A service of 0.2.3 records no features, and had all of them. `--defaults` and a recopy keep them."""
    for number, answers in enumerate(({}, {"license": "apache-2.0", "cache": "redis", "python_version": "3.12"})):
        project = service(f"old{number}", features=BEFORE)
        _forget(project, "features")
        update(project, "HEAD", **answers)
        assert recorded(project)["features"] == BEFORE
    _forget(project, "features")
    commit(project, "Without the answer")
    run_recopy(project, vcs_ref="HEAD", **QUIETLY)
    assert recorded(project)["features"] == BEFORE
    assert "features" not in questions()["retired_names"]["default"]
    shutil.rmtree(tmp_path / "old0")


def _forget(project: Path, question: str) -> None:
    """Take an answer out of the answers file, as a release wrote it that had no such question."""
    file = project / ".copier-answers.yml"
    answers = recorded(project)
    lines = file.read_text(encoding="utf-8").replace(_yaml(question, answers[question]), "")
    file.write_text(lines, encoding="utf-8")
    assert question not in recorded(project)


def _yaml(name: str, answers: list[str]) -> str:
    return f"{name}:\n" + "".join(f"- {answer}\n" for answer in answers)


@pytest.mark.update
def test_a_store_that_nothing_uses_is_not_recorded(service: Make) -> None:
    """An answer to a question that is not asked changes nothing, and the next update meets no conflict."""
    project = service(features=["backup"], cache="redis")
    assert "cache" not in recorded(project)
    before = files(project)
    assert differences(update(project, "HEAD"), before) == []
    assert recorded(project)["features"] == ["backup"]


def test_the_port_of_the_metrics_is_not_published(renderer: Renderer, tmp_path: Path) -> None:
    """Anyone who can connect to the port can read the metrics. Prometheus uses the network of the containers."""
    render = renderer(tmp_path, {"deployment": ["compose"], "monitoring": ["prometheus"]})
    texts = [(render.path / name).read_text() for name in ("compose.yaml", "compose.monitoring.yaml")]
    published = [line for text in texts for line in text.splitlines() if line.lstrip().startswith("ports:")]
    assert published
    assert not [line for line in published if "9000" in line]
    assert re.findall(r"^EXPOSE (.+)$", (render.path / "Dockerfile").read_text(), re.MULTILINE) == ["8000"]
