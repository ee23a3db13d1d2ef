"""For how long answers are given again where a request does not say: a project's wish, and a key's own before it."""

from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest
from raymart_marketplace.accounts.models import Project

ANSWER_CACHE_S_MAX = 86_400
"""How long answers may be given again."""


def checked_answer_cache_s(seconds: int, *, param: str) -> int:
    """`seconds`, 0 for not at all. Raises: InvalidRequest unless it is 0 to a day."""
    if not 0 <= seconds <= ANSWER_CACHE_S_MAX:
        raise InvalidRequest(
            f"answers are cached for 0 to {ANSWER_CACHE_S_MAX} s, not {seconds}", param=param
        )
    return seconds


async def set_project_answer_cache(session: AsyncSession, *, project_id: UUID, seconds: int) -> None:
    """Let it hold for all of the project's keys that wish nothing of their own; after the commit, tell `Forgetting.project`.

    Raises: InvalidRequest.
    """
    checked = checked_answer_cache_s(seconds, param="seconds")
    await session.execute(update(Project).where(Project.id == project_id).values(answer_cache_s=checked))
