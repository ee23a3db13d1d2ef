"""How many statements an operation sends: it may not grow with what it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from raymart_marketplace.oversight.live import UNASKED
from support.api_server import Api


@contextmanager
def counted(api: Api) -> Iterator[list[str]]:
    """Statements that the API sends meanwhile, beside those that begin and end transactions."""
    statements: list[str] = []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not connection.get_execution_options().get(UNASKED):
            statements.append(statement)

    engine = api.services.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


async def statements_of(api: Api, query: str, person: Any, **variables: Any) -> int:
    """How many statements the operation sends, as a person whose token is known already."""
    await api("{ viewer { user { id } } }", person)  # The authenticator remembers the token from now on.
    with counted(api) as statements:
        assert (await api(query, person, **variables)).data
    return len(statements)
