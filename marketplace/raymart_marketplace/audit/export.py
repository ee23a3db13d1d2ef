"""The audit log as a file, a line at a time: CSV for spreadsheets, JSON Lines for programs."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable
from enum import StrEnum

from raymart_marketplace.audit.search import EXPORT_COLUMNS, AuditFilter, every, exported
from raymart_marketplace.db.session import Sessions


class ExportFormat(StrEnum):
    """How the file is written."""

    CSV = "csv"
    JSONL = "jsonl"


MEDIA_TYPE = {
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.JSONL: "application/x-ndjson; charset=utf-8",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by spreadsheets; a user agent may be anything."""


async def export_lines(
    sessions: Sessions, wanted: AuditFilter, *, format_: ExportFormat, shows_staff: bool
) -> AsyncIterator[str]:
    """The file, oldest entry first, line by line; memory does not grow with it."""
    if format_ is ExportFormat.CSV:
        yield _csv_line(EXPORT_COLUMNS)
    async for found in every(sessions, wanted):
        row = exported(found, shows_staff=shows_staff)
        if format_ is ExportFormat.JSONL:
            yield json.dumps(row, ensure_ascii=False) + "\n"
        else:
            yield _csv_line(_cell(row[name]) for name in EXPORT_COLUMNS)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
