"""Documents as PDF and PNG. A pure function of what is shown: the same sheet gives the same bytes.

The template is ours and fixed; what customers wrote reaches it as data in one JSON string, which Typst shows and never
reads as markup. Fonts are those inside the wheel and, where an operator has some, those of one folder; never the
machine's, so that a document looks the same everywhere.
"""

import json
from dataclasses import asdict
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from raymart_billing.invoices.sheet import Sheet

if (
    TYPE_CHECKING
):  # Imported where it is used: 7 MB that a process needs which makes documents, and most never do.
    import typst

PICTURE_PPI = 110.0
_TEMPLATES = files("raymart_billing.invoices") / "templates"


def render_pdf(sheet: Sheet, *, fonts_dir: Path | None = None) -> bytes:
    """`sheet` as one PDF. Blocks for about 30 ms a page; call it in a thread."""
    pdf = _compiler(fonts_dir, sheet).compile(format="pdf", timestamp=_seconds(sheet.dated))
    assert isinstance(pdf, bytes)
    return pdf


def render_pictures(sheet: Sheet, *, fonts_dir: Path | None = None) -> list[bytes]:
    """The pages of `sheet` as PNG, to be looked at."""
    pages = _compiler(fonts_dir, sheet).compile(format="png", ppi=PICTURE_PPI)
    assert pages is not None
    return [pages] if isinstance(pages, bytes) else pages


def _compiler(fonts_dir: Path | None, sheet: Sheet) -> "typst.Compiler":
    import typst  # noqa: PLC0415 - see above

    document = json.dumps(asdict(sheet), ensure_ascii=False, sort_keys=True, default=str)
    return typst.Compiler(
        _template(), font_paths=_fonts(fonts_dir), sys_inputs={"document": document}, root=str(_TEMPLATES)
    )


@cache
def _template() -> bytes:
    return (_TEMPLATES / "document.typ").read_bytes()


@cache
def _fonts(fonts_dir: Path | None) -> "typst.Fonts":
    import typst  # noqa: PLC0415 - see above

    return typst.Fonts(include_system_fonts=False, font_paths=[str(fonts_dir)] if fonts_dir else [])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
