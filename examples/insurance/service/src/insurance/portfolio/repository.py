"""All SQL of the portfolio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..chassis.app import Chassis
from ..chassis.cache.sync import Cache
from ..chassis.database.session import after_commit
from ..chassis.database.sync import Database
from .errors import ClaimNumberTakenError
from .models import Claim, Policy

# The key of the cached sum of the open claims.
OPEN_CLAIMS = "open-claims"


class PortfolioRepository:
    """The policies and claims, within one unit of work."""

    def __init__(self, session: Session, cache: Cache) -> None:
        self._session = session
        self._cache = cache

    def policy(self, number: str) -> Policy | None:
        return self._session.get(Policy, number)

    def claims_of(self, policy_number: str) -> list[Claim]:
        query = select(Claim).where(Claim.policy_number == policy_number).order_by(Claim.number)
        return list(self._session.scalars(query))

    def add_claim(self, claim: Claim) -> Claim:
        """Write now instead of at the commit, so that a duplicate number becomes an error of this domain."""
        self._session.add(claim)
        try:
            self._session.flush()
        except IntegrityError as error:
            raise ClaimNumberTakenError from error
        self._forget_sum()
        return claim

    def replace(self, rows: Iterable[Policy | Claim]) -> None:
        """Insert rows, or update those that exist."""
        for row in rows:
            self._session.merge(row)
        self._forget_sum()

    def open_claims(self) -> Decimal:
        """Return the sum of all claims that are open."""
        query = select(func.coalesce(func.sum(Claim.amount), 0)).where(Claim.status == "open")
        return Decimal(self._session.scalars(query).one())

    def _forget_sum(self) -> None:
        # Before the commit, another request would cache the old sum again.
        after_commit(self._session, lambda: self._cache.delete(OPEN_CLAIMS))


@contextmanager
def open_repository(chassis: Chassis) -> Iterator[PortfolioRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    with chassis.get(Database).session() as session:
        yield PortfolioRepository(session, chassis.get(Cache))
