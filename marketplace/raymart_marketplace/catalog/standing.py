"""Which revision of a model is served to requests that name none, and what the others are to them.

An alias governs: `stable` where the model has one, else `latest`. It says nothing about revisions in another number
format than the one it names: those are sold beside it, as long as they are published.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_marketplace.supply.live import Standing

# A revision was replaced when the alias that governed named it once, or when it was published before any alias did.
_STANDINGS = text("""
    with governing as (
        select alias.model_id, alias.revision_id, named.quantization
        from model_alias alias join model_revision named on named.id = alias.revision_id
        where alias.name = 'stable'
           or alias.name = 'latest' and not exists (
               select from model_alias stable where stable.model_id = alias.model_id and stable.name = 'stable')
    )
    select revision.id, governing.revision_id as current_id,
        array(select alias.name from model_alias alias where alias.revision_id = revision.id order by 1) as aliases,
        exists (
            select from model_alias_change change
            where change.model_id = revision.model_id and change.after_id = revision.id
              and (change.name = 'stable' or change.name = 'latest' and not exists (
                  select from model_alias_change earlier
                  where earlier.model_id = change.model_id and earlier.name = 'stable' and earlier.id < change.id))
        ) or not exists (
            select from model_alias_change change
            where change.model_id = revision.model_id and change.created_at < revision.published_at
        ) as governed_once
    from model_revision revision
    left join governing on governing.model_id = revision.model_id
        and governing.quantization = revision.quantization
    where revision.id = any(:revision_ids)
""").bindparams(bindparam("revision_ids", type_=ARRAY(Uuid)))


class RevisionStanding(NamedTuple):
    """One revision, as it stands to those who name none."""

    standing: Standing
    current_id: UUID | None
    """What the governing alias names in the revision's number format; None where none governs that."""
    aliases: tuple[str, ...]


async def revision_standings(
    session: AsyncSession, revision_ids: Collection[UUID]
) -> Mapping[UUID, RevisionStanding]:
    """How these revisions stand at this moment, by one statement."""
    rows = await session.execute(_STANDINGS, {"revision_ids": list(revision_ids)})
    return {
        row.id: RevisionStanding(
            standing=_standing(row.id, row.current_id, governed_once=row.governed_once),
            current_id=row.current_id,
            aliases=tuple(row.aliases),
        )
        for row in rows
    }


def _standing(revision_id: UUID, current_id: UUID | None, *, governed_once: bool) -> Standing:
    if current_id is None or current_id == revision_id:
        return Standing.CURRENT
    return Standing.SUPERSEDED if governed_once else Standing.CANDIDATE
