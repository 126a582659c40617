"""Code that an owner wrote around the chassis of release 0.2.3: a domain, a feature, checks, hooks and tests.

The texts have the names of that release; `PACKAGE` stands for the service's package.
"""

from collections.abc import Iterator

# What both frameworks share.
COMMON = {
    "src/PACKAGE/orders/errors.py": '''"""Errors of orders."""

from ..chassis.errors import ConflictError, ServiceError


class OrderTakenError(ConflictError):
    default_detail = "This order exists already."


class PaymentRequiredError(ServiceError):
    """An error with its own status."""

    status = 402
    error_code = "PAYMENT_REQUIRED"
    default_detail = "Pay first."
''',
    "src/PACKAGE/orders/stock.py": '''"""How many orders are stored, and whether that is too many."""

from __future__ import annotations

import threading
from typing import Any

from ..chassis import request_context
from ..chassis.health.registry import Check, Outcome
from ..chassis.service import Service as Chassis
from ..chassis.slow_operation import slow_operation
from .errors import OrderTakenError


class Stock:
    """The orders of this process."""

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}
        self.seen: list[str | None] = []

    def add(self, name: str, limit: int) -> int:
        with slow_operation("add_order", threshold_ms=60_000):
            if name in self.orders or len(self.orders) >= limit:
                raise OrderTakenError()
            self.orders[name] = name
        thread = threading.Thread(target=request_context.carry(self._remember))
        thread.start()
        thread.join()
        return len(self.orders)

    def _remember(self) -> None:
        context = request_context.current()
        self.seen.append(context.request_id if context else None)


class StockCheck(Check):
    """Warns when the shelf is nearly full."""

    def __init__(self, service: Chassis) -> None:
        self.service = service
        super().__init__("stock", measure=self._count, show=lambda: {"unit": "orders"}, timeout_share=0.5)

    def _count(self) -> int:
        return len(self.service.get_or_provide(Stock).orders)

    def judge(self, measured: Any) -> Outcome:
        limit = self.service.settings.orders_page_size
        return Outcome("warning", "the shelf is full") if measured >= limit else super().judge({"n": measured})
''',
    "src/PACKAGE/audit.py": '''"""A feature: refuses what is closed, explains errors, reports failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from .chassis.errors import PermissionDeniedError, ServiceError, UnavailableError
from .chassis.health.checks import Freshness, Gaps
from .chassis.health.registry import QUICK
from .chassis.request_context import RequestContext
from .chassis.service import ErrorReporter, Service, Translator

log = structlog.get_logger(__name__)


class ShopClosedError(Exception):
    """The shop does not answer."""


def _now() -> datetime:
    return datetime.now(UTC)


def translate(error: BaseException) -> ServiceError | None:
    return UnavailableError("The shop is closed.") if isinstance(error, ShopClosedError) else None


class Audit:
    """Records what is refused and what fails."""

    def __init__(self, *explanations: Translator) -> None:
        self._explanations = explanations
        self._service: Service | None = None
        self.refused: list[str] = []
        self.failed: list[str] = []
        self.is_open = False

    def install(self, service: Service) -> None:
        self._service = service
        service.provide(self)
        service.lifespans.append(("audit", self._lifespan))
        service.admissions.append(self.admit)
        service.translators.extend(self._explanations)
        service.error_reporters.append(self._reporter())
        service.response_headers["x-audited"] = "yes"  # on every answer
        age = service.settings.audit_max_age
        service.health.add(Freshness("audit", _now, max_age=age, timeout_share=QUICK))
        service.health.add(Gaps("audit_days", measure=list, days=2, since_first=True))

    def admit(self, context: RequestContext, head: Mapping[str, str]) -> None:
        if context.path == "/api/v1/orders/closed":
            self.refused.append(head.get("host", ""))
            raise PermissionDeniedError("This is closed.")

    def _reporter(self) -> ErrorReporter:
        def report(cause: BaseException, error_id: str, context: RequestContext | None) -> None:
            log.warning("order_failed", error_id=error_id)
            self.failed.append(type(cause).__name__)

        return report

    @contextmanager
    def _lifespan(self) -> Iterator[None]:
        assert self._service is not None
        self.is_open = len(self._service.translators) > 0
        try:
            yield
        finally:
            self.is_open = False


AUDIT = Audit(translate)
''',
    "tests/orders/__init__.py": '"""The tests of orders."""\n',
    "tests/orders/test_orders.py": '''"""Orders over HTTP, and what the audit makes of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ..chassis.in_process import open_client
from ..package import module

ORDERS = "/api/v1/orders"

made_with = module("chassis.service").service_of


def test_an_order_is_taken_once(client: httpx.Client) -> None:
    """A second one of its name is a conflict."""
    assert client.post(ORDERS, json={"name": "tea"}).status_code == 201
    answer = client.post(ORDERS, json={"name": "tea"})
    assert (answer.status_code, answer.json()["error_code"]) == (409, "CONFLICT")
    assert answer.headers["x-audited"] == "yes"


def test_what_is_closed_is_refused(client: httpx.Client) -> None:
    """By the audit, before any router."""
    answer = client.get(f"{ORDERS}/closed")
    assert (answer.status_code, answer.json()["detail"]) == (403, "This is closed.")


@pytest.mark.parametrize(("way", "status"), [("unpaid", 402), ("shop", 503)])
def test_an_error_has_a_meaning(client: httpx.Client, way: str, status: int) -> None:
    """One of the owner's own, and one that the feature explains."""
    assert client.get(f"{ORDERS}/{way}").status_code == status


def test_the_stock_is_watched(migrated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full shelf is a warning."""
    monkeypatch.setenv("HEALTH_CHECK_INTERVAL_SECONDS", "0")
    app = module("main").create_app(module("settings").Settings(orders_page_size=1, rate_limit_by="address"))
    service = made_with(app)
    (check,) = (check for check in service.health.checks if check.name == "stock")
    with open_client(app) as client:
        assert check.judge(check.measure()).status == "ok"
        client.post(ORDERS, json={"name": "tea"})
        assert client.get("/health").json()["checks"]["stock"]["error"] == "the shelf is full"
        answer = client.post(ORDERS, json={"name": "milk"})
        seen: list[Any] = service.get(module("orders.stock").Stock).seen
        assert seen[0] is not None
    assert module("settings").Settings().health_check_interval_seconds == 0
    assert answer.headers["content-type"] == module("chassis.problem").MEDIA_TYPE
''',
}
FASTAPI = {
    "src/PACKAGE/orders/__init__.py": '''"""Orders, a domain of this service."""

from fastapi import FastAPI

from ..chassis.service import service_of
from .router import router
from .stock import StockCheck


def install(app: FastAPI) -> None:
    app.include_router(router, prefix="/api/v1")
    service_of(app).health.add(StockCheck(service_of(app)))
''',
    "src/PACKAGE/orders/router.py": '''"""Orders over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from ..audit import ShopClosedError
from ..chassis.rate_limit import rate_limit
from ..chassis.service import Service
from ..chassis.web.fastapi import service_for
from .errors import PaymentRequiredError
from .stock import Stock

router = APIRouter(prefix="/orders", tags=["orders"])
Chosen = Annotated[Service, Depends(service_for)]


class Order(BaseModel):
    name: str


@router.post("", status_code=201)
@rate_limit("1000/second")
async def add_order(order: Order, service: Chosen) -> int:
    return service.get_or_provide(Stock).add(order.name, limit=service.settings.orders_page_size)


@router.get("/unpaid")
async def unpaid() -> None:
    raise PaymentRequiredError()


@router.get("/shop")
async def shop() -> None:
    raise ShopClosedError()
''',
}
FLASK = {
    "src/PACKAGE/orders/__init__.py": '''"""Orders, a domain of this service."""

from flask import Flask

from ..chassis.service import service_of
from .router import blueprint
from .stock import StockCheck


def install(app: Flask) -> None:
    app.register_blueprint(blueprint, url_prefix="/api/v1/orders")
    service_of(app).health.add(StockCheck(service_of(app)))
''',
    "src/PACKAGE/orders/router.py": '''"""Orders over HTTP."""

from flask import Blueprint, Response
from pydantic import BaseModel

from ..audit import ShopClosedError
from ..chassis.rate_limit import rate_limit
from ..chassis.web.flask import current_service, json_response, read_json
from .errors import PaymentRequiredError
from .stock import Stock

blueprint = Blueprint("orders", __name__)


class Order(BaseModel):
    name: str


class Added(BaseModel):
    count: int


@blueprint.post("")
@rate_limit("1000/second")
def add_order() -> Response:
    service = current_service()
    limit = service.settings.orders_page_size
    return json_response(Added(count=service.get_or_provide(Stock).add(read_json(Order).name, limit)), 201)


@blueprint.get("/unpaid")
def unpaid() -> Response:
    raise PaymentRequiredError()


@blueprint.get("/shop")
def shop() -> Response:
    raise ShopClosedError()
''',
}


def files(framework: str, package: str) -> Iterator[tuple[str, str]]:
    """The path and text of each file that the owner adds."""
    for path, text in (COMMON | {"fastapi": FASTAPI, "flask": FLASK}[framework]).items():
        yield path.replace("PACKAGE", package), text.replace("PACKAGE", package)
