"""The routes of the portfolio: parse the request, call the service, build the response."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, url_for

from ..chassis.web.flask import current_chassis, json_response, read_json, read_path, read_query
from .repository import open_repository
from .reserves import Reserves
from .schemas import ClaimIn, ClaimList, ClaimQuery, ClaimRecord, PolicyPath, PolicyRecord
from .service import PortfolioService

blueprint = Blueprint("portfolio", __name__)


@contextmanager
def portfolio_service() -> Iterator[PortfolioService]:
    """Open a unit of work. It commits before the response is sent, so a client that got 2xx can read its change."""
    with open_repository(current_chassis()) as portfolio:
        yield PortfolioService(portfolio)


@blueprint.get("/policies/<number>")
def read_policy(number: str) -> Response:
    path = read_path(PolicyPath)
    with portfolio_service() as portfolio:
        policy = PolicyRecord.model_validate(portfolio.policy(path.number))
    return json_response(policy)


@blueprint.get("/claims")
def list_claims() -> Response:
    query = read_query(ClaimQuery)
    with portfolio_service() as portfolio:
        items = [ClaimRecord.model_validate(claim) for claim in portfolio.claims_of(query.policy)]
    return json_response(ClaimList(items=items))


@blueprint.post("/claims")
def file_claim() -> Response:
    claim = read_json(ClaimIn)
    with portfolio_service() as portfolio:
        filed = ClaimRecord.model_validate(portfolio.file(claim))
    return json_response(filed, 201, {"location": url_for(".list_claims", policy=filed.policy_number)})


@blueprint.get("/reserves")
def read_reserves() -> Response:
    return json_response(current_chassis().get(Reserves).report())
