"""What a key may do, as its maker asks for it: checked, and put into the form that is stored."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.catalog.models import Model

MODELS_MAX = 100
"""Slugs that a key may be limited to."""


def stored_scopes(scopes: Collection[KeyScope]) -> list[str]:
    """`scopes` as they are stored. Raises: InvalidRequest when there are none."""
    if not scopes:
        raise InvalidRequest(
            f"a key without any scope is of no use; give some of {', '.join(KeyScope)}", param="scopes"
        )
    return sorted({scope.value for scope in scopes})


async def stored_models(session: AsyncSession, slugs: Collection[str] | None) -> list[str] | None:
    """`slugs` as they are stored; None for all models. Raises: InvalidRequest for none, too many, or an unknown one."""
    if slugs is None:
        return None
    wanted = sorted(set(slugs))
    if not 0 < len(wanted) <= MODELS_MAX:
        raise InvalidRequest(
            f"{len(wanted)} models; give 1 to {MODELS_MAX}, or leave `models` out to allow all",
            param="models",
        )
    known = set(await session.scalars(select(Model.slug).where(Model.slug.in_(wanted))))
    unknown = [slug for slug in wanted if slug not in known]
    if unknown:
        raise InvalidRequest(
            f"there is no model {unknown[0][:100]!r}; GET /v1/models lists those that there are",
            param="models",
        )
    return wanted
