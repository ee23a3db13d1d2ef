"""What the measured API has in its database: a customer with a key and money, and endpoints of as many providers."""

import asyncio
import json
from dataclasses import asdict, dataclass
from uuid import UUID

import raymart_graphql.without_extras  # noqa: F401 - first, as in production
from raymart_billing import ledger
from raymart_core.ids import new_id
from raymart_core.money import Money
from raymart_core.wire.link import Replica
from raymart_graphql.services import Services
from raymart_marketplace.accounts import service as accounts
from raymart_marketplace.accounts.models import OrganizationKind, Role, User
from raymart_marketplace.catalog.models import Modality, ModelRevision
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.db.session import Sessions, make_engine, make_sessions, session_scope
from raymart_marketplace.supply.enrolment import node_for_hello
from raymart_marketplace.supply.models import Node, NodeRole, NodeState, Pool, PoolKind, ProviderState
from raymart_marketplace.supply.service import create_pool, create_provider, open_offer, pool_by_slug
from raymart_marketplace.supply.upstream import Upstream

HOUSE = "house"
"""Only its nodes are reached without the link."""
CAPACITY = 64
_BALANCE = Money(10**15)
_CONTEXT_LENGTH = 4_096
_HARDWARE = {"hostname": "box", "cpu_model": "cpu", "cpu_count": 2, "memory_bytes": 2**40, "gpus": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What the customer asks with, and who serves it."""

    key: str
    model: str
    revision: str
    """The manifest's digest, which replicas say in their answers."""
    nodes: tuple[str, ...]

    def text(self) -> str:
        """As JSON, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Market":
        """From `text()`."""
        return cls(**json.loads(text))


def make_market(database_url: str, *, endpoints: int) -> Market:
    """Write it all into a migrated database."""
    return asyncio.run(_make_market(database_url, endpoints))


async def _make_market(database_url: str, endpoints: int) -> Market:
    engine = make_engine(database_url, pool_size=2)
    try:
        sessions = make_sessions(engine)
        key = await _customer(sessions)
        unique = new_id().hex[-12:]
        async with session_scope(sessions) as session:
            model = await ensure_model(
                session, slug=f"bench/model-{unique}", name="Model", description="", modality=Modality.CHAT,
                licence="apache-2.0",
            )  # fmt: skip
            revision = await publish_revision(
                session, model=model, engine="llama_cpp", source=f"bundled:{unique}.gguf", sha256=unique.ljust(64, "0"),
                quantization="q8_0", context_length=_CONTEXT_LENGTH,
            )  # fmt: skip
            pool = await pool_by_slug(session, HOUSE) or await create_pool(
                session, slug=HOUSE, kind=PoolKind.HOUSE, region="local"
            )
        nodes = [await _provider(sessions, pool, revision, number) for number in range(endpoints)]
        return Market(key=key, model=model.slug, revision=revision.digest, nodes=tuple(map(str, nodes)))
    finally:
        await engine.dispose()


async def _customer(sessions: Sessions) -> str:
    unique = new_id().hex[-12:]
    async with session_scope(sessions) as session:
        organization = await accounts.create_organization(
            session, name=f"Customer {unique}", kind=OrganizationKind.CUSTOMER
        )
        user = User(id=new_id(), email=f"{unique}@example.com", name="c", password_hash="-")
        session.add(user)
        await session.flush()
        await accounts.add_member(session, organization_id=organization.id, user_id=user.id, role=Role.OWNER)
        [project] = await accounts.projects(session, organization.id)
        _, key = await accounts.create_api_key(session, project_id=project.id, user_id=user.id, name="bench")
        await ledger.grant_credit(
            session, organization_id=organization.id, amount=_BALANCE, key=f"bench-{unique}", actor_id=None
        )
    return key


async def _provider(sessions: Sessions, pool: Pool, revision: ModelRevision, number: int) -> UUID:
    """A provider with a machine and an offer of its own, somewhat dearer than the one before; its node."""
    unique = new_id().hex[-12:]
    async with session_scope(sessions) as session:
        organization = await accounts.create_organization(
            session, name=f"Provider {unique}", kind=OrganizationKind.PROVIDER
        )
        provider = await create_provider(
            session, organization_id=organization.id, slug=f"prov-{unique}", name=f"Provider {unique}",
            state=ProviderState.ACTIVE,
        )  # fmt: skip
        node = Node(
            id=new_id(), pool_id=pool.id, provider_id=provider.id, role=NodeRole.NODE, name=f"node-{unique}",
            public_key=new_id().bytes + new_id().bytes, machine_id=unique, hardware=_HARDWARE, state=NodeState.READY,
        )  # fmt: skip
        session.add(node)
        await session.flush()
        await open_offer(
            session, provider_id=provider.id, revision_id=revision.id, ask_prompt_nano_usd=100 + number % 7,
            ask_completion_nano_usd=200 + number % 11,
        )  # fmt: skip
    return node.id


async def bring_on_line(services: Services, market: Market, *, address: str) -> None:
    """Put every node of `market` into routing with one replica, all at `address`. Raises: RuntimeError unless all are."""
    directory = services.directory
    for text in market.nodes:
        node_id = UUID(text)
        async with session_scope(services.sessions) as session:
            identity = await node_for_hello(session, node_id, NodeRole.NODE)
        link = _NoLink()
        directory.link_up(identity, link)
        replica = Replica(
            replica_id="r", revision=market.revision, model=market.model, engine="llama_cpp", capacity=CAPACITY,
            context_length=_CONTEXT_LENGTH, state="ready", address=address, secret="bench",
        )  # fmt: skip
        directory.announce(node_id, link, [replica])
        await directory.load(node_id)
    live = len(directory.live(market.model))
    if live != len(market.nodes):
        raise RuntimeError(f"{live} of {len(market.nodes)} endpoints are in routing")


class _NoLink:
    """The link of a node whose replicas are reached directly."""

    def upstream(self, replica_id: str) -> Upstream:
        """Raises: LookupError, always."""
        raise LookupError(f"replica {replica_id} has no link")
