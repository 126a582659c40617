"""The business logic of the portfolio. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from ..chassis.instrumentation import Counter
from .errors import NotCoveredError, PolicyNotFoundError
from .models import Claim, Policy
from .repository import PortfolioRepository
from .schemas import ClaimIn

CLAIMS_FILED = Counter("claims.filed", "Claims that were filed over HTTP.")


class PortfolioService:
    """The operations on policies and claims, within one unit of work."""

    def __init__(self, portfolio: PortfolioRepository) -> None:
        self._portfolio = portfolio

    def policy(self, number: str) -> Policy:
        """Return a policy.

        Raises:
            PolicyNotFoundError: No policy has this number.
        """
        policy = self._portfolio.policy(number)
        if policy is None:
            raise PolicyNotFoundError
        return policy

    def claims_of(self, policy_number: str) -> list[Claim]:
        return self._portfolio.claims_of(self.policy(policy_number).number)

    def file(self, claim: ClaimIn) -> Claim:
        """Store a claim.

        Raises:
            PolicyNotFoundError: No policy has the number in the claim.
            NotCoveredError: The claim is outside of the policy's term, or above its sum.
            ClaimNumberTakenError: Another claim has this number.
        """
        policy = self.policy(claim.policy_number)
        if not policy.starts_on <= claim.occurred_on <= policy.ends_on:
            term = f"The policy covers {policy.starts_on} to {policy.ends_on}"
            raise NotCoveredError("occurred_on", term, "outside_term")
        if claim.amount > policy.sum_insured:
            raise NotCoveredError("amount", f"The policy covers up to {policy.sum_insured}", "above_sum_insured")
        filed = self._portfolio.add_claim(Claim(**claim.model_dump(), status="open"))
        CLAIMS_FILED.add()
        return filed
