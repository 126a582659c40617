"""Access tokens: which are accepted, and how the keys of the identity provider are fetched, from a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ..package import module, program
from .conftest import Logs, Start, settings_for_tests
from .test_authentication import PATH, bearer
from .test_errors import assert_is_problem

tokens = module("chassis.jwt")
keys = module("chassis.jwt.keys")
errors = module("chassis.errors")
request_context = module("chassis.request_context")

ISSUER, AUDIENCE = "https://id.example.com/", "orders"
SECRET = "a secret of more than thirty-two bytes"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """Return a public key as an identity provider publishes it."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    algorithm = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


class Provider:
    """An identity provider."""

    def __init__(self) -> None:
        self.requests = 0
        self.reset()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests += 1
                provider.released.wait(10)
                self.send_response(provider.status)
                for header in provider.headers.items():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(provider.body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self) -> None:
        self.released = threading.Event()
        self.released.set()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.publish(jwk(RSA_KEY, "one"), jwk(EC_KEY, "two"))

    def publish(self, *published: Any) -> None:
        self.body = json.dumps({"keys": published}).encode()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    running.requests = 0
    yield running
    running.reset()


def token_of(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    """Return a token that is valid unless the arguments say otherwise; a claim that is None is left out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, "scope": "notes:read"}
    given = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    return jwt.encode(given, key, algorithm, {"kid": kid} if kid else {})


def settings(provider: Provider, **values: Any) -> dict[str, Any]:
    return {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks_url": provider.url, **values}


class Service:
    """An authenticator with its keys, and a time that a test sets."""

    def __init__(self, provider: Provider) -> None:
        self.now = time.time()
        url, algorithms = provider.url, ["RS256", "ES256"]
        self.keys = keys.JwksKeys(url, algorithms, cache_seconds=300, stale_seconds=3900, clock=lambda: self.now)
        configured = settings_for_tests(**settings(provider))
        self.authenticator = tokens.TokenAuthenticator(configured, self.keys, lambda: self.now)

    def check(self, *sent: str) -> list[Any]:
        """Send these requests at once, and return the caller or the error of each."""
        contexts = [request_context.new_context("GET", "/") for _ in sent]

        async def check_all() -> None:
            requests = zip(contexts, map(bearer, sent), strict=True)
            pending = [self.authenticator(context, headers) for context, headers in requests]
            await asyncio.gather(*(one for one in pending if one is not None))

        asyncio.run(check_all())
        return [context.authentication_error or context.principal for context in contexts]

    def accepts(self, token: str) -> bool:
        (found,) = self.check(token)
        return isinstance(found, request_context.Principal)


@pytest.fixture
def service(provider: Provider) -> Service:
    return Service(provider)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_token_of_the_provider_is_accepted(start: Start, provider: Provider, logs: Logs) -> None:
    """Its subject is the `user_id` of the log, which never contains the token."""
    client, token = start(**settings(provider)), token_of()
    response = client.get(PATH, headers=bearer(token))
    assert (response.status_code, response.json()) == (200, "alice")
    assert logs("request_finished")[0]["user_id"] == "alice"
    assert_is_problem(client.post(PATH, headers=bearer(token)), 403, "PERMISSION_DENIED")
    assert_is_problem(invalid := client.get(PATH, headers=bearer(token[:-4])), 401, "UNAUTHENTICATED")
    assert invalid.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert client.get("/health").json()["checks"]["jwks"]["details"]["keys"] == 2
    assert token.rpartition(".")[2] not in str(logs())


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "notes:read notes:write"},
        {"scope": None, "scp": ["notes:read", "notes:write"]},
        {"scope": None, "permissions": ["notes:read", "notes:write", 7]},
        {"scope": {"notes": "read"}, "scp": "notes:read notes:write"},
    ],
)
def test_scopes_come_from_the_claims_of_common_providers(claims: dict[str, Any]) -> None:
    assert tokens.scopes_of(claims) == {"notes:read", "notes:write"}


def test_principal_has_the_name_and_the_expiry(service: Service) -> None:
    expires = int(time.time()) + 60
    (caller,) = service.check(token_of(EC_KEY, "ES256", "two", name="Alice", exp=expires))
    assert (caller.id, caller.kind, caller.name) == ("alice", "jwt", "Alice")
    assert caller.expires_at.timestamp() == expires


def unsigned(header: dict[str, Any], token: str) -> str:
    """Return the token with another header and without a signature."""
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.{token.split('.')[1]}."


def hmac_with_the_public_key() -> str:
    """Return a token signed with the published key as if it were a secret (RFC 8725, 2.1)."""
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    header, payload = (part for part in unsigned({"alg": "HS256", "kid": "one"}, token_of()).split(".")[:2])
    signature = algorithm.sign(f"{header}.{payload}".encode(), PUBLIC_PEM)
    return f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_invalid_token_is_rejected(service: Service) -> None:
    """Each of them differs from a valid one in one respect. None of them is an error of the service."""
    now, valid = int(time.time()), token_of()
    header, payload, signature = valid.split(".")
    invalid = {
        "without a signature": unsigned({"alg": "none", "kid": "one"}, valid),
        "algorithm in another case": unsigned({"alg": "nOnE", "kid": "one"}, valid),
        "signed with the public key": hmac_with_the_public_key(),
        "algorithm that is not accepted": token_of(algorithm="RS512"),
        "algorithm of another key": token_of(kid="two"),
        "signed by somebody else": token_of(OTHER_KEY),
        "unknown key": token_of(kid="three"),
        "no key id, and two keys": token_of(kid=None),
        "critical extension": jwt.encode({"sub": "alice"}, RSA_KEY, "RS256", {"kid": "one", "crit": ["x"], "x": 1}),
        "expired": token_of(exp=now - 31),
        "not valid yet": token_of(nbf=now + 60),
        "issued in the future": token_of(iat=now + 60),
        "other issuer": token_of(iss="https://evil.example.com/"),
        "other audience": token_of(aud="payments"),
        "no issuer": token_of(iss=None),
        "no audience": token_of(aud=None),
        "no expiry": token_of(exp=None),
        "endless": token_of(exp=10**30),
        "no subject": token_of(sub=None),
        "empty subject": token_of(sub=""),
        "NUL in the subject": token_of(sub="alice\0"),
        "lone surrogate in the subject": token_of(sub="alice\ud800"),
        "other payload": f"{header}.{payload[:-2]}AA.{signature}",
        "too long": token_of(padding="x" * 8192),
        "one part": header,
        "two parts": f"{header}.{payload}",
        "empty parts": "..",
        "no JSON": f"eA.{payload}.{signature}",
        "no object": f"{base64.urlsafe_b64encode(b'[]').decode()}.{payload}.{signature}",
        "nested": f"{base64.urlsafe_b64encode(b'[' * 6000).decode().rstrip('=')}..",
        "key id that is a list": unsigned({"alg": "RS256", "kid": ["one"]}, valid),
        "not ASCII": "ü.ü.ü",
    }
    assert service.accepts(valid)
    found = {name: service.check(token)[0] for name, token in invalid.items()}
    assert {name for name, one in found.items() if not isinstance(one, errors.UnauthenticatedError)} == set()


def test_clocks_may_differ_by_the_leeway(service: Service) -> None:
    now = int(time.time())
    assert service.accepts(token_of(exp=now - 15))
    assert service.accepts(token_of(nbf=now + 15, iat=now + 15))


def test_token_is_verified_once_until_it_expires(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the library checks it again, and rejects it by its own clock."""
    verified: list[str] = []
    decode = jwt.decode

    def count(token: str, *rest: Any, **more: Any) -> Any:
        verified.append(token)
        return decode(token, *rest, **more)

    assert [service.accepts(token_of(sub="bob")) for _ in range(2)] == [True] * 2  # now the keys are fetched
    monkeypatch.setattr(jwt, "decode", count)
    token = token_of()
    assert [service.accepts(token) for _ in range(3)] == [True] * 3
    assert len(verified) == 1
    service.now += 631
    service.accepts(token)
    assert len(verified) == 2


def test_token_signed_with_the_secret_is_accepted(start: Start) -> None:
    """Without a JWKS address there is nothing to fetch, and no health check."""
    client = start(jwt_secret=SECRET, jwt_algorithms=["HS256"], jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    assert client.get(PATH, headers=bearer(token_of(SECRET, "HS256", None))).status_code == 200
    for token in (token_of(SECRET[:-1] + "x", "HS256"), token_of(RSA_KEY)):
        assert client.get(PATH, headers=bearer(token)).status_code == 401
    assert "jwks" not in client.get("/health").json()["checks"]


def test_without_keys_every_token_is_rejected(start: Start) -> None:
    assert start().get(PATH, headers=bearer(token_of())).status_code == 401


# -- the keys of the provider ------------------------------------------------------------------------------------------


def test_new_key_of_the_provider_is_fetched_when_a_token_has_it(service: Service, provider: Provider) -> None:
    """A token signed with a removed key is no longer accepted, even if it was verified before."""
    old, new = token_of(), token_of(OTHER_KEY, kid="three")
    assert service.accepts(old)
    provider.publish(jwk(OTHER_KEY, "three"))
    service.now += 10
    assert service.accepts(new)
    assert not service.accepts(old)
    assert provider.requests == 2


def test_unknown_key_ids_fetch_the_keys_at_most_once_in_ten_seconds(service: Service, provider: Provider) -> None:
    """Requests that need the keys at the same time wait for the same fetch."""
    invented = [token_of(OTHER_KEY, kid=f"invented-{number}") for number in range(5)]
    for _ in range(2):
        assert {type(found) for found in service.check(*invented, *invented)} == {errors.UnauthenticatedError}
        assert provider.requests == 1
    service.now += 10
    service.check(*invented)
    assert provider.requests == 2


def test_keys_are_used_for_a_while_after_the_provider_fails(service: Service, provider: Provider) -> None:
    """Health warns, and then fails when they are too old. A token of an unknown key may be valid, so it gets 503."""
    check = keys.JwksCheck(service.keys)
    token, unknown = token_of(exp=int(time.time()) + 10_000), token_of(OTHER_KEY, kid="three")
    assert service.accepts(token)
    provider.status = 500
    service.now += 3899
    assert isinstance(service.check(unknown)[0], errors.UnavailableError)
    assert service.accepts(token)
    found = check.evaluate(service.keys.problem)
    assert (found.status, found.error) == ("warning", "the keys could not be fetched: status 500")
    service.now += 10
    (refused,) = service.check(token)
    assert isinstance(refused, errors.UnavailableError)
    assert refused.headers()["retry-after"] == "5"
    assert check.evaluate(service.keys.problem).status == "error"
    provider.status = 200
    service.now += 10
    assert service.accepts(token)
    assert check.evaluate(service.keys.problem).status == "ok"


def test_service_starts_without_the_provider(start: Start, provider: Provider) -> None:
    """Requests without a token are served, and readiness does not depend on the provider."""
    provider.status = 503
    client = start(**settings(provider))
    response = client.get(PATH, headers=bearer(token_of()))
    assert_is_problem(response, 503, "UNAVAILABLE")
    assert "retry-after" in response.headers
    assert client.get("/api/things/1").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert client.get("/health").json()["checks"]["jwks"]["status"] == "error"


def test_provider_that_hangs_delays_a_request_for_the_timeout_only(
    service: Service, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_FETCH_TIMEOUT_SECONDS", 0.05)
    provider.released.clear()
    assert isinstance(service.check(token_of())[0], errors.UnavailableError)
    assert service.keys.problem == "the keys could not be fetched: TimeoutError"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "not a JSON Web Key Set"),
        (b"[]", "not a JSON Web Key Set"),
        (b'{"keys": [1]}', "not a JSON Web Key Set"),
        (b'{"keys": []}', "no key for RS256, ES256"),
        (b" " * 300_000, "more than 262144 bytes"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "one", "use": "sig"}, "no key for RS256, ES256"),
        (jwk(RSA_KEY, "one", use="enc"), "no key for RS256, ES256"),
        (jwk(RSA_KEY, "one", alg="RS512"), "no key for RS256, ES256"),
        ({"kty": "RSA", "kid": "one", "use": "sig", "n": "!", "e": "AQAB"}, "no key for RS256, ES256"),
    ],
)
def test_unusable_key_set_is_a_problem_and_keeps_the_old_keys(
    service: Service, provider: Provider, body: Any, problem: str
) -> None:
    """A secret in the set, for example, must not check tokens: everyone can read it."""
    assert service.accepts(token_of())
    provider.body = body if isinstance(body, bytes) else json.dumps({"keys": [body]}).encode()
    service.now += 10
    asyncio.run(service.keys.refresh())
    assert service.keys.problem == f"the keys could not be fetched: {problem}"
    assert service.accepts(token_of())


@pytest.mark.parametrize("kid", ["one", None])
def test_keys_with_the_same_id_or_none_are_all_used(service: Service, provider: Provider, kid: str | None) -> None:
    """An id need not be unique among keys of different types (RFC 7517, 4.5)."""
    published = [jwk(key, "one") for key in (RSA_KEY, OTHER_KEY, EC_KEY)]
    provider.publish(*({**one, "kid": kid} for one in published))
    assert service.accepts(token_of(RSA_KEY, kid=kid))
    assert service.accepts(token_of(OTHER_KEY, kid=kid))
    assert service.accepts(token_of(EC_KEY, "ES256", kid=kid))
    assert not service.accepts(token_of(OTHER_KEY, kid=kid, exp=1))
    assert len(service.keys) == 3


def test_compressed_key_set_is_refused(service: Service, provider: Provider) -> None:
    """It could decompress to gigabytes."""
    provider.headers, provider.body = {"content-encoding": "gzip"}, gzip.compress(provider.body)
    assert not service.accepts(token_of())
    assert "a compressed body" in service.keys.problem


# -- the settings ------------------------------------------------------------------------------------------------------

PRODUCTION = {
    "environment": "production", "allowed_hosts": ["api.example.com"], "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE,
    "jwt_jwks_url": "https://id.example.com/jwks.json",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"jwt_algorithms": ["none"]}, "JWT_ALGORITHMS: must list only"),
        ({"jwt_algorithms": ["RS256", "HS256"]}, "JWT_ALGORITHMS: must list only"),
        ({"jwt_algorithms": ["HS256"], "jwt_secret": "short"}, "JWT_SECRET: is shorter than 32 bytes"),
        ({"jwt_algorithms": ["HS512"], "jwt_secret": SECRET}, "JWT_SECRET: is shorter than 64 bytes"),
        ({"jwt_secret": SECRET}, "JWT_SECRET: needs JWT_ALGORITHMS=HS256"),
        ({"jwt_algorithms": ["HS256"], "jwt_jwks_url": "https://a.example"}, "JWT_JWKS_URL: needs JWT_ALGORITHMS of"),
        ({"jwt_jwks_url": "id.example.com"}, "JWT_JWKS_URL: must be a URL"),
        ({"jwt_development_tokens": True}, "JWT_DEVELOPMENT_TOKENS: requires ENVIRONMENT=development"),
        (PRODUCTION | {"jwt_jwks_url": "http://id.example.com"}, "JWT_JWKS_URL: must start with https://"),
        (PRODUCTION | {"jwt_issuer": ""}, "JWT_JWKS_URL: needs JWT_ISSUER, or tokens of other services are accepted"),
        (PRODUCTION | {"jwt_audience": ""}, "JWT_JWKS_URL: needs JWT_AUDIENCE, or tokens"),
    ],
)
def test_unsafe_setting_is_rejected_at_start(values: dict[str, Any], problem: str) -> None:
    """The message says what to do, and contains no secret."""
    with pytest.raises(module("chassis.settings").SettingsError) as caught:
        settings_for_tests(**values)
    assert any(one.startswith(problem) for one in caught.value.problems), caught.value.problems
    assert SECRET not in str(caught.value)


def test_production_without_keys_is_a_warning() -> None:
    """It is safe, because every token is rejected."""
    values = PRODUCTION | {"jwt_jwks_url": "", "jwt_issuer": "", "jwt_audience": ""}
    warning = "JWT_JWKS_URL: every access token is rejected; set it, or JWT_SECRET"
    assert warning in settings_for_tests(**values).production_warnings()
    assert warning not in settings_for_tests(**PRODUCTION).production_warnings()


def test_development_token_is_accepted_in_development(start: Start) -> None:
    values = {"jwt_secret": SECRET, "jwt_algorithms": ["HS256"], "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    client = start(environment="development", jwt_development_tokens=True, **values)
    response = client.post("/development/token", json={"subject": "bob", "scopes": ["notes:read"]})
    assert response.status_code == 200, response.text
    assert client.get(PATH, headers=bearer(response.json()["access_token"])).json() == "bob"
    assert client.post("/development/token", json={"expires_seconds": 0}).status_code == 422
    assert start(**values).post("/development/token", json={}).status_code == 404


def test_check_refuses_development_tokens_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "staging")
    monkeypatch.setenv("JWT_DEVELOPMENT_TOKENS", "true")
    assert module("chassis.cli").main(program(), ["check"]) == 78
    assert "requires ENVIRONMENT=development, because anyone could get a token" in capsys.readouterr().err
