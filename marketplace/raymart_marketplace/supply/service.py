"""Rules of supply: providers, pools, join tokens, offers, nodes. Functions flush; the edge commits."""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from raymart_core.ids import Prefix, new_id, show
from raymart_core.units import Unit
from raymart_marketplace.accounts.names import clean_name
from raymart_marketplace.catalog.models import ModelRevision, RevisionState
from raymart_marketplace.catalog.sharing import may_host
from raymart_marketplace.pricing.asks import write_asks, write_floors, write_windows
from raymart_marketplace.pricing.effective import Window
from raymart_marketplace.pricing.service import check_price
from raymart_marketplace.supply.enrolment import hash_token
from raymart_marketplace.supply.life_models import NodeEventKind, ProviderEventKind
from raymart_marketplace.supply.models import (
    JoinToken,
    Node,
    NodeRole,
    NodeState,
    Offer,
    OfferState,
    Pool,
    PoolKind,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.node_life import change
from raymart_marketplace.supply.placements import place_offers, unplace
from raymart_marketplace.supply.planning.choices import Choices, check_choices, hours_to_json
from raymart_marketplace.supply.provider_life import note

JOIN_TOKEN_PREFIX = "rmj_"
JOIN_TOKEN_TTL_S_MAX = 3_600
PAGE_MAX = 100
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_MAY_OFFER = (ProviderState.APPLIED, ProviderState.ACTIVE)


async def create_provider(
    session: AsyncSession,
    *,
    organization_id: UUID,
    slug: str,
    name: str,
    state: ProviderState = ProviderState.APPLIED,
) -> Provider:
    """Make the organization a provider. Raises: InvalidRequest, Conflict when it is one or the slug is taken."""
    statement = (
        insert(Provider)
        .values(
            id=new_id(),
            organization_id=organization_id,
            slug=_checked_slug(slug),
            name=clean_name(name, param="name"),
            state=state,
        )
        .on_conflict_do_nothing()
        .returning(Provider)
    )
    provider = (await session.scalars(statement)).one_or_none()
    if provider is None:
        raise Conflict(f"the organization is a provider already, or the slug {slug!r} is taken", param="slug")
    await note(session, provider, ProviderEventKind.APPLIED)
    return provider


async def create_pool(
    session: AsyncSession, *, slug: str, kind: PoolKind, region: str, provider_id: UUID | None = None
) -> Pool:
    """Make a pool; a provider pool has an owner, a house pool has none. Raises: InvalidRequest, Conflict."""
    if (kind is PoolKind.PROVIDER) != (provider_id is not None):
        raise InvalidRequest(
            f"a pool of kind {kind.value!r} {'needs' if provider_id is None else 'has no'} owner"
        )
    statement = (
        insert(Pool)
        .values(
            id=new_id(),
            slug=_checked_slug(slug),
            kind=kind,
            region=_checked_slug(region, param="region"),
            provider_id=provider_id,
        )
        .on_conflict_do_nothing(index_elements=[Pool.slug])
        .returning(Pool)
    )
    pool = (await session.scalars(statement)).one_or_none()
    if pool is None:
        raise Conflict(f"a pool with the slug {slug!r} exists; choose another", param="slug")
    return pool


async def create_join_token(
    session: AsyncSession,
    *,
    pool_id: UUID,
    provider_id: UUID | None,
    role: NodeRole,
    user_id: UUID | None,
    ttl_s: int = JOIN_TOKEN_TTL_S_MAX,
) -> tuple[JoinToken, str]:
    """A one-time token for one machine. The second value is the token itself: show it once, it is kept nowhere.

    `ttl_s` is 1 to 3,600 seconds, by the database's clock. Raises: InvalidRequest, NotFound, Forbidden when the pool
    is another provider's or the provider is suspended or closed.
    """
    if not 1 <= ttl_s <= JOIN_TOKEN_TTL_S_MAX:
        raise InvalidRequest(f"ttl_s={ttl_s} is outside 1 to {JOIN_TOKEN_TTL_S_MAX}", param="ttl_s")
    if role is NodeRole.NODE and provider_id is None:
        raise InvalidRequest("a node belongs to a provider; name it", param="provider_id")
    pool = await session.get(Pool, pool_id)
    if pool is None:
        raise NotFound(f"there is no pool {show(Prefix.POOL, pool_id)!r}", param="pool_id")
    if pool.kind is PoolKind.PROVIDER and provider_id != pool.provider_id:
        raise Forbidden(f"pool {pool.slug!r} is another provider's")
    if provider_id is not None:
        await provider_in_business(session, provider_id)
    text = JOIN_TOKEN_PREFIX + secrets.token_urlsafe(32)
    made = insert(JoinToken).values(
        id=new_id(),
        token_hash=hash_token(text),
        pool_id=pool_id,
        provider_id=provider_id,
        role=role,
        created_by=user_id,
        # now() is the transaction's start, hence never after created_at: the table's CHECK gives not a microsecond more.
        expires_at=func.now() + timedelta(seconds=ttl_s),
    )
    token = (await session.scalars(made.returning(JoinToken))).one()
    return token, text


async def open_offer(
    session: AsyncSession,
    *,
    provider_id: UUID,
    revision_id: UUID,
    ask_prompt_nano_usd: int | None,
    ask_completion_nano_usd: int | None,
    asks: Mapping[Unit, int | None] | None = None,
) -> Offer:
    """Offer the revision at these asks (nano-USD per token) and want it on the provider's nodes.

    None asks the rate card's price. `asks` are those of other units (nano-USD), and bind where they name a token's.
    Raises: InvalidRequest also for an ask above the cap, NotFound, Forbidden, Conflict when the revision is not
    published or offered already.
    """
    asks = {**_token_asks(ask_prompt_nano_usd, ask_completion_nano_usd), **(asks or {})}
    provider = await provider_in_business(session, provider_id)
    revision = await session.get(ModelRevision, revision_id)
    if revision is None or not await may_host(
        session, model_id=revision.model_id, organization_id=provider.organization_id
    ):
        raise NotFound(f"there is no revision {show(Prefix.REVISION, revision_id)!r}", param="revision_id")
    if revision.state is not RevisionState.PUBLISHED:
        raise Conflict(
            f"revision {revision.digest} is {revision.state.value}; only published ones are offered"
        )
    statement = (
        insert(Offer)
        .values(
            id=new_id(),
            provider_id=provider_id,
            revision_id=revision_id,
            state=OfferState.OPEN,
        )
        .on_conflict_do_nothing()
        .returning(Offer)
    )
    offer = (await session.scalars(statement)).one_or_none()
    if offer is None:
        raise Conflict(f"revision {revision.digest} is offered already; change that offer's asks instead")
    await write_asks(session, offer, asks)
    await place_offers(session, provider_id=provider_id)
    return offer


async def set_asks(
    session: AsyncSession,
    *,
    offer_id: UUID,
    ask_prompt_nano_usd: int | None,
    ask_completion_nano_usd: int | None,
) -> Offer:
    """Change the asks (nano-USD per token); requests already quoted keep their price. Raises: as `open_offer`."""
    asks = _token_asks(ask_prompt_nano_usd, ask_completion_nano_usd)
    return await set_unit_asks(session, offer_id=offer_id, asks=asks)


async def set_unit_asks(session: AsyncSession, *, offer_id: UUID, asks: Mapping[Unit, int | None]) -> Offer:
    """Change the asks of these units (nano-USD, None for the rate card's); requests already quoted keep their price.

    Raises: InvalidRequest for an ask out of range, below the floor or above the cap; NotFound, Conflict.
    """
    offer = await _unclosed_offer(session, offer_id)
    await write_asks(session, offer, asks)
    return offer


async def set_floors(session: AsyncSession, *, offer_id: UUID, floors: Mapping[Unit, int]) -> Offer:
    """Change the least that the offer sells these units at (nano-USD, 0 for no floor).

    Raises: InvalidRequest for a floor out of range, above the ask or above the cap; NotFound, Conflict.
    """
    offer = await _unclosed_offer(session, offer_id)
    await write_floors(session, offer, floors)
    return offer


async def set_windows(session: AsyncSession, *, offer_id: UUID, windows: Sequence[Window]) -> Offer:
    """Replace the hours in which the offer asks other prices; none removes them.

    Raises: InvalidRequest for hours that overlap, and as `set_unit_asks`; NotFound, Conflict.
    """
    offer = await _unclosed_offer(session, offer_id)
    await write_windows(session, offer, windows)
    return offer


async def set_choices(session: AsyncSession, *, offer_id: UUID, choices: Choices) -> Offer:
    """Replace what the provider chose of where and when the offer runs, and plan it anew.

    Raises: InvalidRequest also for machines that are not the provider's; NotFound, Conflict.
    """
    offer = await _unclosed_offer(session, offer_id)
    check_choices(choices)
    own = select(func.count()).where(Node.id.in_(choices.node_ids), Node.provider_id == offer.provider_id)
    if choices.node_ids and await session.scalar(own) != len(choices.node_ids):
        raise InvalidRequest("node_ids names a machine that is not the provider's", param="node_ids")
    offer.warmth, offer.idle_s = choices.warmth, choices.idle_s
    offer.replicas_max, offer.nodes_max, offer.gpus_max = (
        choices.replicas_max,
        choices.nodes_max,
        choices.gpus_max,
    )
    offer.hours, offer.node_ids = hours_to_json(choices.hours), sorted(choices.node_ids)
    await session.flush()
    await place_offers(session, provider_id=offer.provider_id)
    return offer


async def pause_offer(session: AsyncSession, *, offer_id: UUID) -> Offer:
    """Take the offer out of routing; its replicas stay loaded. A repeat is a no-op. Raises: NotFound, Conflict."""
    offer = await _unclosed_offer(session, offer_id)
    offer.state = OfferState.PAUSED
    await session.flush()
    return offer


async def resume_offer(session: AsyncSession, *, offer_id: UUID) -> Offer:
    """Let a paused offer be routed to again. A repeat is a no-op. Raises: NotFound, Conflict, Forbidden."""
    offer = await _unclosed_offer(session, offer_id)
    await provider_in_business(session, offer.provider_id)
    offer.state = OfferState.OPEN
    await session.flush()
    await place_offers(session, provider_id=offer.provider_id)
    return offer


async def close_offer(session: AsyncSession, *, offer_id: UUID) -> Offer:
    """End the offer and take its replicas away; another may be opened later. Raises: NotFound, Conflict."""
    offer = await _unclosed_offer(session, offer_id)
    offer.state = OfferState.CLOSED
    await session.flush()
    nodes = (await session.scalars(select(Node.id).where(Node.provider_id == offer.provider_id))).all()
    await unplace(session, node_ids=nodes, revision_id=offer.revision_id)
    return offer


async def offers_of(session: AsyncSession, provider_id: UUID) -> Sequence[Offer]:
    """The provider's open and paused offers, oldest first: at most one per revision."""
    found = await session.scalars(
        select(Offer)
        .where(Offer.provider_id == provider_id, Offer.state != OfferState.CLOSED)
        .order_by(Offer.id)
    )
    return found.all()


async def nodes_of(
    session: AsyncSession, provider_id: UUID, *, after: UUID | None = None, limit: int = PAGE_MAX
) -> Sequence[Node]:
    """A page of the provider's nodes, revoked ones too, by id; the page after the node `after`."""
    statement = (
        select(Node).where(Node.provider_id == provider_id).order_by(Node.id).limit(min(limit, PAGE_MAX))
    )
    if after is not None:
        statement = statement.where(Node.id > after)
    return (await session.scalars(statement)).all()


async def provider_of(session: AsyncSession, organization_id: UUID) -> Provider | None:
    """The provider that the organization is; None when it is none."""
    return await session.scalar(select(Provider).where(Provider.organization_id == organization_id))


async def provider_by_slug(session: AsyncSession, slug: str) -> Provider | None:
    """The provider with this slug."""
    return await session.scalar(select(Provider).where(Provider.slug == slug))


async def pool_by_slug(session: AsyncSession, slug: str) -> Pool | None:
    """The pool with this slug."""
    return await session.scalar(select(Pool).where(Pool.slug == slug))


async def revoke_node(session: AsyncSession, *, node_id: UUID, reason: str = "") -> Node:
    """End the node's key: it is refused at its next hello, and its placements go. A repeat changes nothing.

    Its name and its machine may enrol again. The link in being is closed by the caller. Raises: NotFound.
    """
    node = await session.get(Node, node_id, with_for_update={"key_share": True}, populate_existing=True)
    if node is None:
        raise NotFound(f"there is no node {show(Prefix.NODE, node_id)!r}", param="node_id")
    if node.state is NodeState.RETIRED:
        return node
    await change(session, node_id, NodeEventKind.RETIRED, reason=reason)
    node.revoked_at = func.clock_timestamp()
    await session.flush()
    await session.refresh(node)
    await unplace(session, node_ids=[node_id])
    return node


async def _unclosed_offer(session: AsyncSession, offer_id: UUID) -> Offer:
    """The offer, its row locked. Raises: NotFound, Conflict when it is closed."""
    offer = await session.get(Offer, offer_id, with_for_update={"key_share": True}, populate_existing=True)
    if offer is None:
        raise NotFound(f"there is no offer {show(Prefix.OFFER, offer_id)!r}", param="offer_id")
    if offer.state is OfferState.CLOSED:
        raise Conflict(f"offer {show(Prefix.OFFER, offer_id)} is closed; open a new one")
    return offer


async def provider_in_business(
    session: AsyncSession, provider_id: UUID, *, is_locked: bool = False
) -> Provider:
    """The provider, its row locked if asked. Raises: NotFound, Forbidden when it is suspended or closed."""
    lock = {"key_share": True} if is_locked else None
    provider = await session.get(Provider, provider_id, with_for_update=lock, populate_existing=True)
    if provider is None:
        raise NotFound(f"there is no provider {show(Prefix.PROVIDER, provider_id)!r}", param="provider_id")
    if provider.state not in _MAY_OFFER:
        raise Forbidden(f"provider {provider.slug!r} is {provider.state.value}; ask the marketplace")
    return provider


def _token_asks(prompt: int | None, completion: int | None) -> Mapping[Unit, int | None]:
    """Raises: InvalidRequest that names the argument of `set_asks` and `open_offer`."""
    asks = {
        Unit.TOKEN_PROMPT: (prompt, "ask_prompt_nano_usd"),
        Unit.TOKEN_COMPLETION: (completion, "ask_completion_nano_usd"),
    }
    for unit, (ask, param) in asks.items():
        if ask is not None:
            check_price(unit, ask, param=param)
    return {unit: ask for unit, (ask, _) in asks.items()}


def _checked_slug(text: str, *, param: str = "slug") -> str:
    """`text`. Raises: InvalidRequest when it is no slug."""
    if _SLUG.fullmatch(text) is None:
        raise InvalidRequest(f"{text[:80]!r} is no {param}; use 1 to 40 of a-z, 0-9 and '-'", param=param)
    return text
