"""The codemod of `make upgrade`: what it renames in an owner's code, what it leaves alone, and what it reports."""

from __future__ import annotations

from textwrap import dedent

import pytest
from codemod import Note, Place, Source, read, rewrite
from questions import ROOT

TABLE = read(ROOT / "hooks/releases/0.3.0.toml")
# Code before and after; both begin below the module's docstring.
RENAMED = {
    "an imported class": (
        """
        from ..chassis.service import Service

        def install(service: Service) -> None: ...
        """,
        """
        from ..chassis.app import Chassis

        def install(service: Chassis) -> None: ...
        """,
    ),
    "a name of the owner's own": (
        "from ..chassis.service import Service as S\n\nx: S = S({})\n",
        "from ..chassis.app import Chassis as S\n\nx: S = S({})\n",
    ),
    "a class that is passed on": (
        'from ..chassis.service import Service\n\n__all__ = ["Service"]\n',
        'from ..chassis.app import Chassis as Service\n\n__all__ = ["Service"]\n',
    ),
    "a module": (
        "from ..chassis import problem\n\nproblem.answer(problem.MEDIA_TYPE, problem.fields)\n",
        "from ..chassis.web import problems\n\nproblems.problem_response(problems.MEDIA_TYPE, problems.field_errors)\n",
    ),
    "a module under another name": (
        "import orders.chassis.problem as p\n\np.answer(p.Answer)\n",
        "import orders.chassis.web.problems as p\n\np.problem_response(p.RawResponse)\n",
    ),
    "a module by its whole path": (
        "import orders.chassis.problem\n\norders.chassis.problem.answer(1)\n",
        "import orders.chassis.web.problems\n\norders.chassis.web.problems.problem_response(1)\n",
    ),
    "a module whose names are in two now": (
        "from ..chassis.health import checks\n\nchecks.Gaps(1)\nchecks.Upstream(2)\n",
        "from ..chassis.health import checks\nfrom ..chassis.http_client.health import Upstream\n\n"
        "checks.MissingDays(1)\nUpstream(2)\n",
    ),
    "a statement whose names are in two modules now": (
        "from orders.chassis.health.checks import (  # what is watched\n    Gaps,  # of days\n    Upstream,\n)\n",
        "from orders.chassis.health.checks import (  # what is watched\n    MissingDays,  # of days\n    )\n"
        "from orders.chassis.http_client.health import (  # what is watched\n    Upstream,\n)\n",
    ),
    "a parameter that has the name of an import": (
        "from ..chassis.problem import answer\n\ndef f(answer):\n    return answer\n\nf(answer)\n",
        "from ..chassis.web.problems import problem_response\n\ndef f(answer):\n    return answer\n\n"
        "f(problem_response)\n",
    ),
    "a new name that is taken": (
        "from ..chassis.service import Service\n\nclass Chassis(Service): ...\n",
        "from ..chassis.app import Chassis as Service\n\nclass Chassis(Service): ...\n",
    ),
    "an import in a function": (
        "def work():\n    from ..chassis.request_context import carry, current\n    return carry(current)\n",
        "def work():\n    from ..chassis.request_context import copy_request_context, current\n"
        "    return copy_request_context(current)\n",
    ),
    "an import for types alone": (
        "if TYPE_CHECKING:\n    from ..chassis.service import Service\n\ndef f(x: 'Service | None'): ...\n",
        "if TYPE_CHECKING:\n    from ..chassis.app import Chassis\n\ndef f(x: 'Chassis | None'): ...\n",
    ),
    "attributes of an annotated parameter": (
        """
        from ..chassis.service import Service

        def install(service: Service) -> None:
            service.translators.append(print)  # ours
            service.endpoints = None
            service.error_reporters.append(print)
        """,
        """
        from ..chassis.app import Chassis

        def install(service: Chassis) -> None:
            service.error_translators.append(print)  # ours
            service.routes = None
            service.error_reporters.append(print)
        """,
    ),
    "attributes of what a function returns": (
        "from .chassis.web.fastapi import install\n\nservice = install(1, 2, 3)\nservice.translators.append(print)\n",
        "from .chassis.web.fastapi import install\n\nservice = install(1, 2, 3)\n"
        "service.error_translators.append(print)\n",
    ),
    "attributes of a dependency": (
        """
        from typing import Annotated
        from fastapi import Depends
        from ..chassis.service import Service
        from ..chassis.web.fastapi import service_for

        Chosen = Annotated[Service, Depends(service_for)]

        async def f(service: Annotated[Service, Depends(service_for)], other: Chosen) -> int:
            return len(service.translators) + len(other.translators)
        """,
        """
        from typing import Annotated
        from fastapi import Depends
        from ..chassis.app import Chassis
        from ..chassis.web.fastapi import get_chassis

        Chosen = Annotated[Chassis, Depends(get_chassis)]

        async def f(service: Annotated[Chassis, Depends(get_chassis)], other: Chosen) -> int:
            return len(service.error_translators) + len(other.error_translators)
        """,
    ),
    "attributes that an object holds": (
        """
        from ..chassis.service import Service

        class Audit:
            def __init__(self, service: Service) -> None:
                self._service = service

            def open(self) -> None:
                self._service.translators.clear()
        """,
        """
        from ..chassis.app import Chassis

        class Audit:
            def __init__(self, service: Chassis) -> None:
                self._service = service

            def open(self) -> None:
                self._service.error_translators.clear()
        """,
    ),
    "keyword arguments": (
        """
        from ..chassis.health.registry import Check, QUICK
        from ..chassis.service import service_of

        service_of(app).health.add(Check("disk", measure=free, show=dict, timeout_share=QUICK))
        other(find=1, show=2)
        """,
        """
        from ..chassis.health.checks import Check, QUICK
        from ..chassis.app import chassis_of

        chassis_of(app).health.add(Check("disk", probe=free, details=dict, timeout_fraction=QUICK))
        other(find=1, show=2)
        """,
    ),
    "methods of a subclass": (
        """
        from ..chassis.health.registry import Check, Outcome

        class Stock(Check):
            def __init__(self) -> None:
                super().__init__("stock", measure=len)

            def judge(self, measured) -> Outcome:
                return super().judge(measured) if self.measure else Outcome()

        class Other:
            def show(self) -> None: ...
        """,
        """
        from ..chassis.health.checks import Check, Outcome

        class Stock(Check):
            def __init__(self) -> None:
                super().__init__("stock", probe=len)

            def evaluate(self, measured) -> Outcome:
                return super().evaluate(measured) if self.probe else Outcome()

        class Other:
            def show(self) -> None: ...
        """,
    ),
    "what a loop goes through": (
        """
        from ..chassis.service import service_of

        checks = service_of(app).health.checks
        for check in checks:
            check.judge(1)
        (first,) = [check for check in checks if check.name == "notes"]
        first.judge(next(check for check in checks if check.show).measure)
        """,
        """
        from ..chassis.app import chassis_of

        checks = chassis_of(app).health.checks
        for check in checks:
            check.evaluate(1)
        (first,) = [check for check in checks if check.name == "notes"]
        first.evaluate(next(check for check in checks if check.details).probe)
        """,
    ),
    "typed settings": (
        """
        from ..chassis.service import service_of

        def page(app) -> int:
            service = service_of(app)
            return service.settings.page_size if service.settings.is_production else 1
        """,
        """
        from ..chassis.app import chassis_of
        from ..settings import Settings

        def page(app) -> int:
            service = chassis_of(app)
            return service.settings_as(Settings).page_size if service.settings.is_production else 1
        """,
    ),
    "modules that tests load": (
        """
        from ..package import module

        service_of = module("chassis.service").service_of
        problem = module("chassis.problem")
        problem.answer(module("settings").Settings)
        checks = module("chassis.health.checks")
        checks.Upstream(checks.Gaps)
        """,
        """
        from ..package import module

        service_of = module("chassis.app").chassis_of
        problem = module("chassis.web.problems")
        problem.problem_response(module("settings").Settings)
        checks = module("chassis.health.checks")
        module("chassis.http_client.health").Upstream(checks.MissingDays)
        """,
    ),
    "what a test replaces": (
        """
        from orders.chassis import problem

        def test(monkeypatch):
            monkeypatch.setattr(problem, "answer", 1)
            monkeypatch.setattr("orders.chassis.problem.fields", 2)
            monkeypatch.setenv("RATE_LIMIT_BY", "x")
        """,
        """
        from orders.chassis.web import problems

        def test(monkeypatch):
            monkeypatch.setattr(problems, "problem_response", 1)
            monkeypatch.setattr("orders.chassis.web.problems.field_errors", 2)
            monkeypatch.setenv("RATE_LIMIT_KEY", "x")
        """,
    ),
    "details of a health report": (
        'body["checks"]["notes"]["details"]["gaps"]\nbody["gaps"]\noutcome.details["let_through"]\n',
        'body["checks"]["notes"]["details"]["missing_days"]\nbody["gaps"]\noutcome.details["failed_open"]\n',
    ),
    "settings": (
        """
        class Settings(ChassisSettings):
            health_check_interval_seconds: float = 5

        Settings(rate_limit_by="x").health_check_interval_seconds
        print(f"HEALTH_CHECK_INTERVAL_SECONDS={1}")
        """,
        """
        class Settings(ChassisSettings):
            health_check_cache_seconds: float = 5

        Settings(rate_limit_key="x").health_check_cache_seconds
        print(f"HEALTH_CHECK_CACHE_SECONDS={1}")
        """,
    ),
}
# Code that only looks like a use of the chassis.
UNTOUCHED = {
    "a service of the domain": "from .service import NoteService\n\nservice = NoteService()\nservice.find(1)\n",
    "a parameter that hides an import": (
        "from ..chassis.errors import ServiceError\n\ndef f(service, answer):\n    return service.answer(answer)\n"
    ),
    "another library": "from flask import carry\n\ncarry(measure=1)\n",
    "a new name": "from ..chassis.app import Chassis\nfrom ..chassis.logging.config import configure\n",
    "a new module": "from ..chassis.logging import config as logging\n\nlogging.configure(1)\n",
}


def upgraded(code: str, path: str = "src/orders/notes/router.py", **source: object) -> tuple[str, list[Note]]:
    """Rewrite a file of a service whose package is `orders`."""
    return rewrite(code, Source(path, "orders", **source), TABLE)  # type: ignore[arg-type]


def path_of(code: str) -> str:
    """Where a snippet is: its relative imports say it."""
    if "..package" in code:
        return "tests/notes/test_notes.py"
    return "src/orders/main.py" if "from .chassis" in code else "src/orders/notes/router.py"


@pytest.mark.parametrize("case", RENAMED)
def test_rewrite_a_use_that_is_certain_renames_it(case: str) -> None:
    """Each kind of use gets its new name, and nothing is reported."""
    old, new = map(dedent, RENAMED[case])
    assert upgraded(old, path_of(old)) == (new, [])


@pytest.mark.parametrize("case", RENAMED)
def test_rewrite_a_second_time_changes_nothing(case: str) -> None:
    """New names are left alone."""
    old, new = map(dedent, RENAMED[case])
    assert upgraded(new, path_of(old)) == (new, [])


@pytest.mark.parametrize("case", UNTOUCHED)
def test_rewrite_code_of_others_changes_nothing(case: str) -> None:
    """Equal words in other code stay."""
    assert upgraded(UNTOUCHED[case]) == (UNTOUCHED[case], [])


# Code that the codemod cannot be sure of, and the line, the words and the certainty of what it says.
REPORTED = {
    "an unknown object": (
        "def f(service):\n    service.translators.clear()\n",
        2,
        "`error_translators` of a Chassis",
        False,
    ),
    "an unknown call": ("def f(make):\n    make(timeout_share=1)\n", 2, "`timeout_fraction=` of Check", False),
    "a hook that runs elsewhere": (
        "from ..chassis.service import Service\n\ndef f(x: Service) -> None:\n    x.admissions.append(print)\n",
        4,
        "must not block",
        False,
    ),
    "a method for the chassis to call": (
        "class Audit:\n    def production_rows(self): ...\n",
        2,
        "it is now `deploy_checks`",
        False,
    ),
    "a module that is gone": (
        "import x\n\nfrom ..chassis.startup import policy\n",
        3,
        "retries its lifespans at start",
        True,
    ),
    "everything of a module": ("from ..chassis.problem import *\n", 1, "name them, and run this again", True),
    "code that is not valid": ("def f(:\n", 1, "this is not valid Python", True),
}


@pytest.mark.parametrize("case", REPORTED)
def test_rewrite_a_use_that_is_uncertain_reports_it(case: str) -> None:
    """File, line and remedy are said."""
    code, line, words, is_certain = REPORTED[case]
    _, (note,) = upgraded(code)
    assert (note.path, note.line, note.is_certain) == ("src/orders/notes/router.py", line, is_certain)
    assert words in note.text


def test_rewrite_a_name_that_the_service_does_not_have_is_reported() -> None:
    """A name whose feature was not chosen keeps its old name, and the new one is said."""
    code = "from ..chassis.data_formats import records\n"

    def exists(place: Place) -> bool:
        return place.module != "chassis.data_files"

    new, (note,) = upgraded(code, exists=exists)
    assert new == code
    assert "`chassis.data_files.records`, which this service does not have" in note.text


def test_rewrite_a_name_that_another_file_imports_keeps_it() -> None:
    """A name that other modules import from an owner's file stays."""
    code = "from ..chassis.service import Service\n\nx: Service\n"
    new, notes = upgraded(code, exported=frozenset({"Service"}))
    assert new == "from ..chassis.app import Chassis as Service\n\nx: Service\n"
    assert notes == []


def test_rewrite_a_name_that_the_owner_passes_on_is_known() -> None:
    """An object whose class comes through a module of the owner has its attributes renamed."""
    code = "from ..deps import Service\n\ndef f(service: Service) -> None:\n    service.translators.clear()\n"
    new, notes = upgraded(code, passed_on={"deps.Service": "chassis.service.Service"})
    assert new == code.replace("translators", "error_translators")
    assert notes == []


def test_rewrite_a_file_that_moves_has_imports_that_fit() -> None:
    """A chassis file is rewritten for its new folder, so that it merges with the new render."""
    code = "from . import errors\nfrom .service import Service\nfrom .web.flask import install\n"
    new, _ = upgraded(code, "src/orders/chassis/problem.py", moved_to="src/orders/chassis/web/problems.py")
    assert new == "from .. import errors\nfrom ..app import Chassis\nfrom .flask import install\n"
