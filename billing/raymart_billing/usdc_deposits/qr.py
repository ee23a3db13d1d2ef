"""A Solana Pay URL as a QR code: for pages as SVG, for terminals as text."""

import io

import segno

BORDER_MODULES = 4
"""The quiet zone that readers need. Source: ISO/IEC 18004, 6.3.8."""


def as_svg(url: str) -> str:
    """`url` as an SVG of its own size, black on white, without a script, a style or a link in it."""
    out = io.BytesIO()
    _code(url).save(
        out,
        kind="svg",
        scale=4,
        border=BORDER_MODULES,
        light="white",
        xmldecl=False,
        nl=False,
        svgclass=None,
        lineclass=None,
    )
    return out.getvalue().decode()


def as_text(url: str) -> str:
    """`url` as lines of block characters for a dark or light terminal: two modules a character."""
    out = io.StringIO()
    _code(url).terminal(out, border=BORDER_MODULES, compact=True)
    return out.getvalue()


def _code(url: str) -> segno.QRCode:
    # Medium: a third of what a screen's glare may take of a code this long would make it twice as large.
    return segno.make_qr(url, error="m", boost_error=False)
