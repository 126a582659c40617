"""The HTTP interface of the notes: valid and invalid requests of a client."""

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
    """Create one note and return it."""
    response = client.post(NOTES, json={"title": title} | fields)
    assert response.status_code == 201, response.text
    note: dict[str, Any] = response.json()
    return note


def titles(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return [note["title"] for note in page.json()["items"]]


# -- one -------------------------------------------------------------------------------------------------------------


def test_created_note_is_read_back_at_its_location(client: httpx.Client) -> None:
    response = client.post(NOTES, json={"title": "Groceries", "body": "Milk", "tag": "home"})
    assert response.status_code == 201
    note = response.json()
    assert response.headers["location"] == f"{NOTES}/{note['id']}"
    assert client.get(response.headers["location"]).json() == note
    assert (note["title"], note["body"], note["tag"]) == ("Groceries", "Milk", "home")
    assert note["created_at"] <= note["updated_at"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(note["created_at"])).total_seconds()) < 60


def test_create_with_a_title_only_uses_defaults(client: httpx.Client) -> None:
    """Spaces around the title are removed."""
    note = create(client, "  Groceries  ")
    assert (note["title"], note["body"], note["tag"]) == ("Groceries", "", None)


def test_update_changes_only_the_fields_that_were_sent(client: httpx.Client) -> None:
    """A field that is sent as null is cleared."""
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


def test_deleted_note_is_not_found(client: httpx.Client) -> None:
    """Deleting it again returns 404 as well."""
    path = f"{NOTES}/{create(client, 'Groceries')['id']}"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("note_id", ["4711", str(2**63 - 1)])
def test_missing_note_is_not_found(client: httpx.Client, method: str, note_id: str) -> None:
    response = client.request(method, f"{NOTES}/{note_id}", json={} if method == "PATCH" else None)
    assert (response.status_code, response.json()["error_code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("note_id", ["0", "-1", "one", str(2**63), "9" * 100, "%00"])
def test_invalid_id_is_rejected(client: httpx.Client, note_id: str) -> None:
    """The id is rejected as malformed, or because no such note exists."""
    assert client.get(f"{NOTES}/{note_id}").status_code in (400, 404)


# -- invalid requests -------------------------------------------------------------------------------------------------


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
def test_invalid_note_is_rejected_with_the_name_of_the_field(
    client: httpx.Client, fields: dict[str, Any], field: str
) -> None:
    """Nothing is stored."""
    response = client.post(NOTES, json=fields)
    assert (response.status_code, response.json()["error_code"]) == (422, "VALIDATION_FAILED")
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert titles(client.get(NOTES)) == []


@pytest.mark.parametrize("changes", [{"title": ""}, {"title": None}, {"body": None}, {"colour": "red"}])
def test_invalid_update_changes_nothing(client: httpx.Client, changes: dict[str, Any]) -> None:
    note = create(client, "Groceries")
    path = f"{NOTES}/{note['id']}"
    assert client.patch(path, json=changes).status_code == 422
    assert client.get(path).json() == note


def test_duplicate_title_is_a_conflict(client: httpx.Client) -> None:
    """Creating and updating both conflict. The title of the note itself is not a conflict."""
    first, second = create(client, "Groceries"), create(client, "Books")
    for response in (
        client.post(NOTES, json={"title": "Groceries"}),
        client.patch(f"{NOTES}/{second['id']}", json={"title": "Groceries"}),
    ):
        assert (response.status_code, response.json()["error_code"]) == (409, "CONFLICT")
        assert response.json()["detail"] == "Another note has this title."
    assert client.patch(f"{NOTES}/{first['id']}", json={"title": "Groceries"}).status_code == 200
    assert titles(client.get(NOTES)) == ["Groceries", "Books"]


# -- several at once ---------------------------------------------------------------------------------------------------


def test_bulk_creates_every_note_in_its_order(client: httpx.Client) -> None:
    response = client.post(f"{NOTES}/bulk", json={"items": [{"title": "One", "tag": "home"}, {"title": "Two"}]})
    assert response.status_code == 201
    created = response.json()["items"]
    assert [note["title"] for note in created] == ["One", "Two"]
    assert client.get(NOTES).json()["items"] == created


def test_bulk_with_invalid_notes_names_them_by_position_and_creates_none(client: httpx.Client) -> None:
    items = [{"title": "One"}, {"title": ""}, {"title": "Three", "tag": "Not A Tag"}]
    response = client.post(f"{NOTES}/bulk", json={"items": items})
    assert (response.status_code, response.json()["error_code"]) == (422, "VALIDATION_FAILED")
    assert [error["field"] for error in response.json()["errors"]] == ["items.1.title", "items.2.tag"]
    assert titles(client.get(NOTES)) == []


def test_bulk_with_taken_titles_names_them_by_position_and_creates_none(client: httpx.Client) -> None:
    """A title is also taken if the same request has it twice."""
    create(client, "Books")
    items = [{"title": title} for title in ("Groceries", "Books", "Letters", "Groceries")]
    response = client.post(f"{NOTES}/bulk", json={"items": items})
    assert (response.status_code, response.json()["error_code"]) == (409, "CONFLICT")
    assert [error["field"] for error in response.json()["errors"]] == ["items.1.title", "items.3.title"]
    assert titles(client.get(NOTES)) == ["Books"]


def test_bulk_is_not_an_id(client: httpx.Client) -> None:
    response = client.patch(f"{NOTES}/bulk", json={})
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("count", [0, 101])
def test_bulk_without_notes_or_with_too_many_is_rejected(client: httpx.Client, count: int) -> None:
    response = client.post(f"{NOTES}/bulk", json={"items": [{"title": f"Note {number}"} for number in range(count)]})
    assert [error["field"] for error in response.json()["errors"]] == ["items"]
    assert response.status_code == 422


# -- conditional requests ----------------------------------------------------------------------------------------------


def test_note_that_the_client_has_is_not_sent_again(client: httpx.Client) -> None:
    """Every change gives the note another ETag."""
    response = client.post(NOTES, json={"title": "Groceries"})
    path, etag = response.headers["location"], response.headers["etag"]
    unchanged = client.get(path, headers={"if-none-match": etag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    changed = client.patch(path, json={"body": "Milk"}).headers["etag"]
    assert client.get(path, headers={"if-none-match": etag}).headers["etag"] == changed != etag


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_outdated_etag_changes_nothing(client: httpx.Client, method: str) -> None:
    """The change succeeds with the current ETag."""
    response = client.post(NOTES, json={"title": "Groceries"})
    path, etag = response.headers["location"], response.headers["etag"]
    note = client.patch(path, json={"body": "Milk"})
    body = {"body": "Bread"} if method == "PATCH" else None
    refused = client.request(method, path, json=body, headers={"if-match": etag})
    assert (refused.status_code, refused.json()["error_code"]) == (412, "PRECONDITION_FAILED")
    assert client.get(path).json() == note.json()
    assert client.request(method, path, json=body, headers={"if-match": note.headers["etag"]}).is_success


# -- lists -------------------------------------------------------------------------------------------------------------


def test_list_is_read_page_by_page_and_contains_every_note_once(client: httpx.Client) -> None:
    """The oldest one is first. `next_cursor` leads to the next page and is null on the last one."""
    wanted = [create(client, f"Note {number}")["title"] for number in range(5)]
    seen, cursor = [], ""
    for size in (2, 2, 1):
        page = client.get(NOTES, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert len(titles(page)) == size
        seen += titles(page)
        cursor = page.json()["next_cursor"]
    assert seen == wanted
    assert cursor is None


def test_full_last_page_has_no_next_cursor(client: httpx.Client) -> None:
    create(client, "One")
    create(client, "Two")
    assert client.get(NOTES, params={"limit": 2}).json()["next_cursor"] is None


def test_new_and_deleted_notes_do_not_shift_the_pages(client: httpx.Client) -> None:
    """A cursor marks a position and does not count notes."""
    for title in ("One", "Two", "Three"):
        create(client, title)
    first = client.get(NOTES, params={"limit": 2}).json()
    client.delete(f"{NOTES}/{first['items'][0]['id']}")
    create(client, "Four")
    assert titles(client.get(NOTES, params={"cursor": first["next_cursor"]})) == ["Three", "Four"]


def test_list_filtered_by_tag_has_pages_too(client: httpx.Client) -> None:
    for number in range(4):
        create(client, f"Note {number}", tag="home" if number % 2 else "work")
    create(client, "Untagged")
    assert titles(client.get(NOTES, params={"tag": "home"})) == ["Note 1", "Note 3"]
    first = client.get(NOTES, params={"tag": "work", "limit": 1}).json()
    assert titles(client.get(NOTES, params={"tag": "work", "cursor": first["next_cursor"]})) == ["Note 2"]
    assert titles(client.get(NOTES, params={"tag": "unused"})) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"}, {"limit": "101"}, {"limit": "many"}, {"limit": "-1"}, {"cursor": "!"}, {"cursor": ""},
        {"cursor": "x" * 33}, {"cursor": "nonsense"}, {"cursor": "LTE"}, {"tag": "Not A Tag"}, {"page": "2"},
    ],
)  # fmt: skip
def test_list_with_invalid_parameters_is_rejected(client: httpx.Client, parameters: dict[str, str]) -> None:
    """Invalid limits, cursors and tags are rejected, and so are unknown parameters."""
    response = client.get(NOTES, params=parameters)
    assert (response.status_code, response.json()["error_code"]) == (400, "BAD_REQUEST")


def test_cursor_of_the_documented_form_is_accepted(client: httpx.Client) -> None:
    """Its pattern ends at the largest id that a database can store."""
    assert titles(client.get(NOTES, params={"cursor": "7fffffffffffffff"})) == []
    assert client.get(NOTES, params={"cursor": "8000000000000000"}).status_code == 400


def test_page_has_twenty_notes_by_default(client: httpx.Client) -> None:
    for number in range(21):
        create(client, f"Note {number}")
    assert len(titles(client.get(NOTES))) == 20
    assert len(titles(client.get(NOTES, params={"limit": 100}))) == 21


# -- health ------------------------------------------------------------------------------------------------------------


def test_missing_days_degrade_health(migrated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days before the first note do not count. The service stays ready."""
    monkeypatch.setenv("HEALTH_CHECK_CACHE_SECONDS", "0.01")
    app = module("main").create_app()
    (check,) = [check for check in module("chassis.app").chassis_of(app).health.checks if check.name == "notes"]
    with open_client(app) as client:

        def health() -> tuple[str, list[str]]:
            notes = client.get("/health").json()["checks"]["notes"]
            return notes["status"], notes["details"]["missing_days"]

        assert health() == ("ok", [])
        today = datetime.fromisoformat(create(client, "Groceries")["created_at"])
        check.now = lambda: today + timedelta(days=3)
        missing = [(today + timedelta(days=days)).date().isoformat() for days in (1, 2)]
        until(lambda: health() != ("ok", []))
        assert health() == ("warning", missing)
        assert client.get("/health").json()["status"] == "degraded"
        assert client.get("/health/ready").status_code == 200
