"""The routes of the plans: parse the request, call the service, build the response."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from ..chassis.app import Chassis
from ..chassis.web.fastapi import get_chassis
from ..settings import Settings
from .repository import open_repository
from .schemas import PlanIn, PlanOut, PlanPath, Schedule, WorkoutIn, WorkoutOut
from .service import PlanService

router = APIRouter(prefix="/plans", tags=["plans"])


async def plan_service(chassis: Annotated[Chassis, Depends(get_chassis)]) -> AsyncIterator[PlanService]:
    """Open a unit of work for one request."""
    async with open_repository(chassis) as plans:
        yield PlanService(plans, chassis.settings_as(Settings))


# `scope="function"` commits before the response is sent, so a client that got 2xx can read its change.
Plans = Annotated[PlanService, Depends(plan_service, scope="function")]


@router.post("", status_code=201)
async def create_plan(plan: PlanIn, plans: Plans, request: Request, response: Response) -> PlanOut:
    created = await plans.create(plan)
    response.headers["location"] = request.url_for("read_plan", plan_id=created.id).path
    return PlanOut.model_validate(created)


@router.get("/{plan_id}")
async def read_plan(path: Annotated[PlanPath, Path()], plans: Plans) -> PlanOut:
    return PlanOut.model_validate(await plans.get(path.plan_id))


@router.post("/{plan_id}/workouts", status_code=201)
async def add_workout(path: Annotated[PlanPath, Path()], workout: WorkoutIn, plans: Plans) -> WorkoutOut:
    return WorkoutOut.model_validate(await plans.add_workout(path.plan_id, workout))


@router.get("/{plan_id}/schedule")
async def read_schedule(path: Annotated[PlanPath, Path()], plans: Plans) -> Schedule:
    return await plans.schedule(path.plan_id)
