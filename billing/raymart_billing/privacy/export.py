"""An organization's rows as a zip of JSON Lines, one file a table, without secrets.

Read in one transaction, so that the files fit each other, and streamed: a table of any length takes little memory.
"""

# ruff: noqa: S608 - statements are put together from names of our own; what is given are parameters.
import asyncio
import json
import os
import zipfile
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.privacy.columns import COLUMNS, columns_shown
from raymart_core.errors import NotFound
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.db.session import Sessions

_OWN = "organization_id = :id"
_PROVIDERS = f"(select id from provider where {_OWN})"
_ACCOUNTS = f"(select id from ledger_account where owner_id = :id or owner_id in {_PROVIDERS})"


def _beneath(key: str, table: str) -> str:
    """Rows whose `key` names a row of the organization's in `table`."""
    return f"{key} in (select id from {table} where {_OWN})"


_DIRECT = (
    "alert", "alert_threshold", "artifact", "audit_entry", "balance_adjustment", "billing_block", "billing_block_change",
    "billing_profile", "budget", "credit_checkpoint", "credit_grant", "credit_note", "deposit", "dispute", "invitation",
    "invoice", "membership", "model", "organization_erasure", "payout_wallet", "privacy_export", "project", "provider", "rate_limit", "refund", "request", "retained_exchange", "self_billing_invoice", "service_account", "support_access", "usage_day",
    "usage_hour", "usage_record", "usdc_deposit", "usdc_top_up", "wallet_proof",
)  # fmt: skip
ROWS: Mapping[str, str] = {
    **dict.fromkeys(_DIRECT, _OWN),
    "organization": "id = :id",
    "user": f"id in (select user_id from membership where {_OWN})",
    "api_key": _beneath("project_id", "project"),
    "attempt": _beneath("request_id", "request"),
    "budget_period": _beneath("budget_id", "budget"),
    "credit_note_line": _beneath("credit_note_id", "credit_note"),
    "deposit_refund": _beneath("deposit_id", "deposit"),
    "usdc_refund": _beneath("deposit_id", "usdc_deposit"),
    "invoice_line": _beneath("invoice_id", "invoice"),
    "ledger_account": f"id in {_ACCOUNTS}",
    "transfer": f"debit_account_id in {_ACCOUNTS} or credit_account_id in {_ACCOUNTS}",
    **dict.fromkeys(("model_alias", "model_alias_change", "model_revision"), _beneath("model_id", "model")),
    "model_share": f"owner_id = :id or {_OWN}",
    **dict.fromkeys(
        ("earning", "node", "offer", "payout_item", "pool", "provider_contact", "provider_event"),
        f"provider_id in {_PROVIDERS}",
    ),
    **dict.fromkeys(
        ("offer_ask", "placement_rejection"),
        f"offer_id in (select id from offer where provider_id in {_PROVIDERS})",
    ),
    "offer_window": f"offer_id in (select id from offer where provider_id in {_PROVIDERS})",
    **dict.fromkeys(
        ("benchmark", "gpu", "maintenance_window", "node_event", "node_telemetry", "placement"),
        f"node_id in (select id from node where provider_id in {_PROVIDERS})",
    ),
}
"""Which rows of a table are the organization's, as SQL over `:id`."""
WITHHELD = frozenset({"usage_flag", "suspension", "usage_day_part", "credit_lease"})
"""Tables with an organization in them that are not exported: the platform's own reviews, and two that only repeat
others for the machinery."""


async def export_organization(sessions: Sessions, organization_id: UUID, path: Path) -> Mapping[str, int]:
    """Write the organization's rows to the new file `path`, for its owner's eyes; returns how many of each table.

    Raises: NotFound, FileExistsError. What was written is removed when it cannot be finished.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            async with sessions() as session, session.begin():
                await session.execute(text("set transaction isolation level repeatable read, read only"))
                return await _write(session, organization_id, archive)
    except BaseException:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise


async def _write(session: AsyncSession, organization_id: UUID, archive: zipfile.ZipFile) -> Mapping[str, int]:
    if await session.get(Organization, organization_id) is None:
        raise NotFound(f"there is no organization {show(Prefix.ORGANIZATION, organization_id)!r}")
    counts = {}
    for table in sorted(ROWS):
        with archive.open(f"{table}.jsonl", "w", force_zip64=True) as file:
            counts[table] = 0
            rows = await session.stream_scalars(text(_statement(table)), {"id": organization_id})
            async for line in rows:
                file.write(line.encode() + b"\n")
                counts[table] += 1
    moment = await session.scalar(select(func.now()))
    assert moment is not None
    about = {
        "organization": show(Prefix.ORGANIZATION, organization_id),
        "at": moment.astimezone(UTC).isoformat(),
        "rows": counts,
        "columns": {
            table: {name: COLUMNS[table][name] for name in columns_shown(table)} for table in sorted(ROWS)
        },
    }
    archive.writestr("about.json", json.dumps(about, indent=1))
    return counts


def _statement(table: str) -> str:
    """Each row as one line of JSON, named columns only: what is added later is not shown by accident."""
    names = ", ".join(f'"{name}"' for name in columns_shown(table))
    return f'select row_to_json(shown)::text from (select {names} from "{table}" where {ROWS[table]}) shown'
