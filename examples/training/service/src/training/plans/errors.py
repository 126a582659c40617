"""The errors of the plans. The chassis translates each into its status and a problem response."""

from ..chassis.errors import ConflictError, FieldError, NotFoundError, ValidationError


class PlanNotFoundError(NotFoundError):
    default_detail = "There is no plan with this id."


class WorkoutTakenError(ConflictError):
    default_detail = "The plan has a workout on this day."


class DateRuleError(ValidationError):
    """A date breaks a rule of the plan; `field` is the date, and `code` names the rule."""

    default_detail = "A date does not fit the plan."

    def __init__(self, field: str, message: str, code: str) -> None:
        super().__init__(errors=[FieldError(field, message, code)])
