"""The business logic of the plans. A service never commits a transaction and does not handle HTTP."""

from __future__ import annotations

from ..chassis.instrumentation import Counter
from ..chassis.logging.slow_operation import slow_operation
from ..settings import Settings
from .errors import PlanNotFoundError
from .models import Plan, Workout
from .repository import PlanRepository
from .rules import check_dates, check_workout, weeks
from .schemas import PlanIn, Schedule, Week, WorkoutIn

PLANS_CREATED = Counter("plans.created", "Plans created.")


class PlanService:
    """The operations on plans, within one unit of work."""

    def __init__(self, plans: PlanRepository, settings: Settings) -> None:
        self._plans = plans
        self._settings = settings

    async def create(self, plan: PlanIn) -> Plan:
        """Store a plan.

        Raises:
            DateRuleError: Its dates break a rule.
        """
        check_dates(plan.starts_on, plan.ends_on, self._settings.plan_max_weeks)
        created = await self._plans.add(Plan(**plan.model_dump()))
        PLANS_CREATED.add()
        return created

    async def get(self, plan_id: int) -> Plan:
        """Return a plan.

        Raises:
            PlanNotFoundError: No plan has this id.
        """
        plan = await self._plans.get(plan_id)
        if plan is None:
            raise PlanNotFoundError
        return plan

    async def add_workout(self, plan_id: int, workout: WorkoutIn) -> Workout:
        """Add a workout to a plan.

        Raises:
            DateRuleError: Its day is outside of the plan.
            WorkoutTakenError: The plan has another workout on this day.
        """
        plan = await self.get(plan_id)
        check_workout(workout.day, plan.starts_on, plan.ends_on)
        return await self._plans.add_workout(Workout(plan_id=plan.id, **workout.model_dump()))

    async def schedule(self, plan_id: int) -> Schedule:
        """Return the weeks of a plan."""
        plan = await self.get(plan_id)
        threshold_ms = self._settings.schedule_slow_milliseconds
        with slow_operation("build_schedule", threshold_ms=threshold_ms, plan_id=plan.id):
            rows = weeks(plan.starts_on, await self._plans.workouts(plan.id))
        return Schedule(weeks=[Week(monday=day, workouts=count, minutes=minutes) for day, count, minutes in rows])
