"""Small markets to test in: fresh people, providers, pools and revisions, so that tests share a database in peace."""

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.wire import link
from raymart_marketplace.accounts.models import OrganizationKind, User
from raymart_marketplace.accounts.service import create_organization, memberships, projects, sign_up
from raymart_marketplace.catalog.models import Modality, Model, ModelRevision, RevisionState
from raymart_marketplace.catalog.registry_models import ModelAlias
from raymart_marketplace.catalog.service import ensure_model, publish_revision
from raymart_marketplace.supply.enrolment import enrol
from raymart_marketplace.supply.models import (
    Node,
    NodeRole,
    NodeState,
    Pool,
    PoolKind,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.service import create_join_token, create_pool, create_provider

PASSWORD = "correct horse battery"


def unique(word: str) -> str:
    """A slug that no other test has."""
    return f"{word}-{secrets.token_hex(6)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A person with an organization and its default project."""

    user: User
    email: str
    organization_id: UUID
    project_id: UUID


async def make_customer(
    session: AsyncSession, *, kind: OrganizationKind = OrganizationKind.CUSTOMER
) -> Customer:
    """Signed up with `PASSWORD`."""
    email = f"{unique('person')}@example.com"
    user = await sign_up(
        session,
        email=email,
        password=PASSWORD,
        name="A person",
        organization_name="An organization",
        kind=kind,
    )
    [(organization, _)] = await memberships(session, user.id)
    [project] = await projects(session, organization.id)
    return Customer(user=user, email=email, organization_id=organization.id, project_id=project.id)


async def make_provider(session: AsyncSession, *, state: ProviderState = ProviderState.ACTIVE) -> Provider:
    """With an organization of its own."""
    organization = await create_organization(session, name="A provider", kind=OrganizationKind.PROVIDER)
    return await create_provider(
        session, organization_id=organization.id, slug=unique("provider"), name="A provider", state=state
    )


async def make_pool(session: AsyncSession, *, owner: Provider | None = None) -> Pool:
    """A house pool, or the pool of `owner`."""
    kind = PoolKind.HOUSE if owner is None else PoolKind.PROVIDER
    return await create_pool(
        session, slug=unique("pool"), kind=kind, region="local", provider_id=owner.id if owner else None
    )


async def make_revision(
    session: AsyncSession, *, model: Model | None = None, quantization: str = "q8_0"
) -> ModelRevision:
    """Published, of a new model unless one is given."""
    made = model or await ensure_model(
        session,
        slug=f"test/{unique('model')}",
        name="A model",
        description="",
        modality=Modality.CHAT,
        licence="Apache-2.0",
    )
    return await publish_revision(
        session,
        model=made,
        engine="llama_cpp",
        source="bundled:demo-llm.gguf",
        sha256=hashlib.sha256(secrets.token_bytes(8)).hexdigest(),
        quantization=quantization,
        context_length=1_024,
    )


async def put_in_state(session: AsyncSession, revision: ModelRevision, state: RevisionState) -> None:
    """Let the revision stand there, whatever the rules say; nothing names it any more."""
    await session.execute(delete(ModelAlias).where(ModelAlias.revision_id == revision.id))
    await session.execute(update(ModelRevision).where(ModelRevision.id == revision.id).values(state=state))
    await session.refresh(await session.merge(revision))


def enrol_message(
    token: str, *, name: str | None = None, machine_id: str | None = None, public_key: bytes | None = None
) -> link.Enrol:
    """What a fresh machine sends."""
    hardware = link.Hardware(
        hostname="host",
        cpu_model="cpu",
        cpu_count=2,
        memory_bytes=2**33,
        machine_id=unique("machine") if machine_id is None else machine_id,
    )
    return link.Enrol(
        version=link.LINK_VERSION,
        join_token=token,
        name=name or unique("node"),
        public_key=public_key or secrets.token_bytes(32),
        hardware=hardware,
    )


async def make_node(
    session: AsyncSession, *, pool: Pool, provider: Provider | None, role: NodeRole = NodeRole.NODE
) -> Node:
    """Enrolled with a token of its own, and ready."""
    _, token = await create_join_token(
        session, pool_id=pool.id, provider_id=provider.id if provider else None, role=role, user_id=None
    )
    node = await enrol(session, enrol_message(token))
    node.state = NodeState.READY
    await session.flush()
    return node
