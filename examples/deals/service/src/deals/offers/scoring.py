"""The rule that scores an offer, without database and HTTP."""

from __future__ import annotations

from decimal import Decimal

# An offer at half of the usual price gets all points for its discount.
_FULL_DISCOUNT = Decimal("0.5")
_DISCOUNT_POINTS, _RATING_POINTS = 70, 30
_MAX_RATING = 5


def score(price: Decimal, usual_price: Decimal, rating: float) -> int:
    """Return 0 to 100 points: up to 70 for the discount, and up to 30 for the rating of the seller (0 to 5)."""
    discount = max(Decimal(0), 1 - price / usual_price)
    points = _DISCOUNT_POINTS * min(discount / _FULL_DISCOUNT, Decimal(1))
    return round(points) + round(_RATING_POINTS * rating / _MAX_RATING)
