"""Which statements an operation sends: they may not grow with what it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import event

from raymart_marketplace.oversight.live import UNASKED
from support.api_server import Api
from support.asked_for import ASKED_FOR

log = structlog.get_logger()


@contextmanager
def counted(api: Api) -> Iterator[list[str]]:
    """Statements that the body and requests send meanwhile, beside those that begin and end transactions."""
    statements: list[str] = []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if ASKED_FOR.get() and not connection.get_execution_options().get(UNASKED):
            statements.append(statement)

    engine = api.services.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    token = ASKED_FOR.set(True)
    yield statements
    ASKED_FOR.reset(token)
    event.remove(engine, "before_cursor_execute", note)


async def statements_of(api: Api, query: str, person: Any, **variables: Any) -> int:
    """How many statements the operation sends, as a person whose token is known already; logged for a test that fails.

    It is asked twice: what the process sends by itself meanwhile, such as a look at the prices, only adds.
    """
    await api("{ viewer { user { id } } }", person)  # The authenticator remembers the token from now on.
    counts = []
    for _ in range(2):
        with counted(api) as statements:
            assert (await api(query, person, **variables)).data
        assert statements, "an operation that sends none was not counted"
        log.info("statements.counted", sent=[" ".join(statement.split()) for statement in statements])
        counts.append(len(statements))
    return min(counts)
