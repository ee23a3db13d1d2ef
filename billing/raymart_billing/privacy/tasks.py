"""Writes the exports that were asked for and deletes their files when their time is over; erases organizations."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import Text, cast, exists, func, select, update

from raymart_billing.privacy.erasing import ErasureWaits, erase, note_obstacles
from raymart_billing.privacy.export import export_organization
from raymart_billing.privacy.models import ExportState, OrganizationErasure, PrivacyExport
from raymart_billing.privacy.requests import EXPORT_KEPT, EXPORT_TASK, export_path, find_export
from raymart_billing.work import Context, GiveUp, Periodic, Task, TaskContext, outbox
from raymart_billing.work.models import OutboxItem, WorkState
from raymart_marketplace.accounts.forgetting import Forgotten, tell
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.gateway.response_cache.store import forget_answers
from raymart_marketplace.shared_state import REDIS_AWAY

log = structlog.get_logger(__name__)

EXPORT_TIMEOUT_S = 300.0
ERASE_TASK = "privacy.erase"
ERASE_TIMEOUT_S = 300.0
PART = ".part"
"""Ending of a file that is not whole yet."""


async def write_export(context: TaskContext, subject: str) -> None:
    """Write the file beside its place, put it there whole, and say so in the transaction of "done".

    A repeat writes it anew. Raises: GiveUp without a data folder.
    """
    folder = context.settings.exports_dir
    if folder is None:
        raise GiveUp("there is no RAYMART_DATA_DIR to write exports to; use `raymart privacy export`")
    export_id = UUID(subject)
    async with session_scope(context.sessions) as session:
        row = await find_export(session, export_id)
    if row is None or row.state is not ExportState.REQUESTED:
        return
    path = export_path(folder, export_id)
    part = path.with_suffix(f".{context.fence}{PART}")
    await asyncio.to_thread(_make_room, part)
    await export_organization(context.sessions, row.organization_id, part)
    size = await asyncio.to_thread(_put, part, path)
    async with context.finishing() as session:
        # Taken for good by the periodic meanwhile: then the file goes with the next sweep of it.
        is_ours = await session.scalar(
            update(PrivacyExport)
            .where(PrivacyExport.id == export_id, PrivacyExport.state == ExportState.REQUESTED)
            .values(state=ExportState.READY, bytes=size, expires_at=func.clock_timestamp() + EXPORT_KEPT)
            .returning(PrivacyExport.id)
        )
        if is_ours is not None:
            await session.execute(
                update(PrivacyExport)
                .where(
                    PrivacyExport.organization_id == row.organization_id,
                    PrivacyExport.id != export_id,
                    PrivacyExport.state == ExportState.READY,
                )
                .values(state=ExportState.EXPIRED)
            )
    log.info("privacy.exported", export_id=str(export_id), bytes=size)


async def expire_exports(context: Context) -> None:
    """Mark what is over, and delete every file that nobody can download any more."""
    await _mark(context.sessions)
    folder = context.settings.exports_dir
    if folder is None:
        return
    names = await asyncio.to_thread(_names, folder)
    if not names:
        return
    ids = {name: _id_of(name) for name in names}
    async with session_scope(context.sessions) as session:
        kept = set(
            await session.scalars(
                select(PrivacyExport.id).where(
                    PrivacyExport.id.in_([found for found in ids.values() if found is not None]),
                    PrivacyExport.state.in_([ExportState.REQUESTED, ExportState.READY]),
                )
            )
        )
    over = [folder / name for name, found in ids.items() if found is not None and found not in kept]
    await asyncio.to_thread(_delete, over)
    if over:
        log.info("privacy.exports_deleted", files=len(over))


async def erase_organization(context: TaskContext, subject: str) -> None:
    """Erase, and mark the row done in the same transaction; what is in the way is tried again tomorrow."""
    erasure_id = UUID(subject)
    try:
        async with context.finishing() as session:
            erased = await erase(session, erasure_id)
    except ErasureWaits as waits:
        async with session_scope(context.sessions) as session:
            await note_obstacles(session, erasure_id, waits)
        log.warning("privacy.erasure_waits", erasure_id=subject)
        return
    if erased is None:
        return
    # What is missed here ends by itself within a day.
    with contextlib.suppress(*REDIS_AWAY):
        await forget_answers(context.redis, erased.organization_id)
    # Processes that do not hear it look credentials up again within seconds.
    for user_id in erased.users:
        await tell(context.redis, Forgotten.USER, user_id)
    for key_id in erased.keys:
        await tell(context.redis, Forgotten.KEY, key_id)
    log.warning("privacy.erased", erasure_id=subject, people=len(erased.users), keys=len(erased.keys))


async def enqueue_due_erasures(context: Context) -> None:
    """Ask for every erasure whose cool-down is over, once a day until it is done."""
    async with session_scope(context.sessions) as session:
        today = await session.scalar(select(func.current_date()))
        due = await session.scalars(
            select(OrganizationErasure.id).where(
                OrganizationErasure.cancelled_at.is_(None),
                OrganizationErasure.erased_at.is_(None),
                OrganizationErasure.due_at <= func.clock_timestamp(),
            )
        )
        for erasure_id in due.all():
            await outbox.enqueue(
                session, task=ERASE_TASK, subject=str(erasure_id), key=f"{erasure_id}:{today}"
            )


async def _mark(sessions: Sessions) -> None:
    async with session_scope(sessions) as session:
        await session.execute(
            update(PrivacyExport)
            .where(
                PrivacyExport.state == ExportState.READY, PrivacyExport.expires_at < func.clock_timestamp()
            )
            .values(state=ExportState.EXPIRED)
        )
        # Its row of work is dead, cancelled or forgotten: nobody writes it any more, and another may be asked for.
        at_work = exists().where(
            OutboxItem.task == EXPORT_TASK,
            OutboxItem.key == cast(PrivacyExport.id, Text),
            OutboxItem.state.in_([WorkState.READY, WorkState.RUNNING]),
        )
        await session.execute(
            update(PrivacyExport)
            .where(PrivacyExport.state == ExportState.REQUESTED, ~at_work)
            .values(state=ExportState.FAILED)
        )


def _make_room(part: Path) -> None:
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in part.parent.glob(f"{part.name.partition('.')[0]}.*{PART}"):
        left.unlink(missing_ok=True)


def _put(part: Path, path: Path) -> int:
    size = part.stat().st_size
    part.replace(path)
    return size


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _id_of(name: str) -> UUID | None:
    """The export whose file this is; None for a file that is none of ours."""
    try:
        return UUID(hex=name.partition(".")[0])
    except ValueError:
        return None


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


TASKS: Sequence[Task] = (
    Task(name=EXPORT_TASK, handle=write_export, timeout_s=EXPORT_TIMEOUT_S, attempts_max=5),
    Task(name=ERASE_TASK, handle=erase_organization, timeout_s=ERASE_TIMEOUT_S),
)
PERIODICS: Sequence[Periodic] = (
    Periodic(name="privacy.expire_exports", handle=expire_exports, every_s=60.0),
    Periodic(name="privacy.erase_due", handle=enqueue_due_erasures, every_s=600.0),
)
