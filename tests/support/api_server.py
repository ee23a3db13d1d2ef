"""The whole control plane on a port of this process: real uvicorn, real Postgres, and a market of a test's own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import func

from raymart_billing import ledger
from raymart_core.clock import now
from raymart_core.ids import Prefix, new_id, show
from raymart_core.money import Money
from raymart_core.units import Fault, FinishReason, Unit
from raymart_core.wire.link import Replica
from raymart_graphql.app import create_app
from raymart_graphql.services import Services
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import OrganizationKind, Project, Role, User
from raymart_marketplace.accounts.passwords import hash_password
from raymart_marketplace.accounts.permissions import TABLE
from raymart_marketplace.catalog.models import Modality
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.gateway.http_client import DirectUpstream
from raymart_marketplace.gateway.http_server import HttpServerProtocol
from raymart_marketplace.metering.models import (
    Attempt,
    AttemptOutcome,
    Request,
    RequestState,
    Surface,
    UsageRecord,
)
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.supply.enrolment import node_for_hello
from raymart_marketplace.supply.link.websocket import LinkWebSocketProtocol
from raymart_marketplace.supply.models import Node, NodeRole, NodeState, PoolKind, ProviderState
from raymart_marketplace.supply.service import create_pool, create_provider, open_offer
from support.asked_for import MarksRequests
from support.link_market import until
from support.scripted_replica import SECRET, ScriptedReplica

PASSWORD = "correct horse battery staple"
ASK_PROMPT, ASK_COMPLETION = 100, 200
ASK_STEP = 1_000_000
"""Of a megapixel-step: a pixel-step costs one nano-USD."""


@cache
def password_hash() -> str:
    """argon2 is slow on purpose: one hash serves every user of every test."""
    return hash_password(PASSWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an access token."""

    user_id: UUID
    email: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An organization, its default project, and a person for each role."""

    organization_id: UUID
    project_id: UUID
    people: dict[Role, Person]

    @property
    def id(self) -> str:
        return show(Prefix.ORGANIZATION, self.organization_id)

    @property
    def project(self) -> str:
        return show(Prefix.PROJECT, self.project_id)

    @property
    def owner(self) -> Person:
        return self.people[Role.OWNER]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """A provider with a pool, a machine, a model of its own and an open offer."""

    tenant: Tenant
    provider_id: UUID
    provider_slug: str
    pool_id: UUID
    node_id: UUID
    model_id: UUID
    model_slug: str
    revision_id: UUID
    digest: str
    offer_id: UUID

    @property
    def id(self) -> str:
        return show(Prefix.PROVIDER, self.provider_id)


@dataclass(slots=True)
class Answer:
    """A GraphQL response."""

    response: httpx.Response
    body: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.body = self.response.json()

    @property
    def data(self) -> dict[str, Any]:
        assert "errors" not in self.body, self.body["errors"]
        return self.body["data"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self.body.get("errors", [])

    @property
    def code(self) -> str:
        assert len(self.errors) == 1, self.body
        return self.errors[0]["extensions"]["code"]


class Api:
    """A running control plane and shorthand to talk to it."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, port: int) -> None:
        self.app = app
        self.services: Services = app.state.services
        self.client = client
        self.port = port
        self._links: dict[UUID, _Link] = {}

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/graphql"

    async def __call__(
        self,
        query: str,
        as_: Person | str | None = None,
        *,
        headers: dict[str, str] | None = None,
        **variables: Any,
    ) -> Answer:
        """POST an operation as a person, or with a bearer credential, or as nobody."""
        credential = as_.token if isinstance(as_, Person) else as_
        sent = {"authorization": f"Bearer {credential}"} if credential else {}
        response = await self.client.post(
            "/graphql", json={"query": query, "variables": variables}, headers=sent | (headers or {})
        )
        return Answer(response)

    async def tenant(self, kind: OrganizationKind = OrganizationKind.CUSTOMER) -> Tenant:
        """A fresh organization with one person for each role that its kind offers."""
        async with session_scope(self.services.sessions) as session:
            unique = new_id().hex[-12:]
            if kind is OrganizationKind.PLATFORM:
                organization = await accounts.platform_organization(session)
                project_id = new_id()
                session.add(
                    Project(
                        id=project_id, organization_id=organization.id, slug=f"p-{unique}", name="Project"
                    )
                )
            else:
                organization = await accounts.create_organization(session, name=f"Org {unique}", kind=kind)
                project_id = (await accounts.projects(session, organization.id))[0].id
            people = {}
            for role in TABLE[kind]:
                user = User(
                    id=new_id(),
                    email=f"{role.value}-{unique}@example.com",
                    name=role.value,
                    password_hash=password_hash(),
                    email_verified_at=now(),
                )
                session.add(user)
                await session.flush()
                await accounts.add_member(
                    session, organization_id=organization.id, user_id=user.id, role=role
                )
                people[role] = Person(
                    user_id=user.id, email=user.email, token=self.services.tokens.issue(user.id)
                )
        return Tenant(organization_id=organization.id, project_id=project_id, people=people)

    async def admin(self) -> Person:
        """An owner of the platform's organization."""
        return (await self.tenant(OrganizationKind.PLATFORM)).owner

    async def api_key(self, tenant: Tenant) -> tuple[UUID, str]:
        """A key of the tenant's project."""
        async with session_scope(self.services.sessions) as session:
            key, secret = await accounts.create_api_key(
                session, project_id=tenant.project_id, user_id=tenant.owner.user_id, name="key"
            )
        return key.id, secret

    async def credit(self, tenant: Tenant, nano_usd: int = 10**9) -> None:
        """Money to spend."""
        async with session_scope(self.services.sessions) as session:
            await ledger.grant_credit(
                session,
                organization_id=tenant.organization_id,
                amount=Money(nano_usd),
                key=f"test-{new_id().hex}",
                actor_id=None,
            )

    async def seller(self, *, modality: Modality = Modality.CHAT) -> Seller:
        """A provider that could serve a model of its own; see `serve`."""
        tenant = await self.tenant(OrganizationKind.PROVIDER)
        unique = new_id().hex[-12:]
        async with session_scope(self.services.sessions) as session:
            provider = await create_provider(
                session,
                organization_id=tenant.organization_id,
                slug=f"prov-{unique}",
                name=f"Provider {unique}",
                state=ProviderState.ACTIVE,
            )
            pool = await create_pool(
                session,
                slug=f"pool-{unique}",
                kind=PoolKind.PROVIDER,
                region="local",
                provider_id=provider.id,
            )
            node = Node(
                id=new_id(),
                pool_id=pool.id,
                provider_id=provider.id,
                role=NodeRole.NODE,
                name=f"node-{unique}",
                public_key=(new_id().bytes + new_id().bytes),
                machine_id=unique,
                hardware={
                    "hostname": "box",
                    "cpu_model": "cpu",
                    "cpu_count": 2,
                    "memory_bytes": 2**40,
                    "gpus": [],
                },
                state=NodeState.READY,
            )
            session.add(node)
            model = await ensure_model(
                session,
                slug=f"test/model-{unique}",
                name="Model",
                description="A model",
                modality=modality,
                licence="apache-2.0",
            )
            revision = await publish_revision(
                session,
                model=model,
                engine="llama_cpp",
                source=f"bundled:{unique}.gguf",
                sha256=unique.ljust(64, "0"),
                quantization="q8_0",
                context_length=1024,
            )
            offer = await open_offer(
                session,
                provider_id=provider.id,
                revision_id=revision.id,
                ask_prompt_nano_usd=ASK_PROMPT,
                ask_completion_nano_usd=ASK_COMPLETION,
                asks={Unit.IMAGE_MEGAPIXEL_STEP: ASK_STEP} if modality is Modality.IMAGE else {},
            )
        return Seller(
            tenant=tenant,
            provider_id=provider.id,
            provider_slug=provider.slug,
            pool_id=pool.id,
            node_id=node.id,
            model_id=model.id,
            model_slug=model.slug,
            revision_id=revision.id,
            digest=revision.digest,
            offer_id=offer.id,
        )

    async def serve(self, seller: Seller, replica: ScriptedReplica, *, capacity: int = 4) -> None:
        """Bring the seller's machine on line with one replica."""
        directory, link = self.services.directory, _Link(replica.address)
        async with session_scope(self.services.sessions) as session:
            identity = await node_for_hello(session, seller.node_id, NodeRole.NODE)
        self._links[seller.node_id] = link
        directory.link_up(identity, link)
        announced = Replica(
            replica_id="r1",
            revision=seller.digest,
            model=seller.model_slug,
            engine="llama_cpp",
            capacity=capacity,
            context_length=1024,
            state="ready",
        )
        directory.announce(seller.node_id, link, [announced])
        await directory.load(seller.node_id)

    def retire(self, seller: Seller) -> None:
        """Take the seller's machine off line."""
        self.services.directory.link_down(seller.node_id, self._links.pop(seller.node_id))

    async def use(
        self, tenant: Tenant, seller: Seller, count: int, *, tokens: int = 10, broke: str = ""
    ) -> Sequence[UUID]:
        """Write `count` finished requests straight into the tables; returns their ids, oldest first.

        With `broke` the provider failed in mid-stream, for that reason.
        """
        ids = [new_id() for _ in range(count)]
        amount = 3 * ASK_PROMPT + tokens * ASK_COMPLETION
        fee = amount // 10
        endpoint_id = new_id()
        async with session_scope(self.services.sessions) as session:
            for request_id in ids:
                session.add_all(
                    [
                        Request(
                            id=request_id,
                            organization_id=tenant.organization_id,
                            project_id=tenant.project_id,
                            api_key_id=None,
                            user_id=tenant.owner.user_id,
                            surface=Surface.REST,
                            model_asked=seller.model_slug,
                            model_served=seller.model_slug,
                            state=RequestState.FAILED if broke else RequestState.COMPLETED,
                            finish_reason=FinishReason.ERROR if broke else FinishReason.STOP,
                            error_code="upstream_failed" if broke else None,
                            streamed=False,
                            first_token_ms=5,
                            duration_ms=50,
                        ),
                        Attempt(
                            request_id=request_id,
                            position=0,
                            endpoint_id=endpoint_id,
                            provider_id=seller.provider_id,
                            node_id=seller.node_id,
                            outcome=AttemptOutcome.FAILED if broke else AttemptOutcome.DELIVERED,
                            fault=Fault.PROVIDER if broke else Fault.NONE,
                            reason=broke,
                            tokens_delivered=tokens,
                            first_token_ms=5,
                            duration_ms=50,
                        ),
                        UsageRecord(
                            id=request_id,
                            organization_id=tenant.organization_id,
                            project_id=tenant.project_id,
                            api_key_id=None,
                            provider_id=seller.provider_id,
                            endpoint_id=endpoint_id,
                            offer_id=seller.offer_id,
                            revision_id=seller.revision_id,
                            tokens_prompt=3,
                            tokens_completion=tokens,
                            price_prompt_nano_usd=ASK_PROMPT,
                            price_completion_nano_usd=ASK_COMPLETION,
                            customer_nano_usd=amount,
                            provider_nano_usd=amount - fee,
                            fee_nano_usd=fee,
                            exact=True,
                            # The poster of other tests must leave these rows alone.
                            posted_at=func.now(),
                        ),
                    ]
                )
        return ids


class _Link:
    """A link that leads straight to one scripted replica."""

    def __init__(self, address: str) -> None:
        self._upstream = DirectUpstream(address, SECRET)

    def upstream(self, replica_id: str) -> DirectUpstream:
        return self._upstream


def control_settings(database_url: str, **changes: Any) -> ControlSettings:
    """Settings of a test's API."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "token_secret": "7f" * 32,
        "development": True,
        "require_second_factor": False,
        # All tests share an hour and an address.
        "graphql_points_per_hour": 10**9,
        "graphql_points_per_hour_address": 10**9,
        "benchmarks": False,  # Nodes of tests are scripted; the benchmark has tests of its own.
        "lease_idle_s": 0.3,  # What no request needs is back in the balance soon.
        "first_token_timeout_s": 60.0,
        "stall_timeout_s": 60.0,
    }
    return ControlSettings(**(values | changes))


@contextlib.asynccontextmanager
async def api_server(
    settings: ControlSettings, *, send_buffer_bytes: int | None = None
) -> AsyncIterator[Api]:
    """Serve the app of `settings` until the block ends."""
    app = create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        MarksRequests(app),
        http=HttpServerProtocol,
        ws=LinkWebSocketProtocol,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,  # As in production: a query string may hold an operation.
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:
        await until(lambda: server.started or serving.done())
        if serving.done():
            serving.result()
            raise AssertionError("the API did not start")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Api(app, client, port)
    finally:
        server.should_exit = True
        await serving
        listener.close()
