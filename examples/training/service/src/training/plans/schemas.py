"""The models of requests and responses."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_ID = 2**63 - 1
# PostgreSQL cannot store NUL characters.
Text = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


class PlanIn(BaseModel):
    """A plan to create."""

    model_config = ConfigDict(extra="forbid")

    athlete: Text
    goal: Text
    starts_on: date
    ends_on: date


class PlanOut(PlanIn):
    """A plan in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class WorkoutIn(BaseModel):
    """A workout to add to a plan."""

    model_config = ConfigDict(extra="forbid")

    day: date
    minutes: int = Field(ge=1, le=1440)


class WorkoutOut(WorkoutIn):
    """A workout in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class PlanPath(BaseModel):
    """The path parameter of one plan."""

    plan_id: int = Field(ge=1, le=MAX_ID)


class Week(BaseModel):
    """The workouts of one week."""

    monday: date
    workouts: int
    minutes: int


class Schedule(BaseModel):
    """The weeks of a plan that have a workout."""

    weeks: list[Week]
