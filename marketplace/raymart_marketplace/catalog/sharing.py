"""Private models: who may see, call and serve them. Takes a session, flushes, never commits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.catalog.models import Model, Visibility
from raymart_marketplace.catalog.registry_models import Access, ModelShare
from raymart_marketplace.db.tenancy import Confinement

SHARES_MAX = 1_000
"""Organizations that one model is shared with."""


def hosted_by(organization_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """Condition on `model`: that organization's machines may serve it."""
    shared = exists().where(
        ModelShare.model_id == Model.id,
        ModelShare.organization_id == organization_id,
        ModelShare.access == Access.HOST,
        ModelShare.ended_at.is_(None),
    )
    return or_(Model.visibility == Visibility.PUBLIC, Model.organization_id == organization_id, shared)


def seen_by(viewer: Confinement | None) -> ColumnElement[bool]:
    """Condition on `model`: who reads with these rights may know of it. None is who reads everything."""
    if viewer is None or viewer.sees_market:
        return true()
    shared = exists().where(
        ModelShare.model_id == Model.id,
        ModelShare.organization_id.in_(viewer.organizations),
        ModelShare.ended_at.is_(None),
    )
    return or_(Model.visibility == Visibility.PUBLIC, Model.organization_id.in_(viewer.organizations), shared)


async def audiences(session: AsyncSession, model_ids: Collection[UUID]) -> Mapping[UUID, frozenset[UUID]]:
    """Of those of the models that are private, the organizations that may use them."""
    shared = select(ModelShare.organization_id).where(
        ModelShare.model_id == Model.id, ModelShare.ended_at.is_(None)
    )
    private = select(
        Model.id, Model.organization_id, func.array(shared.scalar_subquery()).label("shared")
    ).where(Model.id.in_(model_ids), Model.visibility == Visibility.PRIVATE)
    return {row.id: frozenset({row.organization_id, *row.shared}) for row in await session.execute(private)}


async def may_host(session: AsyncSession, *, model_id: UUID, organization_id: UUID) -> bool:
    """Whether the organization's machines may serve the model, and so get the keys of its files."""
    model = await session.get(Model, model_id)
    if model is None:
        return False
    if model.visibility is Visibility.PUBLIC or model.organization_id == organization_id:
        return True
    share = await session.get(ModelShare, (model_id, organization_id), populate_existing=True)
    return share is not None and share.ended_at is None and share.access is Access.HOST


async def share_model(
    session: AsyncSession, *, model: Model, organization_id: UUID, access: Access, actor_id: UUID | None
) -> ModelShare:
    """Let the organization use, or serve as well, the private model. A repeat changes `access`, and revives a share.

    Raises: InvalidRequest for a public model or its own organization, NotFound, Conflict for more than `SHARES_MAX`.
    """
    if model.visibility is Visibility.PUBLIC:
        raise InvalidRequest(f"{model.slug} is public: everybody has it already", param="model_id")
    assert model.organization_id is not None, "a private model has an owner"
    if organization_id == model.organization_id:
        raise InvalidRequest(f"{model.slug} is this organization's own", param="organization_id")
    if len(await shares(session, model.id)) >= SHARES_MAX:
        raise Conflict(f"{model.slug} is shared with {SHARES_MAX} organizations, the most there may be")
    values: dict[str, Any] = {"access": access, "ended_at": None, "created_by": actor_id}
    known = select(Organization.id).where(Organization.id == organization_id)
    if await session.scalar(known) is None:
        raise NotFound(
            f"there is no organization {show(Prefix.ORGANIZATION, organization_id)!r}",
            param="organization_id",
        )
    made = insert(ModelShare).values(
        model_id=model.id, organization_id=organization_id, owner_id=model.organization_id, **values
    )
    statement = made.on_conflict_do_update(
        index_elements=[ModelShare.model_id, ModelShare.organization_id], set_=values
    ).returning(ModelShare)
    return (await session.scalars(statement, execution_options={"populate_existing": True})).one()


async def end_share(session: AsyncSession, *, model_id: UUID, organization_id: UUID) -> None:
    """Let it neither call nor serve the model any more. A repeat changes nothing. Raises: NotFound.

    Who served it has had its files: what they opened they may have kept.
    """
    ended = (
        update(ModelShare)
        .where(ModelShare.model_id == model_id, ModelShare.organization_id == organization_id)
        .values(ended_at=func.coalesce(ModelShare.ended_at, func.clock_timestamp()))
        .returning(ModelShare.model_id)
        .execution_options(synchronize_session=False)
    )
    if await session.scalar(ended) is None:
        raise NotFound("the model is not shared with this organization", param="organization_id")


async def shares(session: AsyncSession, model_id: UUID) -> Sequence[ModelShare]:
    """With whom the model is shared at this moment."""
    found = select(ModelShare).where(ModelShare.model_id == model_id, ModelShare.ended_at.is_(None))
    return (
        await session.scalars(
            found.order_by(ModelShare.organization_id).execution_options(populate_existing=True)
        )
    ).all()
