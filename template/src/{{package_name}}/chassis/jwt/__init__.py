"""Access tokens (RFC 7519) of an identity provider: signature, issuer, audience, times and scopes.

PyJWT checks the signature and the claims. This package decides which key may check it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import jwt
from pydantic import Field, SecretStr, ValidationInfo, field_validator

from ..app import Chassis
from ..authentication import accept, add_authenticator, bearer_token, fingerprint, reject
from ..errors import UnavailableError
from ..request_context import Principal, RequestContext
from ..settings import BaseChassisSettings, CommaSeparated, in_production
from .keys import JwksCheck, JwksKeys, Keys, SecretKey

# The minimum length of a secret in bytes, which is the length of the hash (RFC 7518, 3.2).
_SECRET_LENGTHS = {"HS256": 32, "HS384": 48, "HS512": 64}
_KEY_PAIRS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# Longer tokens are rejected before they are parsed.
_MAX_TOKEN_LENGTH = 8192
_MAX_VERIFIED = 1000
_INVALID = "The access token is not valid, or it has expired."


class Settings(BaseChassisSettings):
    """Access tokens"""

    jwt_issuer: str = Field("", description="The issuer (`iss`) of accepted tokens.")
    jwt_audience: str = Field("", description="The audience (`aud`) of accepted tokens.")
    jwt_algorithms: CommaSeparated = Field(
        ["RS256", "ES256"],
        description="The accepted signature algorithms; with JWT_SECRET one or more of HS256, HS384 and HS512.",
    )
    jwt_leeway_seconds: int = Field(30, ge=0, le=300, description="Accepted difference between the clocks.")
    jwt_secret: SecretStr | None = Field(
        None,
        description="The secret that signs and checks tokens, instead of a key pair: at least 32 bytes, 48 for HS384, "
        "64 for HS512.",
    )
    jwt_jwks_url: str = Field("", description="Where the identity provider publishes its keys (RFC 7517).")
    jwt_jwks_cache_seconds: float = Field(300.0, ge=1, description="How often the keys are fetched.")
    jwt_jwks_stale_seconds: float = Field(
        3600.0, ge=0, description="How much longer known keys are used while JWT_JWKS_URL is unavailable."
    )
    jwt_development_tokens: bool = Field(
        False, description="Issue tokens to everyone at `POST /development/token`; in development only."
    )

    @field_validator("jwt_algorithms")
    @classmethod
    def _are_of_one_kind(cls, value: list[str]) -> list[str]:
        if not value or not (set(value) <= set(_KEY_PAIRS) or set(value) <= set(_SECRET_LENGTHS)):
            raise ValueError(f"must list only {', '.join(_KEY_PAIRS)}, or only {', '.join(_SECRET_LENGTHS)}")
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            lengths = [_SECRET_LENGTHS.get(name, 0) for name in info.data.get("jwt_algorithms", ["HS256"])]
            if not all(lengths):
                raise ValueError("needs JWT_ALGORITHMS=HS256; remove it if tokens are signed with a key pair")
            if len(value.get_secret_value().encode()) < max(lengths):
                raise ValueError(f"is shorter than {max(lengths)} bytes; create one with `openssl rand -hex 32`")
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _is_a_safe_url(cls, value: str, info: ValidationInfo) -> str:
        has_secret = info.data.get("jwt_secret") is not None
        if value and has_secret:
            raise ValueError("cannot be combined with JWT_SECRET; set only one of them")
        if value and set(info.data.get("jwt_algorithms", [])) <= _SECRET_LENGTHS.keys():
            raise ValueError("needs JWT_ALGORITHMS of key pairs, such as RS256")
        if value and (urlsplit(value).scheme not in ("https", "http") or not urlsplit(value).hostname):
            raise ValueError("must be a URL, such as https://id.example.com/.well-known/jwks.json")
        if in_production(info) and (value or has_secret):
            missing = [name for name in ("jwt_issuer", "jwt_audience") if not info.data.get(name)]
            if missing:
                raise ValueError(f"needs {' and '.join(missing).upper()}, or tokens of other services are accepted")
        if in_production(info) and value and urlsplit(value).scheme != "https":
            raise ValueError("must start with https:// in production")
        return value

    @field_validator("jwt_development_tokens")
    @classmethod
    def _only_in_development(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("environment") != "development":
            raise ValueError("requires ENVIRONMENT=development, because anyone could get a token")
        if value and info.data.get("jwt_secret") is None:
            raise ValueError("needs JWT_SECRET to sign tokens")
        return value

    def production_warnings(self) -> list[str]:
        problem = "JWT_JWKS_URL: every access token is rejected; set it, or JWT_SECRET"
        return [*super().production_warnings(), *([] if self.jwt_jwks_url or self.jwt_secret else [problem])]


class TokenAuthenticator:
    """Accepts requests with a valid token. Verified tokens are remembered until they expire or the keys change."""

    def __init__(self, settings: Settings, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._algorithms = settings.jwt_algorithms
        self._leeway = settings.jwt_leeway_seconds
        self._issuer, self._audience = settings.jwt_issuer or None, settings.jwt_audience or None
        required = ["exp", "sub", *(["iss"] if self._issuer else []), *(["aud"] if self._audience else [])]
        self._options: Any = {
            "require": required, "verify_aud": bool(self._audience), "enforce_minimum_key_length": True
        }  # fmt: skip
        self._verified: dict[bytes, Principal] = {}
        self._verified_with = keys.version

    def __call__(self, context: RequestContext, headers: Mapping[str, str]) -> Awaitable[None] | None:
        token = bearer_token(headers)
        if token is None:
            return None
        if len(token) > _MAX_TOKEN_LENGTH:
            reject(context, _INVALID)
            return None
        if self._verified_with != self._keys.version:
            self._verified.clear()
            self._verified_with = self._keys.version
        digest = fingerprint(token)
        principal = self._verified.get(digest)
        if principal is None or self._is_expired(principal) or not self._keys.usable:
            return self._check(context, token, digest)
        accept(context, principal)
        return None

    def _check(self, context: RequestContext, token: str, digest: bytes) -> Awaitable[None] | None:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            keys = self._keys.find(kid) if self._keys.usable else ()
            if not keys:
                return self._check_later(context, token, digest, kid)
            principal = self._principal_of(token, keys)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            reject(context, _INVALID)
            return None
        if len(self._verified) >= _MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = principal
        accept(context, principal)
        return None

    async def _check_later(self, context: RequestContext, token: str, digest: bytes, kid: Any) -> None:
        """Fetch the keys again, because a new key may have signed the token, then check the token."""
        await self._keys.refresh()
        is_known = bool(self._keys.find(kid))
        if not self._keys.usable or (self._keys.problem and not is_known):
            context.authentication_error = UnavailableError("Access tokens cannot be checked at the moment.")
        elif is_known:
            self._check(context, token, digest)
        else:
            reject(context, _INVALID)

    def _principal_of(self, token: str, keys: Sequence[Any]) -> Principal:
        for key in keys[:-1]:
            with suppress(jwt.PyJWTError):
                return self._principal(token, key)
        return self._principal(token, keys[-1])

    def _principal(self, token: str, key: Any) -> Principal:
        claims = jwt.decode(
            token,
            key,
            self._algorithms,
            self._options,
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
        )
        # Logs and stored keys contain the subject. Not every store accepts control characters and lone surrogates.
        if not claims["sub"] or not claims["sub"].isprintable():
            raise jwt.InvalidTokenError("the subject is empty or not printable")
        name = claims.get("name")
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        return Principal(claims["sub"], "jwt", scopes_of(claims), name if isinstance(name, str) else "", expires_at)

    def _is_expired(self, principal: Principal) -> bool:
        return principal.expires_at is None or principal.expires_at.timestamp() + self._leeway <= self._clock()


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes in the claim `scope` (RFC 8693, 4.2), `scp` or `permissions`; providers use one of them."""
    found: set[str] = set()
    for name in ("scope", "scp", "permissions"):
        value = claims.get(name, ())
        listed = value.split() if isinstance(value, str) else value
        found.update(scope for scope in (listed if isinstance(listed, (list, tuple)) else ()) if isinstance(scope, str))
    return frozenset(found)


def install(chassis: Chassis) -> None:
    settings = chassis.settings_as(Settings)
    keys: Keys = SecretKey(settings.jwt_secret)
    if settings.jwt_jwks_url:
        stale_seconds = settings.jwt_jwks_cache_seconds + settings.jwt_jwks_stale_seconds
        keys = JwksKeys(settings.jwt_jwks_url, settings.jwt_algorithms, settings.jwt_jwks_cache_seconds, stale_seconds)
        chassis.lifespans.append(("jwks", keys.lifespan))
        chassis.health.add(JwksCheck(keys))
    add_authenticator(chassis, TokenAuthenticator(settings, keys))
    if settings.jwt_development_tokens:
        from .development import add_token_endpoint

        add_token_endpoint(chassis, settings)
