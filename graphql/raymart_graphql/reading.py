"""The reading side of an operation: one lazily opened transaction, used by one statement at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.audit.recording import READS_ONLY
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.db.tenancy import NOBODY, Confinement, confine, release

READ_TIMEOUT_S = 10.0
"""Longest use of the session by one resolver, its wait for a connection included."""


class Reading:
    """Lends a session for reads. Resolvers run side by side but a connection serves one statement at a time.

    The session sees what `confinement` says, by the database's row-level security: nothing of any tenant until somebody
    has said who asks.

    `aclose` ends the transaction; the next use opens a fresh one. Call it before work over the network, so that no
    transaction is held meanwhile, and after a write, so that what follows sees it. `end` is for good: work that
    outlives its operation must not open a transaction that nobody closes.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._session: AsyncSession | None = None
        self._scope = AsyncExitStack()
        self._confined_to: Confinement | None = None
        """What the open transaction is confined to; None for the process's own rights."""
        self._turn = asyncio.Lock()
        self._is_over = False
        self.confinement: Confinement | None = NOBODY
        """Whose rows are seen from the next use on; None for all, as the process itself may."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """The operation's reading session, for this block alone.

        Raises: asyncio.CancelledError after `end`. GraphQL answers as soon as one field has failed and lets the loaders
        of the others run on; they end here, unheard.
        """
        async with self._lent(self.confinement) as session:
            yield session

    @asynccontextmanager
    async def trusted_session(self) -> AsyncIterator[AsyncSession]:
        """The same with the process's own rights, for this block: to find out who asks."""
        async with self._lent(None) as session:
            yield session

    async def end(self) -> None:
        """The operation is over: end the transaction, and lend no session any more."""
        self._is_over = True
        await self.aclose()

    async def aclose(self) -> None:
        """End the transaction and give its connection back; safe to call at any time."""
        async with self._turn:
            if self._session is not None:
                self._session = None
                # Not rolled back: psycopg would forget what the connection has prepared, and the next operation would
                # plan each statement anew, most of what a small page costs the database. What was read has been read,
                # whatever becomes of the connection.
                with contextlib.suppress(TimeoutError, SQLAlchemyError):
                    async with asyncio.timeout(READ_TIMEOUT_S):
                        await self._scope.aclose()

    @asynccontextmanager
    async def _lent(self, confinement: Confinement | None) -> AsyncIterator[AsyncSession]:
        async with self._turn, asyncio.timeout(READ_TIMEOUT_S):
            if self._is_over:
                raise asyncio.CancelledError
            try:
                yield await self._confined(confinement)
            except BaseException as error:
                # Its transaction may be broken or its statement cancelled: the next use begins anew.
                await self._give_up(error)
                raise

    async def _confined(self, confinement: Confinement | None) -> AsyncSession:
        """The session, with these rights from here on: one round trip where they change."""
        if self._session is None:
            self._session = await self._scope.enter_async_context(session_scope(self._sessions))
            self._session.info[READS_ONLY] = True
            self._confined_to = None
        if confinement != self._confined_to:
            if confinement is None:
                await release(self._session)
            else:
                await confine(self._session, confinement)
            self._confined_to = confinement
        return self._session

    async def _give_up(self, error: BaseException) -> None:
        self._session = None
        with contextlib.suppress(Exception):  # The one that is raised on is what counts.
            await self._scope.__aexit__(type(error), error, error.__traceback__)
