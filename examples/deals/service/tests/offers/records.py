"""Records as the marketplace sends them."""

from __future__ import annotations

import json
from typing import Any


def record(name: str, price: str, usual_price: str = "100.00", **fields: Any) -> dict[str, Any]:
    """Return one record; `fields` replace its own."""
    return {
        "id": name, "title": f"Tea {name}", "url": f"https://market.example.com/{name}", "rating": 5,
        "price": {"amount": price, "currency": "EUR"}, "usual_price": {"amount": usual_price, "currency": "EUR"},
    } | fields  # fmt: skip


def page(*records: Any) -> bytes:
    return json.dumps({"offers": records}).encode()
