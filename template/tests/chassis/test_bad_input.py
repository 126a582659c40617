"""Invalid input over the wire: it never causes a 500, and never ends the service."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .process import Process

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module", name="process")
def unharmed(running: Process) -> Iterator[Process]:
    """Check that no request fails meanwhile, and that the service serves requests afterwards."""
    before = len(running.lines)
    yield running
    assert running.get("/api/things/7").status_code == 200
    assert [line for line in running.lines[before:] if line["level"] in ("error", "critical")] == []
    assert running.stderr == ""


def request(line: bytes, headers: bytes = b"", body: bytes | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    length = b"Content-Length: %d\r\n" % len(body) if body is not None else b""
    return line + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + headers + length + b"\r\n" + (body or b"")


def post(body: bytes, headers: bytes = JSON) -> bytes:
    return request(b"POST /api/things", headers, body)


def chunked(body: bytes) -> bytes:
    """Return a POST request without a Content-Length."""
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in _parts(body)) + b"0\r\n\r\n"
    return request(b"POST /api/things", CHUNKED) + parts


def _parts(body: bytes) -> list[bytes]:
    return [body[begin : begin + 65_536] for begin in range(0, len(body), 65_536)]


TEN_MB = b'{"name": "' + b"x" * 10_000_000 + b'"}'

# What is sent, and the expected statuses; None means that the server may close the connection without a response.
CASES: dict[str, tuple[bytes, set[int | None]]] = {
    "truncated JSON": (post(b'{"name": "x", "co'), {400}),
    "not JSON": (post(b"\x00\x01\x02"), {400}),
    "JSON with a byte order mark": (post(b'\xef\xbb\xbf{"name": "x"}'), {201}),
    "JSON in UTF-16": (post('{"name": "x"}'.encode("utf-16")), {201}),
    "invalid UTF-8 in JSON": (post(b'{"name": "\xff\xfe"}'), {400}),
    "truncated UTF-8 in JSON": (post(b'{"name": "\xc3"}'), {400}),
    "wrong types": (post(b'{"name": 7, "count": {"a": []}}'), {422}),
    "a list": (post(b"[]"), {422}),
    "null": (post(b"null"), {422}),
    "NUL in a text": (post(b'{"name": "\\u0000"}'), {201}),
    "a lone surrogate": (post(b'{"name": "\\ud800"}'), {422}),
    "half a pair of surrogates": (post(b'{"name": "\\udc00\\ud800"}'), {422}),
    "a number of 5,000 digits": (post(b'{"name": "x", "count": ' + b"9" * 5000 + b"}"), {400}),
    "a number over 64 bits": (post(b'{"name": "x", "count": 99999999999999999999999}'), {201}),
    "1e400": (post(b'{"name": "x", "count": 1e400}'), {422}),
    "NaN": (post(b'{"name": "x", "count": NaN}'), {422}),
    "JSON 100,000 deep": (post(b'{"name": ' + b"[" * 100_000), {400}),
    "JSON 100,000 deep and closed": (post(b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), {400}),
    "the same key twice": (post(b'{"name": "a", "name": "b"}'), {201}),
    "10 MB, declared": (post(TEN_MB), {413}),
    "10 MB, in chunks": (chunked(TEN_MB), {413}),
    "a body on GET": (request(b"GET /api/things/7", JSON, b'{"a": 1}'), {200}),
    "no body": (post(b""), {422}),
    "no Content-Type": (post(b'{"name": "x"}', b""), {415}),
    "two Content-Types": (post(b'{"name": "x"}', b"Content-Type: text/plain\r\n" + JSON), {400}),
    "a nonsense Content-Type": (post(b'{"name": "x"}', b"Content-Type: ;;=\xff\r\n"), {415}),
    "an unknown charset": (post(b'{"name": "x"}', b"Content-Type: application/json; charset=klingon\r\n"), {201}),
    "a form": (post(b"name=x", b"Content-Type: application/x-www-form-urlencoded\r\n"), {415}),
    "a broken multipart form": (post(b"--x", b"Content-Type: multipart/form-data; boundary=y\r\n"), {415}),
    "a negative Content-Length": (request(b"POST /api/things", JSON + b"Content-Length: -1\r\n"), {400, None}),
    "a Content-Length that is not a number": (request(b"POST /api/things", b"Content-Length: 1e3\r\n"), {400, None}),
    "two Content-Lengths": (request(b"POST /api/things", b"Content-Length: 2\r\n" * 2) + b"{}", {400, 415}),
    "two Content-Lengths that differ": (
        request(b"POST /api/things", b"Content-Length: 2\r\nContent-Length: 3\r\n") + b"{}",
        {400, 415},
    ),
    "a huge Content-Length": (request(b"POST /api/things", b"Content-Length: " + b"9" * 40 + b"\r\n"), {400, 413}),
    "a Content-Length of 5,000 zeros and 13": (
        request(b"POST /api/things", JSON + b"Content-Length: " + b"0" * 5000 + b"13\r\n") + b'{"name": "x"}',
        {201},
    ),
    "a Content-Length of 5,000 zeros": (
        request(b"POST /api/things", JSON + b"Content-Length: " + b"0" * 5000 + b"\r\n"),
        {400, 422},
    ),
    "length and chunks": (
        request(b"POST /api/things", CHUNKED + b"Content-Length: 4\r\n") + b"0\r\n\r\n",
        {400, 422, None},
    ),
    "chunks of no size": (request(b"POST /api/things", CHUNKED) + b"zz\r\n\r\n", {400, None}),
    "an unknown method": (request(b"BREW /api/things/7"), {400, 405}),
    "an unknown method on an unknown path": (request(b"BREW /nowhere"), {400, 404, 405}),
    "a method in small letters": (request(b"get /api/things/7"), {200, 400, 405}),
    "TRACE": (request(b"TRACE /api/things/7"), {405}),
    "CONNECT": (request(b"CONNECT localhost:80"), {400, 404, 405}),
    "a path of 100 kB": (request(b"GET /" + b"a" * 100_000), {431}),
    "a query of 100 kB": (request(b"GET /api/things/7?x=" + b"a" * 100_000), {431}),
    "a header of 100 kB": (request(b"GET /api/things/7", b"X-Long: " + b"a" * 100_000 + b"\r\n"), {431}),
    "a thousand headers": (request(b"GET /api/things/7", b"X-Many: a\r\n" * 1000), {431}),
    "two hundred headers": (request(b"GET /api/things/7", b"X-Many: a\r\n" * 198), {200}),
    "two hundred and one headers": (request(b"GET /api/things/7", b"X-Many: a\r\n" * 199), {431}),
    "a huge id": (request(b"GET /api/things/" + b"9" * 5000), {200, 400, 404}),
    "a huge number in the query": (request(b"GET /api/things/7?limit=" + b"9" * 5000), {400}),
    "a negative id": (request(b"GET /api/things/-1"), {200, 400, 404}),
    "NUL in the path": (request(b"GET /api/things/%00"), {400, 404}),
    "invalid UTF-8 in the path": (request(b"GET /%ff%fe"), {400, 404}),
    "a lone surrogate in the path": (request(b"GET /%ed%a0%80"), {400, 404}),
    "a truncated escape in the path": (request(b"GET /%f"), {400, 404}),
    "invalid UTF-8 in the query": (request(b"GET /api/things/7?limit=%ff"), {400}),
    "a way out of the folder": (request(b"GET /../../etc/passwd"), {400, 404}),
    "a way out, escaped": (request(b"GET /..%2f..%2fetc%2fpasswd"), {400, 404}),
    "raw bytes in the path": (request(b"GET /\xff\xfe"), {400, 404, None}),
    "an absolute address": (request(b"GET http://evil.example/api/things/7"), {200, 400, 404}),
    "no path": (request(b"GET "), {400, 404, None}),
    "an asterisk": (request(b"OPTIONS *"), {200, 400, 404, 405}),
    "no host": (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", {400, None}),
    "two hosts": (request(b"GET /api/things/7", b"Host: evil.example\r\n"), {400}),
    "one host twice": (request(b"GET /api/things/7", HOST), {400}),
    "HTTP/1.0 without a host": (b"GET /api/things/7 HTTP/1.0\r\n\r\n", {400}),
    "two request ids": (request(b"GET /api/things/7", b"X-Request-ID: a\r\nX-Request-ID: b\r\n"), {200}),
    "raw bytes in the request id": (request(b"GET /api/things/7", b"X-Request-ID: \xff\xfe\r\n"), {200, 400}),
    "raw bytes in traceparent": (request(b"GET /api/things/7", b"traceparent: \xff\xfe\r\n"), {200, 400}),
    "not HTTP": (b"\x16\x03\x01 hello\r\n\r\n", {400, None}),
    "a header with no name": (request(b"GET /api/things/7", b": x\r\n"), {400, None}),
    "a body that breaks off": (request(b"POST /api/things", JSON + b"Content-Length: 50\r\n") + b"{", {400, None}),
    "health with a body": (request(b"GET /health/live", JSON, b"{}"), {200}),
    "health with an unknown method": (request(b"BREW /health"), {400, 405}),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "expected"), CASES.values(), ids=CASES.keys())
def test_invalid_input_gets_an_expected_status(process: Process, raw: bytes, expected: set[int | None]) -> None:
    """Every response has an id and the security headers, and an error is a problem body."""
    response = process.exchange(raw, half_close=raw.endswith(b"{"))
    head, _, body = response.partition(b"\r\n\r\n")
    status = int(head[9:12]) if head else None
    assert status in expected
    assert b"Traceback" not in body
    if status is None or (status == 400 and b"\r\ncontent-type: text/plain" in head):  # not HTTP
        return
    assert b"\r\nx-request-id: " in head.lower()
    assert b"\r\nx-content-type-options: nosniff" in head.lower()
    if status >= 400:
        assert json.loads(body)["status"] == status


def test_repeated_request_id_is_returned_once(process: Process) -> None:
    response = process.exchange(request(b"GET /api/things/7", b"X-Request-ID: a\r\nX-Request-ID: b\r\n"))
    assert response.lower().count(b"x-request-id:") == 1


def test_response_names_no_product(process: Process) -> None:
    for path in ("/api/things/7", "/nowhere", "/health/live"):
        headers = process.get(path).headers
        assert "server" not in headers
        assert "x-powered-by" not in headers


def test_head_response_has_no_body_on_the_wire(process: Process) -> None:
    """A client would mistake such a body for the next response."""
    for path in (b"/health", b"/api/things/7", b"/nowhere"):
        response = process.exchange(request(b"HEAD " + path))
        assert response.endswith(b"\r\n\r\n"), response


def test_large_body_is_rejected_before_it_is_sent(process: Process) -> None:
    """The service responds as soon as it has the request headers."""
    with process.connect() as connection:
        connection.sendall(request(b"POST /api/things", JSON + b"Content-Length: 10000000\r\n"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")


def test_requests_of_one_connection_have_their_own_ids(process: Process) -> None:
    """Each request of a connection gets its own id, even after a request that failed."""
    with process.client() as client:
        first = client.get("/api/things/7", headers={"X-Request-ID": "one", "X-Correlation-ID": "one"})
        second = client.get("/api/things/many", headers={"X-Request-ID": "two"})
        third = client.get("/api/things/7")
    assert (first.headers["x-request-id"], second.headers["x-request-id"]) == ("one", "two")
    assert third.headers["x-request-id"] not in ("one", "two")
    assert "x-correlation-id" not in third.headers
