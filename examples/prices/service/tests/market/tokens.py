"""Access tokens, as the identity provider of the tests signs them."""

from __future__ import annotations

import time

import jwt

from ..package import ENVIRONMENT


def token(*scopes: str, seconds: float = 600, **claims: object) -> str:
    """Return a token that expires in `seconds`."""
    given = {
        "sub": "trader-7", "scope": " ".join(scopes), "exp": time.time() + seconds,
        "iss": ENVIRONMENT["JWT_ISSUER"], "aud": ENVIRONMENT["JWT_AUDIENCE"],
    }  # fmt: skip
    return jwt.encode(given | claims, ENVIRONMENT["JWT_SECRET"], "HS256")


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}
