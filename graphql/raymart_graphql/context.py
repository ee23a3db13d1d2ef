"""What every resolver gets: who asks, the services, and the loaders of this one operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import NotAuthenticated
from raymart_graphql.feeds.hints import EVERYBODY, Kind
from raymart_graphql.points import Allowance
from raymart_graphql.principal import ANONYMOUS, Principal, identify
from raymart_graphql.reading import Reading
from raymart_marketplace.accounts.sessions import Device
from raymart_marketplace.accounts.tokens import Claims
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.db.tenancy import NOBODY, Confinement, confine, release

if TYPE_CHECKING:
    from raymart_graphql.loaders import Loaders
    from raymart_graphql.services import Services


WRITE_TIMEOUT_S = 30.0
"""Longest transaction of a mutation, its wait for a connection included."""


@dataclass(slots=True, kw_only=True)
class Client:
    """The other end of one HTTP request or one WebSocket."""

    services: Services
    authorization: bytes | None
    """The `Authorization` header, or what `connection_init` carried in its place."""
    request_id: str
    """"req_..." of this HTTP request or WebSocket, for the client's support ticket and our logs."""
    address: str
    """Network address of the other end; behind proxies of ours, the one that they were asked from."""
    user_agent: str = ""
    """What it calls itself."""
    incremental: bool = False
    """Whether it reads results in parts; without, `@defer` and `@stream` are left out of the document."""
    connection_params: dict[str, object] | None = None
    """Payload of `connection_init`; Strawberry writes it."""
    allowance: Allowance | None = None
    """What the latest operation took of the caller's points; None before one was charged."""
    charged: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once one was."""

    async def charge(self, *, cost: int, nodes: int = 0) -> Allowance:
        """Take points for an operation, if there are as many left."""
        meter = self.services.points
        subject = await meter.subject(self.authorization, self.address)
        self.allowance = await meter.take(subject, cost=cost, nodes=nodes)
        self.charged.set()
        return self.allowance

    async def points_headers(self) -> Mapping[str, str]:
        """The allowance for an answer over HTTP. What was refused before it could be weighed takes a point as well."""
        return (self.allowance or await self.charge(cost=1)).headers()

    @property
    def device(self) -> Device:
        """Where somebody logs in from."""
        return Device(user_agent=self.user_agent, address=self.address)


@dataclass(slots=True, kw_only=True)
class Operation:
    """One GraphQL operation: its loaders and its reading transaction live as long as it does."""

    client: Client
    reading: Reading
    loaders: Loaders
    allowance: Allowance | None = None
    """What this operation took of its caller's points; there once it runs."""
    acting_for: UUID | None = None
    """The one organization whose rows this mutation may write; None where its rule names none, and it answers for itself."""
    _principal: Principal | None = field(default=None, repr=False)
    _identifying: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def services(self) -> Services:
        """The process's services."""
        return self.client.services

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """The transaction of one mutation: committed when the block ends, rolled back when it raises.

        GraphQL runs an operation's mutations one after another and each answers for itself, so each is a
        transaction of its own. What was read before is forgotten, so that the payload shows what is true now.

        Where the rule named an organization, the database lets the block touch that tenant's rows and no other's.
        """
        tenant = None
        if self.acting_for is not None:
            user_id = (await self.principal()).user_id
            tenant = Confinement(organizations=frozenset({self.acting_for}), user_id=user_id)
        await self.reading.aclose()
        async with asyncio.timeout(WRITE_TIMEOUT_S), session_scope(self.services.sessions) as session:
            if tenant is None:
                yield session
            else:
                await confine(session, tenant)
                yield session
                await session.flush()
                await release(session)
        # Whose money has moved, only the mutation knows; they are few, so every balance that is followed is read.
        self.services.hints_of_feeds.give(Kind.BALANCE, [EVERYBODY])
        self.loaders = type(self.loaders)(self.reading)

    async def principal(self) -> Principal:
        """Who asks, looked up once. Raises: NotAuthenticated for credentials that are wrong."""
        if self._principal is None:
            async with self._identifying:  # Fields run side by side: one of them asks, the others wait.
                if self._principal is None:
                    self._principal = await self._identify()
        return self._principal

    async def recognise_anew(self) -> None:
        """The one who asks has other rights from here on: a membership of theirs has changed."""
        self._principal = None
        await self.recognise()

    async def recognise(self) -> None:
        """Let the database show what the one who asks may see. Wrong credentials see what nobody does; rules refuse them."""
        try:
            self.reading.confinement = (await self.principal()).confinement
        except NotAuthenticated:
            self.reading.confinement = NOBODY

    async def claims(self) -> Claims:
        """What the access token says. Raises: NotAuthenticated, also for nobody and for an API key."""
        return await self.services.authenticator.user(self.client.authorization)

    async def _identify(self) -> Principal:
        if self.client.authorization is None:
            return ANONYMOUS
        return await identify(self.client.authorization, self.services.authenticator, self.reading)


Info = strawberry.Info[Operation, None]
"""Annotation of a resolver's `info`."""
