"""What only a service of threads has to see to."""

from __future__ import annotations

import pytest

from .conftest import Start


@pytest.mark.parametrize(("content", "ends"), [(b" " * 1001, True), (b"", False)], ids=["body", "no body"])
def test_a_refusal_with_its_body_unread_says_that_the_connection_ends(start: Start, content: bytes, ends: bool) -> None:
    """The server closes a connection on which half a request was read; a client must not send the next one there."""
    answer = start(max_request_body_bytes=1000).post("/nowhere", content=content)
    assert answer.status_code == (413 if ends else 404)
    assert ("connection" in answer.headers) == ends
