"""What a library's exception means to who typed the command. Imported when one has come up, never at the start."""

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError


def explanation(error: Exception) -> tuple[str, int] | None:
    """The line and the exit status for an expected failure; None for a programmer's mistake."""
    if isinstance(error, ValidationError):
        return _wrong_settings(error), 2
    if isinstance(error, DBAPIError):
        said = first_line(error.orig or error)
        return f"the database refused: {said}; is DATABASE_URL right, is it migrated?", 1
    if isinstance(error, OSError):
        return first_line(error), 1
    return None


def first_line(error: BaseException) -> str:
    """The first line of what `error` says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _wrong_settings(error: ValidationError) -> str:
    """What is wrong with the environment, by the variables' names; never their values, which may be secret."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"])
        variable = field if field.isupper() else f"RAYMART_{field.upper()}"
        reason = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{variable}: {reason}" if field else reason)
    return "; ".join(problems)
