"""The errors of the portfolio. The chassis translates each into its status and a problem response."""

from ..chassis.errors import ConflictError, FieldError, NotFoundError, ValidationError


class PolicyNotFoundError(NotFoundError):
    default_detail = "There is no policy with this number."


class ClaimNumberTakenError(ConflictError):
    default_detail = "Another claim has this number."


class NotCoveredError(ValidationError):
    """The policy does not cover the claim; `field` is the part of the claim that is the reason."""

    default_detail = "The policy does not cover this claim."

    def __init__(self, field: str, message: str, code: str) -> None:
        super().__init__(errors=[FieldError(field, message, code)])
