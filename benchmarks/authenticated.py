"""CPU time per request with credentials, compared with the same service and the same handler without them."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from servers import environment, running
from serving import Case, Effort, measure_in_turns

FEATURES = ["rate-limit", "api-keys", "jwt"]
# The others are compared with the mean of these two cases: the first and the last route of the measured application.
FIRST, LAST = "first", "last"
LABELS = {
    FIRST: "without credentials",
    LAST: "without credentials, on the last route",
    "dependency": "without credentials, and with a dependency of FastAPI that does nothing",
    "key": "with an API key",
    "token": "with an access token, the same in all requests",
    "tokens": "with an access token (RS256) that the service sees for the first time",
}
# The paths of the cases without credentials.
PATHS = {FIRST: "/hello", LAST: "/last", "dependency": "/dependent"}
# More than the service remembers, so that it checks the signature of each.
DISTINCT_TOKENS = 1500


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def measure(framework: str, service: Path, effort: Effort) -> list[Case]:
    """Measure every case once per round. All have the same handler behind the same middleware.

    A measurement takes a second or more, so that it contains the readings of the stored keys.
    """
    many, few = effort.requests(6000), effort.requests(DISTINCT_TOKENS)
    measured = [
        Case(
            "hello",
            variant,
            PATHS.get(variant, "/private"),
            few if variant == "tokens" else many,
            None if variant in PATHS else service / f"{variant}.headers",
        )
        for variant in LABELS
        if framework == "fastapi" or variant != "dependency"
    ]
    with (
        _identity_provider(service, few) as url,
        running(framework, "private", service, {"JWT_JWKS_URL": url}) as server,
    ):
        measure_in_turns(dict.fromkeys(LABELS, server), measured, replace(effort, rounds=-(-effort.rounds // 3)))
    return measured


@contextmanager
def _identity_provider(service: Path, distinct: int) -> Iterator[str]:
    """Write the credentials of each case into its file, publish the public key, and yield its URL."""
    private = generate_private_key(65537, 2048)
    _publish(private, service / "identity/jwks.json")
    lines = {
        "key": [f"X-API-Key: {_api_key(service)}"],
        "token": [f"Authorization: Bearer {_token(private, 0)}"],
        "tokens": [f"Authorization: Bearer {_token(private, number)}" for number in range(distinct)],
    }
    for variant, credentials in lines.items():
        (service / f"{variant}.headers").write_text("\n".join(credentials))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(service / "identity")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
    finally:
        server.shutdown()


def _publish(private: RSAPrivateKey, path: Path) -> None:
    path.parent.mkdir()
    public = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    path.write_text(json.dumps({"keys": [{**public, "kid": "bench", "alg": "RS256", "use": "sig"}]}))


def _token(private: RSAPrivateKey, number: int) -> str:
    claims = {"sub": f"client-{number}", "scope": "read", "exp": int(time.time()) + 86_400}
    return jwt.encode(claims, private, "RS256", {"kid": "bench"})


def _api_key(service: Path) -> str:
    command = [sys.executable, "-m", "my_service", "api-keys", "create", "bench", "--scopes", "read"]
    done = subprocess.run(command, cwd=service, env=environment(service), check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[0]
