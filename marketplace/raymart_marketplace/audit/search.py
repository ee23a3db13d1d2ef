"""Finding entries, and showing them as people and programs read them: for listings, downloads and exports."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, show
from raymart_marketplace.audit.models import ActorKind, AuditEntry, AuditOrigin, AuditOutcome
from raymart_marketplace.db.session import Sessions, session_scope

ROWS_PER_READ = 1_000
"""Entries of an export that are in memory at one time."""
EXPORT_COLUMNS = (
    "sequence", "at", "action", "outcome", "actor_kind", "actor", "acting_organization", "organization", "subject",
    "request", "session", "address", "user_agent", "detail",
)  # fmt: skip
_PREFIX_OF_ACTOR: Mapping[ActorKind, Prefix] = {
    ActorKind.USER: Prefix.USER,
    ActorKind.API_KEY: Prefix.API_KEY,
    ActorKind.NODE: Prefix.NODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries; what is None does not narrow them."""

    organization_id: UUID | None = None
    """Whose things were changed."""
    action: str | None = None
    actor_id: UUID | None = None
    actor_name: str | None = None
    """Of an operator or a part of the marketplace."""
    mention: UUID | None = None
    """Something that the act named or changed."""
    since: datetime | None = None
    until: datetime | None = None
    """Before this moment."""
    outcome: AuditOutcome | None = None

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """For a statement on `AuditEntry`."""
        found: list[ColumnElement[bool]] = []
        for value, column in (
            (self.organization_id, AuditEntry.organization_id),
            (self.action, AuditEntry.action),
            (self.actor_id, AuditEntry.actor_id),
            (self.actor_name, AuditEntry.actor_name),
            (self.outcome, AuditEntry.outcome),
        ):
            if value is not None:
                found.append(column == value)
        if self.mention is not None:
            found.append(AuditEntry.mentions.contains([self.mention]))
        if self.since is not None:
            found.append(AuditEntry.created_at >= self.since)
        if self.until is not None:
            found.append(AuditEntry.created_at < self.until)
        return tuple(found)


Found = tuple[AuditEntry, AuditOrigin | None]
"""An entry and where it came from; None when that was not known or is forgotten."""


async def newest(session: AsyncSession, wanted: AuditFilter, *, limit: int) -> Sequence[Found]:
    """The newest entries, newest first."""
    rows = await session.execute(_statement(wanted).order_by(AuditEntry.id.desc()).limit(limit))
    return [(entry, origin) for entry, origin in rows]


async def every(sessions: Sessions, wanted: AuditFilter) -> AsyncIterator[Found]:
    """All entries, oldest first, however many: read in pieces, each in a transaction of its own.

    What is appended meanwhile is read as well; a transaction that is open for longer than a piece takes may be missed.
    """
    after = 0
    while True:
        async with session_scope(sessions) as session:
            statement = _statement(wanted).where(AuditEntry.id > after).order_by(AuditEntry.id)
            rows = (await session.execute(statement.limit(ROWS_PER_READ))).all()
        for entry, origin in rows:
            yield entry, origin
            after = entry.id
        if len(rows) < ROWS_PER_READ:
            return


def exported(found: Found, *, shows_staff: bool) -> dict[str, object]:
    """An entry under `EXPORT_COLUMNS`. Without `shows_staff` it keeps back where others than its own people acted from."""
    entry, origin = found
    seen = origin if shows_staff or is_of_its_own(entry) else None
    return {
        "sequence": entry.id,
        "at": entry.created_at.isoformat(),
        "action": entry.action,
        "outcome": entry.outcome.value,
        "actor_kind": entry.actor_kind.value,
        "actor": actor_of(entry),
        "acting_organization": _shown(Prefix.ORGANIZATION, entry.acting_organization_id),
        "organization": _shown(Prefix.ORGANIZATION, entry.organization_id),
        "subject": subject_of(entry),
        "request": _shown(Prefix.REQUEST, entry.request_id),
        "session": None if entry.session_id is None else str(entry.session_id),
        "address": seen.address if seen else None,
        "user_agent": seen.user_agent if seen else None,
        "detail": entry.detail,
    }


def is_of_its_own(entry: AuditEntry) -> bool:
    """Whether the actor acted for the organization whose things were changed."""
    return entry.organization_id is not None and entry.acting_organization_id == entry.organization_id


def actor_of(entry: AuditEntry) -> str | None:
    """The actor's id as people see it, or its name; None of nobody."""
    if entry.actor_id is None:
        return entry.actor_name
    prefix = _PREFIX_OF_ACTOR.get(entry.actor_kind)
    return str(entry.actor_id) if prefix is None else show(prefix, entry.actor_id)


def subject_of(entry: AuditEntry) -> str | None:
    """The subject's id as people see it."""
    if entry.subject_kind is None or entry.subject_id is None:
        return None
    return show(Prefix(entry.subject_kind), entry.subject_id)


def _shown(prefix: Prefix, value: UUID | None) -> str | None:
    return None if value is None else show(prefix, value)


def _statement(wanted: AuditFilter) -> Select[AuditEntry, AuditOrigin | None]:
    return (
        select(AuditEntry, AuditOrigin)
        .outerjoin(AuditOrigin, AuditOrigin.entry_id == AuditEntry.id)
        .where(*wanted.conditions())
    )
