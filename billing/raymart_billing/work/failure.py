"""What is kept of an error: enough for an operator, nothing of a customer."""

from sqlalchemy.exc import DBAPIError

from raymart_core.errors import DomainError

LENGTH_MAX = 500


def described(error: BaseException) -> str:
    """The error's kind and the first line of what it says, without the parameters that SQLAlchemy would add."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = cause.message if isinstance(cause, DomainError) else str(cause)
    first_line = said.strip().partition("\n")[0]
    kind = type(cause).__name__
    return (f"{kind}: {first_line}" if first_line else kind)[:LENGTH_MAX]
