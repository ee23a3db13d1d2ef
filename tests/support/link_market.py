"""A real marketplace as far as a node sees it: `/link` on a real uvicorn in this event loop, real Postgres behind it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from raymart_core.ids import new_id
from raymart_core.wire.link import FRAME_BYTES_MAX, LINK_PATH
from raymart_marketplace.accounts.models import OrganizationKind
from raymart_marketplace.accounts.service import create_organization
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.objects import Objects, object_routes
from raymart_marketplace.supply.directory import Directory
from raymart_marketplace.supply.link import LinkEndpoint, LinkLimits
from raymart_marketplace.supply.link.websocket import LinkWebSocketProtocol
from raymart_marketplace.supply.models import NodeRole, PoolKind, ProviderState
from raymart_marketplace.supply.service import create_join_token, create_pool, create_provider, open_offer
from raymart_marketplace.supply.siblings import Meeting, Meetings, Siblings
from raymart_marketplace.supply.weights import WeightsDesk

SERVER_NAME = "raymart-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A provider of its own with one open offer, in a pool of its own: tests do not see each other's."""

    sessions: Sessions
    provider_id: UUID
    pool_id: UUID
    pool_slug: str
    revision_id: UUID
    digest: str
    model_slug: str
    offer_id: UUID

    async def join_token(self, role: NodeRole = NodeRole.NODE, *, ttl_s: int = 3600) -> str:
        async with session_scope(self.sessions) as session:
            _, text = await create_join_token(
                session,
                pool_id=self.pool_id,
                provider_id=self.provider_id if role is NodeRole.NODE else None,
                role=role,
                user_id=None,
                ttl_s=ttl_s,
            )
        return text


async def make_supply(
    sessions: Sessions, *, pool_kind: PoolKind = PoolKind.HOUSE, **revision_changes: Any
) -> Supply:
    unique = new_id().hex[-12:]
    async with session_scope(sessions) as session:
        organization = await create_organization(
            session, name=f"Provider {unique}", kind=OrganizationKind.PROVIDER
        )
        provider = await create_provider(
            session,
            organization_id=organization.id,
            slug=f"prov-{unique}",
            name="Provider",
            state=ProviderState.ACTIVE,
        )
        pool = await create_pool(
            session,
            slug=f"pool-{unique}",
            kind=pool_kind,
            region="local",
            provider_id=provider.id if pool_kind is PoolKind.PROVIDER else None,
        )
        model = await ensure_model(
            session,
            slug=f"test/model-{unique}",
            name="Model",
            description="A model",
            modality=Modality.CHAT,
            licence="apache-2.0",
        )
        values: dict[str, Any] = {
            "engine": "llama_cpp",
            "source": f"bundled:{unique}.gguf",
            "sha256": unique.ljust(64, "0"),
            "quantization": "q8_0",
            "context_length": 1024,
        }
        revision = await publish_revision(session, model=model, **{**values, **revision_changes})
        offer = await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=100,
            ask_completion_nano_usd=200,
        )
        return Supply(
            sessions=sessions,
            provider_id=provider.id,
            pool_id=pool.id,
            pool_slug=pool.slug,
            revision_id=revision.id,
            digest=revision.digest,
            model_slug=model.slug,
            offer_id=offer.id,
        )


class LinkMarket:
    """A marketplace on a port. Start and stop it as often as the test likes; the port stays."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        limits: LinkLimits | None = None,
        objects: Callable[[str], Objects] | None = None,
        keys: ModelKeys | None = None,
        refresh_s: float = 0.5,
        meetings: Meetings | None = None,
        **settings: Any,
    ) -> None:
        """`objects` opens the store of a marketplace at that URL; without it nodes are given no weights. With `meetings` it has siblings."""
        self.sessions = sessions
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._limits = limits
        self._refresh_s = refresh_s
        self._meetings = meetings
        self.siblings: Siblings | None = None
        # A node of a test says nothing by itself, and a busy machine reads the prices for seconds.
        self._settings = {"heartbeat_s": 0.2, "lease_s": 20.0, **settings}
        self.directory = Directory(sessions, refresh_s=refresh_s)
        self.objects = objects(self.url) if objects is not None else None
        if self.objects is not None:
            self._settings["weights"] = WeightsDesk(
                sessions=sessions, objects=self.objects, keys=keys or ModelKeys([])
            )
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{LINK_PATH}"

    async def start(self, *more_routes: Route) -> None:
        self.directory = Directory(self.sessions, refresh_s=self._refresh_s)
        if self._meetings is not None:
            self.siblings = Siblings(self.directory, self._meetings)
        self.endpoint = LinkEndpoint(
            self.sessions,
            self.directory,
            server_name=SERVER_NAME,
            limits=self._limits,
            links=self.siblings,
            **self._settings,
        )
        routes = [WebSocketRoute(LINK_PATH, self.endpoint), Route("/health", health)]
        app = Starlette(
            routes=[*routes, *more_routes, *(object_routes(self.objects) if self.objects is not None else ())]
        )
        config = uvicorn.Config(
            app,
            http=HttpServerProtocol,
            ws=LinkWebSocketProtocol,
            ws_max_size=FRAME_BYTES_MAX * 2,
            ws_per_message_deflate=False,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        await self.directory.start()
        if self.siblings is not None:
            await self.siblings.start(moved=self.endpoint.look_at_node)
        self._serving = asyncio.create_task(
            self._server._serve([socket.create_server(("127.0.0.1", self.port))])
        )
        await until(lambda: self._server is not None and self._server.started)

    async def stop(self) -> None:
        """Safe to call twice."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        if self.siblings is not None:
            await self.siblings.stop()
        await self.directory.stop()
        self._server = None


@contextlib.asynccontextmanager
async def link_market(sessions: Sessions, **settings: Any) -> AsyncIterator[LinkMarket]:
    market = LinkMarket(sessions, **settings)
    await market.start()
    try:
        yield market
    finally:
        await market.stop()


def introduce(elder: Meetings, younger: Meetings) -> None:
    """Hand out a connection between two processes, as their supervisor does."""
    ours, theirs = socket.socketpair()
    elder.add(Meeting(socket=ours, is_elder=True))
    younger.add(Meeting(socket=theirs, is_elder=False))


@contextlib.asynccontextmanager
async def sibling_markets(
    sessions: Sessions, count: int = 2, **settings: Any
) -> AsyncIterator[Sequence[LinkMarket]]:
    """Several that know each other, in one event loop, each with a port and a directory of its own."""
    async with contextlib.AsyncExitStack() as stack:
        markets: list[LinkMarket] = []
        known: list[Meetings] = []
        for _ in range(count):
            meetings = Meetings()
            for elder in known:
                introduce(elder, meetings)
            known.append(meetings)
            markets.append(
                await stack.enter_async_context(link_market(sessions, meetings=meetings, **settings))
            )
        yield markets


async def until(condition: Callable[[], object], *, timeout_s: float = 30.0, every_s: float = 0.005) -> None:
    """Return when `condition` holds; it is state of other tasks or processes, for which there is no event to await."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(every_s)


async def health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")
