"""`GET /v1/generation?id=`: what a request cost and who served it, for clients that streamed and asked no usage."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qsl
from uuid import UUID

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.types import Receive, Scope

from raymart_core import clock
from raymart_core.errors import InvalidRequest, NotFound, Unavailable
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.gateway.endpoint import Answer, Endpoint
from raymart_marketplace.gateway.generations.names import generation_of
from raymart_marketplace.gateway.generations.reading import Generation, read_generation
from raymart_marketplace.gateway.generations.reply import generation_body
from raymart_marketplace.metering.arrival import first_id_of

GENERATION_PATH = "/v1/generation"
READ_TIMEOUT_S = 5.0
QUERY_BYTES_MAX = 512
YOUNG = timedelta(minutes=1)
"""A request that arrived less long ago may be ending at this moment."""
PAUSES_S = (0.1, 0.3, 0.6, 0.0)
"""Between looks at a young one. A whole answer is recorded before its last byte; one that its client left, soon after."""


class GenerationReadRoute(Endpoint):
    """Shows one generation to the one who asked for it."""

    method = "GET"

    def __init__(self, authenticator: Authenticator, sessions: Sessions) -> None:
        super().__init__(authenticator)
        self._sessions = sessions

    async def serve(self, caller: Caller, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Answer with the generation. Raises: InvalidRequest, NotFound (also another's), Unavailable."""
        request_id = generation_of(_asked(scope))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                generation = await self._find(caller, request_id)
        except (OperationalError, InterfaceError, PoolTimeoutError, TimeoutError) as error:
            raise Unavailable("generations cannot be read for the moment; try again in a second") from error
        if generation is None:
            raise NotFound("no such generation is recorded, or it is not yours", param="id")
        await answer.json(generation_body(generation))

    async def _find(self, caller: Caller, request_id: UUID) -> Generation | None:
        is_young = request_id >= first_id_of(clock.now() - YOUNG)
        for pause_s in PAUSES_S if is_young else (0.0,):
            async with self._sessions() as session:
                found = await read_generation(session, caller, request_id)
            if found is not None:
                return found
            await asyncio.sleep(pause_s)
        return None


def _asked(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    named = [value for name, value in parse_qsl(query[:QUERY_BYTES_MAX].decode("latin-1")) if name == "id"]
    if len(named) != 1:
        raise InvalidRequest(f"{GENERATION_PATH} takes one `id`, that of an answer", param="id")
    return named[0]
