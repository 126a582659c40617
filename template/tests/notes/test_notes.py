"""Notes over HTTP: what a client may do, and what it hears when it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ..chassis.in_process import open_client
from ..chassis.process import until
from ..package import module

NOTES = "/api/v1/notes"


def create(client: httpx.Client, title: str, **fields: Any) -> dict[str, Any]:
    """Create a note and return it."""
    answer = client.post(NOTES, json={"title": title} | fields)
    assert answer.status_code == 201, answer.text
    note: dict[str, Any] = answer.json()
    return note


def titles(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return [note["title"] for note in page.json()["items"]]


# -- one note ----------------------------------------------------------------------------------------------------------


def test_a_note_is_created_and_read_back(client: httpx.Client) -> None:
    """`Location` says where it is; times are UTC."""
    answer = client.post(NOTES, json={"title": "Groceries", "body": "Milk", "tag": "home"})
    assert answer.status_code == 201
    note = answer.json()
    assert answer.headers["location"] == f"{NOTES}/{note['id']}"
    assert client.get(answer.headers["location"]).json() == note
    assert (note["title"], note["body"], note["tag"]) == ("Groceries", "Milk", "home")
    assert note["created_at"] <= note["updated_at"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(note["created_at"])).total_seconds()) < 60


def test_only_the_title_is_required(client: httpx.Client) -> None:
    """Spaces around it are dropped."""
    note = create(client, "  Groceries  ")
    assert (note["title"], note["body"], note["tag"]) == ("Groceries", "", None)


def test_a_change_leaves_the_rest_as_it_was(client: httpx.Client) -> None:
    """A field that is sent as null is emptied, one that is not sent is kept."""
    note = create(client, "Groceries", body="Milk", tag="home")
    path = f"{NOTES}/{note['id']}"
    changed = client.patch(path, json={"body": "Milk, bread"})
    assert changed.status_code == 200
    after = changed.json()
    assert client.get(path).json() == after
    assert (after["title"], after["body"], after["tag"]) == ("Groceries", "Milk, bread", "home")
    assert after["created_at"] == note["created_at"]
    assert after["updated_at"] > note["updated_at"]
    assert client.patch(path, json={"tag": None}).json()["tag"] is None


def test_a_deleted_note_is_gone(client: httpx.Client) -> None:
    """A second time there is nothing to delete."""
    path = f"{NOTES}/{create(client, 'Groceries')['id']}"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("note_id", ["4711", str(2**63 - 1)])
def test_a_note_that_does_not_exist_is_not_found(client: httpx.Client, method: str, note_id: str) -> None:
    """Whatever is done with it."""
    answer = client.request(method, f"{NOTES}/{note_id}", json={} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("note_id", ["0", "-1", "one", str(2**63), "9" * 100, "%00"])
def test_an_id_that_cannot_be_one_is_refused(client: httpx.Client, note_id: str) -> None:
    """As malformed, or as a note that does not exist."""
    assert client.get(f"{NOTES}/{note_id}").status_code in (400, 404)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": "   "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"title": 7}, "title"),
        ({"title": None}, "title"),
        ({"title": "x", "body": "x" * 10_001}, "body"),
        ({"title": "x", "body": "a\x00b"}, "body"),
        ({"title": "x", "tag": "Not A Tag"}, "tag"),
        ({"title": "x", "tag": ""}, "tag"),
        ({"title": "x", "colour": "red"}, "colour"),
    ],
)
def test_a_note_that_is_not_right_is_refused(client: httpx.Client, fields: dict[str, Any], field: str) -> None:
    """The field is named, and nothing is stored."""
    answer = client.post(NOTES, json=fields)
    assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED")
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
    assert titles(client.get(NOTES)) == []


@pytest.mark.parametrize("changes", [{"title": ""}, {"title": None}, {"body": None}, {"colour": "red"}])
def test_a_change_that_is_not_right_is_refused(client: httpx.Client, changes: dict[str, Any]) -> None:
    """The note stays as it was."""
    note = create(client, "Groceries")
    path = f"{NOTES}/{note['id']}"
    assert client.patch(path, json=changes).status_code == 422
    assert client.get(path).json() == note


def test_two_notes_cannot_have_one_title(client: httpx.Client) -> None:
    """Neither by creating nor by changing; the same title for the same note is no change."""
    first, second = create(client, "Groceries"), create(client, "Books")
    for answer in (
        client.post(NOTES, json={"title": "Groceries"}),
        client.patch(f"{NOTES}/{second['id']}", json={"title": "Groceries"}),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (409, "CONFLICT")
        assert answer.json()["detail"] == "Another note has this title."
    assert client.patch(f"{NOTES}/{first['id']}", json={"title": "Groceries"}).status_code == 200
    assert titles(client.get(NOTES)) == ["Groceries", "Books"]


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_list_is_read_page_by_page(client: httpx.Client) -> None:
    """Oldest first; `next_cursor` leads to the next page and is null on the last, so that every note is seen once."""
    wanted = [create(client, f"Note {number}")["title"] for number in range(5)]
    seen, cursor = [], ""
    for size in (2, 2, 1):
        page = client.get(NOTES, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert len(titles(page)) == size
        seen += titles(page)
        cursor = page.json()["next_cursor"]
    assert seen == wanted
    assert cursor is None


def test_a_page_that_is_just_full_is_the_last(client: httpx.Client) -> None:
    """Nobody is sent to an empty page."""
    create(client, "One")
    create(client, "Two")
    assert client.get(NOTES, params={"limit": 2}).json()["next_cursor"] is None


def test_new_notes_do_not_shift_the_pages(client: httpx.Client) -> None:
    """A cursor stands behind a note, and not at a number."""
    for title in ("One", "Two", "Three"):
        create(client, title)
    first = client.get(NOTES, params={"limit": 2}).json()
    client.delete(f"{NOTES}/{first['items'][0]['id']}")
    create(client, "Four")
    assert titles(client.get(NOTES, params={"cursor": first["next_cursor"]})) == ["Three", "Four"]


def test_a_list_can_be_filtered_by_tag(client: httpx.Client) -> None:
    """Pages of it, too."""
    for number in range(4):
        create(client, f"Note {number}", tag="home" if number % 2 else "work")
    create(client, "Untagged")
    assert titles(client.get(NOTES, params={"tag": "home"})) == ["Note 1", "Note 3"]
    first = client.get(NOTES, params={"tag": "work", "limit": 1}).json()
    assert titles(client.get(NOTES, params={"tag": "work", "cursor": first["next_cursor"]})) == ["Note 2"]
    assert titles(client.get(NOTES, params={"tag": "nobody"})) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"}, {"limit": "101"}, {"limit": "many"}, {"limit": "-1"}, {"cursor": "!"}, {"cursor": ""},
        {"cursor": "x" * 33}, {"cursor": "nonsense"}, {"cursor": "LTE"}, {"tag": "Not A Tag"}, {"page": "2"},
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_asked_for_is_refused(client: httpx.Client, parameters: dict[str, str]) -> None:
    """A page has a bound; a cursor is one that this service gave; an unknown parameter is a mistake."""
    answer = client.get(NOTES, params=parameters)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")


def test_a_page_holds_a_hundred_notes_at_most(client: httpx.Client) -> None:
    """And twenty unless the client says otherwise."""
    for number in range(21):
        create(client, f"Note {number}")
    assert len(titles(client.get(NOTES))) == 20
    assert len(titles(client.get(NOTES, params={"limit": 100}))) == 21


# -- health ------------------------------------------------------------------------------------------------------------


def test_days_without_a_note_are_listed(migrated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first note on: where there are none yet nothing is missing. Gaps are a warning, and no failure."""
    monkeypatch.setenv("HEALTH_CHECK_INTERVAL_SECONDS", "0.01")
    app = module("main").create_app()
    (check,) = [check for check in module("chassis.service").service_of(app).health.checks if check.name == "notes"]
    with open_client(app) as client:

        def found() -> tuple[str, list[str]]:
            body = client.get("/health").json()
            return body["status"], body["checks"]["notes"]["details"]["gaps"]

        assert found() == ("healthy", [])
        today = datetime.fromisoformat(create(client, "Groceries")["created_at"])
        check.now = lambda: today + timedelta(days=3)
        gaps = [(today + timedelta(days=days)).date().isoformat() for days in (1, 2)]
        until(lambda: found() != ("healthy", []))
        assert found() == ("degraded", gaps)
        assert client.get("/health/ready").status_code == 200
