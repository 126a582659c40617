"""The rules for the dates of a plan, without database and HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby

from .errors import DateRuleError


def check_dates(starts_on: date, ends_on: date, max_weeks: int) -> None:
    """Check the first and the last day of a plan.

    Raises:
        DateRuleError: The plan ends before it starts, does not start on a Monday, or is too long.
    """
    if starts_on.weekday() != 0:
        raise DateRuleError("starts_on", "A plan starts on a Monday", "not_a_monday")
    if ends_on < starts_on:
        raise DateRuleError("ends_on", f"The plan starts on {starts_on}", "ends_before_start")
    if ends_on - starts_on >= timedelta(weeks=max_weeks):
        raise DateRuleError("ends_on", f"A plan has at most {max_weeks} weeks", "too_long")


def check_workout(day: date, starts_on: date, ends_on: date) -> None:
    """Check the day of a workout.

    Raises:
        DateRuleError: The day is outside of the plan.
    """
    if not starts_on <= day <= ends_on:
        raise DateRuleError("day", f"The plan lasts from {starts_on} to {ends_on}", "outside_plan")


def weeks(starts_on: date, workouts: Iterable[tuple[date, int]]) -> list[tuple[date, int, int]]:
    """Return the Monday, the number of workouts and their minutes for each week that has a workout."""
    by_week = groupby(sorted(workouts), key=lambda workout: (workout[0] - starts_on).days // 7)
    found = []
    for number, group in by_week:
        minutes = [length for _, length in group]
        found.append((starts_on + timedelta(weeks=number), len(minutes), sum(minutes)))
    return found
