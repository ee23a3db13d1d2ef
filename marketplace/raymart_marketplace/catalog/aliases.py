"""Aliases: names that move between a model's revisions, and back. Takes a session, flushes, never commits.

One of a name for each number format: publishing a q8_0 revision leaves the f16 one that is `latest` as it is.
A trigger writes each change into `model_alias_change`, and refuses an alias of what is not served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import Conflict, InvalidRequest, NotFound
from raymart_marketplace.catalog.models import SERVED, ModelRevision, RevisionState
from raymart_marketplace.catalog.naming import LATEST
from raymart_marketplace.catalog.reference import ALIAS
from raymart_marketplace.catalog.registry_models import AliasChangeKind, ModelAlias, ModelAliasChange
from raymart_marketplace.catalog.revisions import lock_model, publish

HISTORY_MAX = 1_000
"""Changes of one alias that a rollback looks back at."""
REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """An alias before and after a change."""

    model_id: UUID
    name: str
    quantization: str
    before_id: UUID | None
    """The revision it named; None for a new alias."""
    after: ModelRevision
    """The revision it names now."""

    @property
    def is_change(self) -> bool:
        """Whether it names another revision than before."""
        return self.before_id != self.after.id


class _Pointed(NamedTuple):
    """Columns of an alias that a change sets."""

    change: AliasChangeKind
    revision_id: UUID
    changed_by: UUID | None
    reason: str


async def publish_as_latest(
    session: AsyncSession, *, revision_id: UUID, actor_id: UUID | None = None, reason: str = ""
) -> AliasMove:
    """Publish a revision and point `latest` at it. Raises: NotFound, Conflict for what was withdrawn."""
    revision = await publish(session, revision_id=revision_id)
    return await point_alias(
        session,
        model_id=revision.model_id,
        name=LATEST,
        revision_id=revision_id,
        actor_id=actor_id,
        reason=reason,
    )


async def point_alias(
    session: AsyncSession,
    *,
    model_id: UUID,
    name: str,
    revision_id: UUID,
    actor_id: UUID | None = None,
    reason: str = "",
) -> AliasMove:
    """Let the alias name a revision of the model that is served. A repeat changes nothing, and is not written down.

    Raises: InvalidRequest, NotFound for another model's revision, Conflict for one that is not served.
    """
    _check(name, reason)
    await lock_model(session, model_id)
    pointed = _Pointed(AliasChangeKind.SET, revision_id, actor_id, reason)
    return await _move(session, model_id, name, pointed)


async def roll_back(
    session: AsyncSession,
    *,
    model_id: UUID,
    name: str = LATEST,
    quantization: str | None = None,
    actor_id: UUID | None = None,
    reason: str = "",
) -> Sequence[AliasMove]:
    """Let the alias name again what it named before, of one number format or of each; in one step, whoever looks.

    Repeated, it goes further back. What was withdrawn meanwhile is passed over; what was deprecated is published again,
    so that it can be placed. The revision that is left stays published: withdraw it when it must never run again.
    Formats with nothing to go back to stay. Raises: InvalidRequest, NotFound for an alias that is not there, Conflict
    when no format has anything to go back to.
    """
    _check(name, reason)
    await lock_model(session, model_id)
    there = [
        alias.quantization
        for alias in await aliases(session, model_id)
        if alias.name == name and quantization in {None, alias.quantization}
    ]
    if not there:
        raise NotFound(f"the model has no alias {name!r}{_of_format(quantization)}", param="alias")
    moves = []
    for each in there:
        target = await _target(session, model_id, name, each)
        if target is not None:
            pointed = _Pointed(AliasChangeKind.ROLLBACK, target, actor_id, reason)
            moves.append(await _move(session, model_id, name, pointed))
    if not moves:
        raise Conflict(
            f"{name!r}{_of_format(quantization)} has nothing to go back to: what it named before was withdrawn, or it named"
            " nothing else"
        )
    return moves


async def remove_alias(
    session: AsyncSession, *, model_id: UUID, name: str, quantization: str | None = None
) -> None:
    """Let the name name nothing, for one number format or for all; its history stays. Raises: NotFound."""
    await lock_model(session, model_id)
    gone = delete(ModelAlias).where(ModelAlias.model_id == model_id, ModelAlias.name == name)
    if quantization is not None:
        gone = gone.where(ModelAlias.quantization == quantization)
    removed = await session.scalars(
        gone.returning(ModelAlias.name).execution_options(synchronize_session=False)
    )
    if not removed.all():
        raise NotFound(f"the model has no alias {name[:80]!r}{_of_format(quantization)}", param="alias")


async def aliases(session: AsyncSession, model_id: UUID) -> Sequence[ModelAlias]:
    """The model's aliases, by name and number format."""
    found = (
        select(ModelAlias)
        .where(ModelAlias.model_id == model_id)
        .order_by(ModelAlias.name, ModelAlias.quantization)
    )
    return (await session.scalars(found.execution_options(populate_existing=True))).all()


async def alias_history(
    session: AsyncSession, *, model_id: UUID, name: str | None = None, quantization: str | None = None
) -> Sequence[ModelAliasChange]:
    """The last `HISTORY_MAX` changes of an alias, or of all of the model's, newest first."""
    statement = select(ModelAliasChange).where(ModelAliasChange.model_id == model_id)
    if name is not None:
        statement = statement.where(ModelAliasChange.name == name)
    if quantization is not None:
        statement = statement.where(ModelAliasChange.quantization == quantization)
    return (await session.scalars(statement.order_by(ModelAliasChange.id.desc()).limit(HISTORY_MAX))).all()


def targets_before(changes: Sequence[ModelAliasChange]) -> tuple[UUID, ...]:
    """What an alias can go back to, nearest first, by its changes, oldest first.

    Who points it somewhere puts that on top of a pile, and a rollback takes from the pile down to what it names: so two
    rollbacks in a row go two steps back instead of forth again. A removed alias begins anew.
    """
    pile: list[UUID] = []
    for change in changes:
        if change.after_id is None:
            pile.clear()
        elif change.change is AliasChangeKind.ROLLBACK and change.after_id in pile:
            del pile[len(pile) - pile[::-1].index(change.after_id) :]
        else:
            pile.append(change.after_id)
    current = pile[-1] if pile else None
    return tuple(dict.fromkeys(each for each in reversed(pile[:-1]) if each != current))


async def _target(session: AsyncSession, model_id: UUID, name: str, quantization: str) -> UUID | None:
    """The nearest revision to go back to that can be served, published; None when there is none."""
    changes = await alias_history(session, model_id=model_id, name=name, quantization=quantization)
    earlier = targets_before(changes[::-1])
    rows = await session.execute(
        select(ModelRevision.id, ModelRevision.state).where(ModelRevision.id.in_(earlier))
    )
    states = {row.id: row.state for row in rows}
    target = next((each for each in earlier if states[each] in SERVED), None)
    if target is not None and states[target] is RevisionState.DEPRECATED:
        await publish(session, revision_id=target)
    return target


async def _move(session: AsyncSession, model_id: UUID, name: str, pointed: _Pointed) -> AliasMove:
    revision = await session.scalar(
        select(ModelRevision)
        .where(ModelRevision.id == pointed.revision_id, ModelRevision.model_id == model_id)
        .execution_options(populate_existing=True)
    )
    if revision is None:
        raise NotFound("the model has no such revision", param="revision_id")
    if revision.state not in SERVED:
        raise Conflict(f"{revision.digest} is {revision.state.value}; publish it first")
    before_id = await session.scalar(
        select(ModelAlias.revision_id).where(
            ModelAlias.model_id == model_id,
            ModelAlias.name == name,
            ModelAlias.quantization == revision.quantization,
        )
    )
    if before_id != revision.id:
        values = pointed._asdict()
        made = insert(ModelAlias).values(
            model_id=model_id, name=name, quantization=revision.quantization, **values
        )
        await session.execute(
            made.on_conflict_do_update(
                index_elements=[ModelAlias.model_id, ModelAlias.name, ModelAlias.quantization],
                set_={column: made.excluded[column] for column in (*values, "changed_at")},
            )
        )
    return AliasMove(
        model_id=model_id,
        name=name,
        quantization=revision.quantization,
        before_id=before_id,
        after=revision,
    )


def _of_format(quantization: str | None) -> str:
    return "" if quantization is None else f" of {quantization[:40]!r}"


def _check(name: str, reason: str) -> None:
    """Raises: InvalidRequest."""
    if ALIAS.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name[:80]!r} is no alias: a small letter, then up to 39 of a-z, 0-9 and -", param="alias"
        )
    if len(reason) > REASON_CHARACTERS_MAX or "\0" in reason:
        raise InvalidRequest(
            f"a reason has up to {REASON_CHARACTERS_MAX} characters, not {len(reason)}", param="reason"
        )
