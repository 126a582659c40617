"""Plans and their date rules, in the process of the tests."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx
import pytest

from ..package import module

PLANS = "/api/v1/plans"
PLAN = {"athlete": "Fanny", "goal": "Marathon", "starts_on": "2026-01-05", "ends_on": "2026-03-29"}
weeks = module("plans.rules").weeks


def create(client: httpx.Client) -> str:
    response = client.post(PLANS, json=PLAN)
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


def test_created_plan_is_read_back_at_its_location(client: httpx.Client) -> None:
    path = create(client)
    assert client.get(path).json() == PLAN | {"id": int(path.rpartition("/")[2])}


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"starts_on": "2026-01-06"}, "starts_on", "not_a_monday"),
        ({"ends_on": "2026-01-04"}, "ends_on", "ends_before_start"),
        ({"ends_on": "2027-01-04"}, "ends_on", "too_long"),
        ({"ends_on": "soon"}, "ends_on", "date_from_datetime_parsing"),
        ({"athlete": ""}, "athlete", "string_too_short"),
        ({"coach": "Ada"}, "coach", "extra_forbidden"),
    ],
)
def test_plan_that_breaks_a_rule_is_rejected_with_its_code(
    client: httpx.Client, changes: dict[str, str], field: str, code: str
) -> None:
    response = client.post(PLANS, json=PLAN | changes)
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["error_code"]) == (422, "VALIDATION_FAILED")
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [(field, code)]


def test_longest_plan_is_accepted(client: httpx.Client) -> None:
    """52 weeks, the last of which ends on a Sunday."""
    assert client.post(PLANS, json=PLAN | {"ends_on": "2027-01-03"}).status_code == 201


@pytest.mark.parametrize(
    ("workout", "status"),
    [
        ({"day": "2026-01-05", "minutes": 30}, 201),
        ({"day": "2026-03-29", "minutes": 30}, 201),
        ({"day": "2026-01-04", "minutes": 30}, 422),
        ({"day": "2026-03-30", "minutes": 30}, 422),
        ({"day": "2026-01-05", "minutes": 0}, 422),
    ],
)
def test_workout_must_be_within_its_plan(client: httpx.Client, workout: dict[str, Any], status: int) -> None:
    assert client.post(f"{create(client)}/workouts", json=workout).status_code == status


def test_second_workout_on_a_day_is_a_conflict(client: httpx.Client) -> None:
    path = create(client)
    responses = [client.post(f"{path}/workouts", json={"day": "2026-01-07", "minutes": 30}) for _ in range(2)]
    assert [response.status_code for response in responses] == [201, 409]


@pytest.mark.parametrize("path", ["/4711", "/4711/schedule"])
def test_missing_plan_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(f"{PLANS}{path}").json()["error_code"] == "NOT_FOUND"
    assert client.get(f"{PLANS}/none").status_code == 400


def test_weeks_are_counted_from_the_start_of_the_plan() -> None:
    """A week without a workout is left out. The order of the workouts does not matter."""
    workouts = [(date(2026, 1, 20), 60), (date(2026, 1, 11), 45), (date(2026, 1, 5), 30)]
    assert weeks(date(2026, 1, 5), workouts) == [(date(2026, 1, 5), 2, 75), (date(2026, 1, 19), 1, 60)]
    assert weeks(date(2026, 1, 5), []) == []
