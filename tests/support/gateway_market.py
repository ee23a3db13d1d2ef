"""A gateway with everything real around it but the providers' machines: PostgreSQL, billing, accounts, uvicorn, sockets.

Providers are scripted replicas; the directory is a few lines that implement the same port as the real one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette

from raymart_billing.connections import Pool
from raymart_billing.holds import GatewayLeases
from raymart_billing.posting import LedgerUsageSink
from raymart_billing.rating import UnitRater
from raymart_billing.spill import Spill
from raymart_core.ids import new_id
from raymart_core.ports import Prices
from raymart_marketplace.accounts.api_keys import make_key
from raymart_marketplace.accounts.authenticator import Authenticator
from raymart_marketplace.accounts.caller import Caller
from raymart_marketplace.accounts.models import ApiKey, Organization, OrganizationKind, Project, User
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.gateway.inference import Inference
from raymart_marketplace.gateway.limits import InferenceLimits
from raymart_marketplace.gateway.model_lookup import CatalogModels
from raymart_marketplace.gateway.routes import gateway_routes
from raymart_marketplace.oversight.live import LiveControls
from raymart_marketplace.routing.market import Market
from raymart_marketplace.routing.preference import Sort
from raymart_marketplace.supply.live import LiveEndpoint, Served
from support.books import Books
from support.scripted_replica import REVISION, SECRET, ScriptedReplica

PRICES = Prices(token_prompt=2, token_completion=5)
# None of them is to end a test's request by chance: a test that is about one of them sets it.
LIMITS = InferenceLimits(
    request_deadline_s=100.0,
    first_token_timeout_s=60.0,
    stall_timeout_s=60.0,
    attempts_max=3,
    hold_ttl_s=120.0,
)


class SmallLease:
    """Counts a request on one endpoint."""

    def __init__(self, directory: "SmallDirectory", endpoint_id: UUID, upstream: DirectUpstream) -> None:
        self._directory = directory
        self._endpoint_id = endpoint_id
        self.upstream = upstream

    def __enter__(self) -> "SmallLease":
        self._directory.running[self._endpoint_id] += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._directory.running[self._endpoint_id] -= 1


class SmallDirectory:
    """Implements supply.live.EndpointDirectory for a handful of endpoints that tests add themselves."""

    def __init__(self) -> None:
        self.endpoints: dict[UUID, LiveEndpoint] = {}
        self.upstreams: dict[UUID, DirectUpstream] = {}
        self.running: dict[UUID, int] = {}
        self.failures: list[tuple[UUID, str]] = []
        self.successes: list[UUID] = []
        self.served: list[Served] = []

    def add(self, endpoint: LiveEndpoint, upstream: DirectUpstream) -> LiveEndpoint:
        self.endpoints[endpoint.id] = endpoint
        self.upstreams[endpoint.id] = upstream
        self.running[endpoint.id] = 0
        return endpoint

    def live(self, model_slug: str) -> Sequence[LiveEndpoint]:
        return [endpoint for endpoint in self.all_live() if endpoint.model_slug == model_slug]

    def all_live(self) -> Sequence[LiveEndpoint]:
        return [
            msgspec.structs.replace(endpoint, running=self.running[endpoint.id])
            for endpoint in self.endpoints.values()
        ]

    def market(self, model_slug: str) -> Market | None:
        return Market(live) if (live := self.live(model_slug)) else None

    def acquire(self, endpoint_id: UUID) -> SmallLease | None:
        if endpoint_id not in self.endpoints:
            return None
        return SmallLease(self, endpoint_id, self.upstreams[endpoint_id])

    def report_failure(self, endpoint_id: UUID, *, reason: str, began_at: float) -> None:
        self.failures.append((endpoint_id, reason))

    def report_success(self, endpoint_id: UUID, served: Served) -> None:
        self.successes.append(endpoint_id)
        self.served.append(served)


class GatewayMarket:
    """One customer with a key, a model of its own, and the gateway's HTTP surface."""

    def __init__(
        self,
        sessions: Sessions,
        pool: Pool,
        *,
        limits: InferenceLimits = LIMITS,
        spill: Spill | None = None,
        modality: Modality = Modality.CHAT,
        model_owner: UUID | None = None,
    ) -> None:
        self.modality = modality
        self.model_owner = model_owner
        self.sessions = sessions
        self.pool = pool
        self.limits = limits
        self.books = Books(pool)
        self.directory = SmallDirectory()
        self.slug = f"test/model-{new_id().hex[-8:]}"
        self.replicas: list[ScriptedReplica] = []
        self.leases = GatewayLeases(pool, pool.conninfo)
        self.hold_gate = self.leases.gate
        self.usage_sink = LedgerUsageSink(
            pool,
            record_timeout_s=10.0,
            gateway_id=self.leases.gateway_id,
            spill=spill,
            settlements=self.leases.settlements,
        )
        self.rater = UnitRater()
        tokens = AccessTokens(b"s" * 32, issuer="test", audience="test", ttl_s=900)
        self.authenticator = Authenticator(sessions, tokens)
        self.stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        await self._seed()
        await self.leases.start()
        self.stack.push_async_callback(self.leases.stop)
        await self.usage_sink.start()
        self.stack.push_async_callback(self.usage_sink.stop)
        self.models = CatalogModels(self.sessions)
        self.inference = self.make_inference()
        self.client = await self.serve(self.inference)

    def make_inference(self, **changes: object) -> Inference:
        parts = {
            "directory": self.directory, "models": self.models, "hold_gate": self.hold_gate,
            "usage_sink": self.usage_sink, "rater": self.rater, "limits": self.limits, "admission": LiveControls(self.sessions),
            "sort": Sort.PRICE,  # Most tests say by a price who is asked first.
        }  # fmt: skip
        inference = Inference(**{**parts, **changes})
        self.stack.push_async_callback(lambda: inference.drain(timeout_s=30))
        return inference

    async def serve(self, inference: Inference, *, body_bytes_max: int = 100_000) -> httpx.AsyncClient:
        """Serve `inference` by a real uvicorn; a client with the customer's key."""
        app = Starlette(
            routes=gateway_routes(
                inference=inference, authenticator=self.authenticator, directory=self.directory, models=self.models,
                body_bytes_max=body_bytes_max,
            )
        )  # fmt: skip
        url = await self.stack.enter_async_context(serving(app))
        return await self.stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)
        )

    async def add_endpoint(
        self,
        replica: ScriptedReplica | None = None,
        *,
        provider: str | None = None,
        secret: str = SECRET,
        **changes: object,
    ) -> ScriptedReplica:
        """Put an endpoint into routing; its replica answers honestly unless scripted. A real one has a `secret` of its own."""
        if replica is None:
            replica = await self.stack.enter_async_context(ScriptedReplica())
        upstream = DirectUpstream(replica.address, secret)
        self.stack.callback(upstream.close)
        number = len(self.replicas)
        endpoint = LiveEndpoint(
            id=new_id(), node_id=new_id(), node_name=f"node-{number}", provider_id=self.books.provider_id,
            provider_slug=provider or f"provider-{number}", offer_id=new_id(), revision_id=new_id(),
            revision_digest=REVISION, model_slug=self.slug, modality=self.modality, engine="scripted", quantization="q8_0", region="here",
            context_length=1024, prices=PRICES, fee_basis_points=1_000, capacity=1000, running=0, quarantined=False,
        )  # fmt: skip
        self.directory.add(msgspec.structs.replace(endpoint, **changes), upstream)
        self.replicas.append(replica)
        return replica

    def body(self, **changes: object) -> dict[str, object]:
        return {
            "model": self.slug,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 4,
            **changes,
        }

    async def chat(self, client: httpx.AsyncClient | None = None, **changes: object) -> httpx.Response:
        return await (client or self.client).post("/v1/chat/completions", json=self.body(**changes))

    async def settle(self) -> None:
        """Wait until what was recorded is in the ledger, and what was leased beyond it is given back."""
        await self.inference.drain(timeout_s=30)
        async with asyncio.timeout(30):
            while await self.unposted():
                await asyncio.sleep(0.01)
        await self.leases.give_back()

    async def unposted(self) -> int:
        return await self.books.value(
            "select count(*) from usage_record where organization_id = %s and posted_at is null",
            self.books.organization_id,
        )

    async def balance(self) -> tuple[int, int]:
        """(posted, pending) of the customer, nano-USD."""
        columns = await self.books.columns("customer_balance")
        return columns.balance, columns.debits_pending

    async def wait_for_no_hold(self) -> None:
        async with asyncio.timeout(30):
            while (await self.balance())[1]:
                await self.leases.give_back()
                await asyncio.sleep(0.01)

    async def requests(self) -> list[tuple]:
        return await self.books.fetch(
            "select id, state, finish_reason, error_code from request where organization_id = %s order by id",
            self.books.organization_id,
        )

    async def usage(self) -> list[tuple]:
        return await self.books.fetch(
            "select tokens_prompt, tokens_completion, customer_nano_usd from usage_record"
            " where organization_id = %s order by id",
            self.books.organization_id,
        )

    async def attempts(self) -> list[tuple]:
        return await self.books.fetch(
            "select a.outcome, a.fault, a.reason, a.tokens_delivered from attempt a join request r"
            " on r.id = a.request_id where r.organization_id = %s order by r.id, a.position",
            self.books.organization_id,
        )

    @property
    def caller(self) -> Caller:
        return Caller(
            organization_id=self.books.organization_id,
            project_id=self.project_id,
            api_key_id=self.key_id,
            user_id=None,
        )

    async def _seed(self) -> None:
        made = make_key()
        self.key, self.key_id, self.project_id = made.text, new_id(), new_id()
        user_id, model_id = new_id(), new_id()
        async with session_scope(self.sessions) as session:
            session.add(User(id=user_id, email=f"{user_id.hex}@example.test", name="t", password_hash="-"))
            session.add(
                Organization(
                    id=self.books.organization_id,
                    slug=f"o-{user_id.hex}",
                    name="t",
                    kind=OrganizationKind.CUSTOMER,
                )
            )
            await session.flush()
            session.add(
                Project(id=self.project_id, organization_id=self.books.organization_id, slug="p", name="p")
            )
            session.add(
                Model(
                    id=model_id,
                    slug=self.slug,
                    name="Test",
                    description="",
                    modality=self.modality,
                    licence="x",
                    organization_id=self.model_owner,
                    visibility="private" if self.model_owner else "public",
                )
            )
            await session.flush()
            session.add(
                ModelRevision(
                    model_id=model_id, digest=f"sha256:{model_id.hex * 2}", engine="scripted", quantization="q8_0",
                    source="bundled:x", sha256="0" * 64, context_length=1024, capabilities=[],
                    state=RevisionState.PUBLISHED,
                )
            )  # fmt: skip
            session.add(
                ApiKey(
                    id=self.key_id, project_id=self.project_id, name="t", prefix=made.prefix, key_hash=made.key_hash,
                    created_by=user_id,
                )
            )  # fmt: skip


@contextlib.asynccontextmanager
async def gateway_market(
    sessions: Sessions,
    pool: Pool,
    *,
    limits: InferenceLimits = LIMITS,
    modality: Modality = Modality.CHAT,
    model_owner: UUID | None = None,
) -> AsyncIterator[GatewayMarket]:
    market = GatewayMarket(sessions, pool, limits=limits, modality=modality, model_owner=model_owner)
    async with market.stack:
        await market.open()
        yield market


@contextlib.asynccontextmanager
async def serving(app: object, **settings: Any) -> AsyncIterator[str]:
    """`app` behind a real uvicorn on a port of the system's choice, in this event loop; `settings` are uvicorn's."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=HttpServerProtocol,
        log_config=None,
        lifespan="off",
        access_log=False,
        **settings,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    ticking = asyncio.create_task(server.main_loop())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown()
