"""Issues access tokens for development: `POST /development/token` with a subject and scopes."""

from __future__ import annotations

import time
from typing import Annotated, cast

import jwt
from pydantic import BaseModel, Field, SecretStr

from ..app import Chassis, Endpoint
from . import Settings


class TokenRequest(BaseModel):
    subject: Annotated[str, Field(min_length=1, max_length=200)] = "developer"
    scopes: list[str] = []
    expires_seconds: Annotated[int, Field(gt=0, le=86_400)] = 3600


class Token(BaseModel):
    access_token: str
    token_type: str = "Bearer"
    expires_in: int


def add_token_endpoint(chassis: Chassis, settings: Settings) -> None:
    """Add the endpoint. The settings allow it in development only, and require a secret."""
    secret = cast(SecretStr, settings.jwt_secret)

    def issue_token(body: TokenRequest) -> Token:
        now = int(time.time())
        claims = {"sub": body.subject, "iat": now, "exp": now + body.expires_seconds, "scope": " ".join(body.scopes)}
        claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
        claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
        token = jwt.encode(claims, secret.get_secret_value(), settings.jwt_algorithms[0])
        return Token(access_token=token, expires_in=body.expires_seconds)

    chassis.endpoints.append(Endpoint("/development/token", TokenRequest, issue_token))
