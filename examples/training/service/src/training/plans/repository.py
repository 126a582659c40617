"""All SQL of the plans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..chassis.app import Chassis
from ..chassis.database.asyncio import Database
from .errors import WorkoutTakenError
from .models import Plan, Workout


class PlanRepository:
    """The plans and their workouts, within one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, plan: Plan) -> Plan:
        self._session.add(plan)
        await self._session.flush()
        return plan

    async def get(self, plan_id: int) -> Plan | None:
        return await self._session.get(Plan, plan_id)

    async def add_workout(self, workout: Workout) -> Workout:
        """Write now instead of at the commit, so that a second workout on one day becomes an error of this domain."""
        self._session.add(workout)
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise WorkoutTakenError from error
        return workout

    async def workouts(self, plan_id: int) -> list[tuple[date, int]]:
        """Return the day and the minutes of each workout of a plan."""
        query = select(Workout.day, Workout.minutes).where(Workout.plan_id == plan_id)
        return [(day, minutes) for day, minutes in await self._session.execute(query)]


@asynccontextmanager
async def open_repository(chassis: Chassis) -> AsyncIterator[PlanRepository]:
    """Open a unit of work: commit when the block ends, roll back when it raises an exception."""
    async with chassis.get(Database).session() as session:
        yield PlanRepository(session)
