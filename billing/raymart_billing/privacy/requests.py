"""Exports that an organization's own people ask for: asked for by a row, written by a worker, deleted a week later.

The API and the workers share the folder `exports/` of the data folder. Takes a session, flushes, never commits.
"""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.privacy.models import ExportState, PrivacyExport
from raymart_billing.work import outbox
from raymart_core.errors import Conflict
from raymart_core.ids import new_id
from raymart_marketplace.db.tenancy import unconfined

EXPORT_TASK = "privacy.export"
EXPORT_KEPT = timedelta(days=7)
"""So long a file can be downloaded, unless a newer one takes its place."""


async def request_export(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> PrivacyExport:
    """Ask a worker to write all that is the organization's to a file. Raises: Conflict while one is being written."""
    made: PrivacyExport | None = await session.scalar(
        insert(PrivacyExport)
        .values(
            id=new_id(),
            organization_id=organization_id,
            requested_by=user_id,
            state=ExportState.REQUESTED,
        )
        .on_conflict_do_nothing()
        .returning(PrivacyExport)
    )
    if made is None:
        raise Conflict(
            "an export of this organization is being written; wait until it is ready in `organization.exports`",
            param="organization_id",
        )
    async with unconfined(session):
        await outbox.enqueue(session, task=EXPORT_TASK, subject=str(made.id), key=str(made.id))
    return made


async def find_export(session: AsyncSession, export_id: UUID) -> PrivacyExport | None:
    """The row, whoever asks; the caller says who may."""
    return await session.scalar(select(PrivacyExport).where(PrivacyExport.id == export_id))


def export_path(folder: Path, export_id: UUID) -> Path:
    """Where the file of an export lies."""
    return folder / f"{export_id.hex}.zip"
